package dashboard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/tallyman-dev/tallyman/worker/process"
)

// evil is a command that dies of items that are evil, until a file is there; it rejects what is wrong.
const evil = `while read -r line; do
	case "$line" in
	*evil*) if ! [ -e "$CURED" ]; then echo "cannot bear <b>this</b>" >&2; kill -SEGV $$; sleep 60; fi; echo '{}' ;;
	*wrong*) echo '{"error": "it is <i>wrong</i>"}' ;;
	*) echo '{}' ;;
	esac
done`

// Upload, follow, find the culprit, fetch it, and try it again when the command can bear it: with nothing but the page.
func TestJourney(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site) {
		cured := filepath.Join(s.TempDir(), "cured")
		h, err := process.New(process.Config{Command: evil, Env: []string{"CURED=" + cured}})
		if err != nil {
			s.Fatal(err)
		}
		s.work("worker-1", "test", 2, h)
		file := filepath.Join(s.TempDir(), "journey.jsonl")
		var items strings.Builder
		for i := range 40 {
			switch i {
			case 17:
				fmt.Fprintf(&items, "{\"n\": %d, \"is\": \"evil\"}\n", i)
			case 30:
				fmt.Fprintf(&items, "{\"n\": %d, \"is\": \"wrong\"}\n", i)
			default:
				fmt.Fprintf(&items, "{\"n\": %d}\n", i)
			}
		}
		if err := os.WriteFile(file, []byte(items.String()), 0o600); err != nil {
			s.Fatal(err)
		}
		p := look(s)
		p.open("/upload")
		p.enter(`input[name=kind]`, "test")
		p.run(chromedp.SetUploadFiles(chromedp.CSS(`input[type=file]`), []string{file}))
		p.says("All of it is committed.")
		p.press("a.button", "Job ")
		p.until(`document.querySelector('h1').innerText.startsWith('journey.jsonl')`)
		p.until(`document.querySelector('.head .state').innerText === 'completed with errors'`)
		p.says("40 of 40 items")
		p.until(`[...document.querySelectorAll('.legend li')].some((l) => l.innerText.replace(/\s+/g, ' ').trim() === 'crashed 1')`)
		// The culprit, with its last words, which are text.
		p.press("details summary", "item 18")
		p.until(`document.querySelector('pre.stderr').innerText.includes('cannot bear <b>this</b>')`)
		p.says("it is <i>wrong</i>")
		// Its bytes, as the link fetches them.
		link := value[string](p, `[...document.querySelectorAll('a[download]')].find((a) => a.textContent === 'Download them').getAttribute('href')`)
		body := value[string](p, fmt.Sprintf(`fetch(%q).then((r) => r.text())`, link))
		if body != "{\"n\": 17, \"is\": \"evil\"}\n" {
			s.Errorf("the culprit is %q", body)
		}
		// The map leads to the batch that was split, also by keyboard.
		p.until(`document.querySelector('.map canvas').width > 0`)
		p.run(chromedp.Focus(chromedp.CSS(`.map canvas`)))
		p.until(`document.querySelector('.map .here').innerText === 'batch 1: crashed'`)
		p.run(chromedp.KeyEvent("\r"))
		p.until(`document.querySelectorAll('dialog .tree li').length > 2`)
		p.until(`document.activeElement.closest('dialog')`)
		p.shoot("batch", false, 1280, 900)
		p.run(chromedp.KeyEvent("\x1b"))
		p.until(`!document.querySelector('dialog')`)
		p.shoot("job", false, 1280, 1000)
		p.shoot("job-dark", true, 1280, 1000)
		p.shoot("job-phone", false, 390, 844)
		// Asked first, and only then done.
		if err := os.WriteFile(cured, nil, 0o600); err != nil {
			s.Fatal(err)
		}
		p.press(".steer button", "Retry 1 batch")
		p.press("dialog button", "No, go back")
		p.until(`!document.querySelector('dialog')`)
		p.press(".steer button", "Retry 1 batch")
		p.press("dialog .actions button", "Retry")
		p.says("run 2")
		p.until(`document.querySelector('section[aria-labelledby=culprits]').innerText.includes('None.')`)
		p.until(`document.querySelector('.live').innerText === 'ended'`)
		p.until(`[...document.querySelectorAll('.legend li')].some((l) => l.innerText.replace(/\s+/g, ' ').trim() === 'crashed 0')`)
		p.press(".top nav a", "Workers")
		p.says("worker-1")
		p.shoot("workers", false, 1280, 600)
		p.press("table button.link", "worker-1")
		p.says("Its last attempts that did not complete")
		p.press("dialog button", "Close")
		p.press(".top nav a", "Statistics")
		p.says("SIGSEGV")
		p.shoot("statistics", false, 1280, 900)
		p.press(".top nav a", "Workers")
		p.press("table button", "Drain worker-1")
		p.press("dialog .actions button", "Drain it")
		p.until(`document.querySelector('table.workers .state')?.innerText !== 'idle'`)
		p.calm()
	})
}

// Pausing, resuming and cancelling are asked about, and followed.
func TestSteering(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site) {
		id := s.submit("kind=test&policy.batch_items=2", lines(6)) // which nobody works on
		p := look(s)
		p.open("/jobs/" + id)
		state := func(want string) {
			p.Helper()
			p.until(fmt.Sprintf(`document.querySelector('.head .state').innerText === %q`, want))
		}
		state("running")
		for _, step := range []struct{ button, action, state string }{
			{"Pause", "Pause", "paused"}, {"Resume", "Resume", "running"}, {"Cancel", "Cancel the job", "cancelled"},
		} {
			p.press(".steer button", step.button)
			p.press("dialog .actions button", step.action)
			p.until(`!document.querySelector('dialog')`)
			state(step.state)
		}
		p.until(`document.querySelector('.map .legend').innerText.includes('cancelled')`)
		p.open("/jobs/12345")
		p.says("there is no job 12345")
	})
}
