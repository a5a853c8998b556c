package dashboard_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// chromium is the browser of all tests of this package.
var chromium struct {
	sync.Once
	ctx    context.Context
	missed string // why there is none
	end    func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.end != nil {
		chromium.end()
	}
	os.Exit(code)
}

// find returns where Chromium is, "" if it is not.
func find() string {
	for _, name := range []string{os.Getenv("TALLYMAN_TEST_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	return ""
}

func startChromium() {
	path := find()
	if path == "" {
		chromium.missed = "there is no Chromium: tools/chromium.sh installs it, as root; TALLYMAN_TEST_CHROMIUM says where it is"
		return
	}
	profile, err := os.MkdirTemp("", "tallyman-chromium-")
	if err != nil {
		chromium.missed = err.Error()
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-dev-shm-usage", true),
	)
	allocated, release := chromedp.NewExecAllocator(context.Background(), options...)
	browser, cancel := chromedp.NewContext(allocated)
	if err := chromedp.Do(browser); err != nil {
		chromium.missed = fmt.Sprintf("%s does not start: %v", path, err)
	}
	chromium.ctx = browser //nolint:fatcontext // of the one browser of all tests; nothing is put into another
	chromium.end = func() {
		cancel()
		release()
		_ = os.RemoveAll(profile) // of no use to anybody
	}
}

// tab is a page in the browser, and what it complained of.
type tab struct {
	*testing.T
	ctx  context.Context
	base string

	mu     sync.Mutex
	errors []string
	bytes  int64 // received, as sent
}

// watched counts what moved without being asked to. The browser runs it before anything of the page.
const watched = `
	window.shifts = 0;
	window.shifted = [];
	new PerformanceObserver((list) => {
		for (const e of list.getEntries()) {
			if (e.hadRecentInput) continue;
			window.shifts += e.value;
			for (const s of e.sources) window.shifted.push((s.node?.outerHTML || s.node?.textContent || '').slice(0, 80));
		}
	}).observe({ type: 'layout-shift', buffered: true });
	window.longest = 0;
	new PerformanceObserver((list) => {
		for (const e of list.getEntries()) window.longest = Math.max(window.longest, e.duration);
	}).observe({ type: 'longtask', buffered: true });
`

// look opens a tab on a coordinator. Where there is no Chromium the test is skipped, which is said where it is run.
func look(s *site) *tab {
	s.Helper()
	chromium.Do(startChromium)
	if chromium.missed != "" {
		fmt.Fprintf(os.Stderr, "\n*** THE DASHBOARD IS NOT TESTED: %s\n\n", chromium.missed)
		s.Skip(chromium.missed)
	}
	t := &tab{T: s.T, base: s.base}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(t.hear))
	s.Cleanup(cancel)
	ctx, stop := context.WithTimeout(ctx, 5*patient)
	s.Cleanup(stop)
	t.ctx = ctx
	t.run(
		call(network.Enable, network.EnableParams{}), call(log.Enable, cdp.Empty{}), call(runtime.Enable, cdp.Empty{}),
		call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watched}),
	)
	t.size(1280, 800)
	return t
}

func (t *tab) hear(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		t.errors = append(t.errors, fmt.Sprintf("%s at %s:%d", e.ExceptionDetails.Text, e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			for _, arg := range e.Args {
				t.errors = append(t.errors, cmp.Or(arg.Description, string(arg.Value)))
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			t.errors = append(t.errors, e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventDataReceived:
		t.bytes += e.EncodedDataLength
	}
}

// received returns how many bytes of answers have come.
func (t *tab) received() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// call is a command of the browser's protocol.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, command, params)
		return err
	})
}

func (t *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(t.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func (t *tab) size(width, height int64) {
	t.Helper()
	t.run(call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600,
	}))
}

// open goes to a page and waits until it is there.
func (t *tab) open(path string) {
	t.Helper()
	t.run(chromedp.Navigate(t.base + path))
	t.until(`document.documentElement.dataset.ready === 'true'`)
}

// until waits until an expression holds, looking again whenever the page has had time to change.
func (t *tab) until(expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patient)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`new Promise((done) => {
		const look = () => { try { if (`+expression+`) return done(true); } catch {} setTimeout(look, 30); };
		look();
	})`, chromedp.EvalAwaitPromise))
	if err != nil {
		text, _ := chromedp.Run(t.ctx, chromedp.Evaluate[string](`document.body.innerText`)) // the first error counts
		t.Fatalf("%s does not come true: %v; the page says:\n%s\nand complained of %q", expression, err, text, t.errors)
	}
}

// value returns what an expression is.
func value[V any](t *tab, expression string) V {
	t.Helper()
	v, err := chromedp.Run(t.ctx, chromedp.Evaluate[V](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// press clicks with the mouse on the one element that a selector finds whose label, or text, begins so.
func (t *tab) press(selector, text string) {
	t.Helper()
	found := fmt.Sprintf(`[...document.querySelectorAll(%q)].find((e) => (e.getAttribute('aria-label') || e.textContent).trim().startsWith(%q) && !e.disabled)`, selector, text)
	t.until(found)
	at := value[[]float64](t, `(() => {
		const e = `+found+`;
		e.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: 'instant' });
		const r = e.getClientRects()[0];
		return [r.x + Math.min(r.width / 2, 40), r.y + r.height / 2];
	})()`)
	t.run(chromedp.MouseClickXY(at[0], at[1]))
}

// enter types into a field in the place of what it says.
func (t *tab) enter(selector, text string) {
	t.Helper()
	t.run(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector(%q).select()`, selector)), chromedp.KeyEvent(text))
}

// says waits until the page has a text.
func (t *tab) says(text string) {
	t.Helper()
	t.until(fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

// calm fails the test if the page complained of anything, or moved under the reader's eyes.
func (t *tab) calm() {
	t.Helper()
	// A row that comes first moves the others, as it must; what people call calm is below 0.1.
	if shifts := value[float64](t, `window.shifts`); shifts > 0.05 {
		t.Errorf("the layout shifted by %.3f: %q", shifts, value[[]string](t, `window.shifted`))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.errors) > 0 {
		t.Errorf("the page complains of:\n%s", strings.Join(t.errors, "\n"))
	}
}

// shoot keeps a picture of the page where TALLYMAN_SHOTS says, if it does.
func (t *tab) shoot(name string, dark bool, width, height int64) {
	t.Helper()
	dir := os.Getenv("TALLYMAN_SHOTS")
	if dir == "" {
		return
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	t.run(call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}))
	t.size(width, height)
	t.run(chromedp.Evaluate[chromedp.Void](`new Promise((f) => requestAnimationFrame(() => setTimeout(f, 400)))`, chromedp.EvalAwaitPromise))
	picture, err := chromedp.Run(t.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600); err != nil {
		t.Fatal(err)
	}
	t.run(call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{}))
	t.size(1280, 800)
}

// patient bounds every wait of a test.
const patient = time.Minute
