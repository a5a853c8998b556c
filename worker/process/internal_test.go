//go:build linux

package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
)

func TestFingerprint(t *testing.T) {
	for name, test := range map[string]struct {
		a, b string
		same bool
	}{
		"numbers":   {"thread 17 panicked at 0x7ffe0588e498\n", "thread 3 panicked at 0x7ffe11111110\n", true},
		"values":    {"KeyError: 'PMC:17'\n", "KeyError: 'PMC:18'\n", true},
		"folders":   {"/tmp/run-1234/ner.so: argh\n", "/tmp/run-99/b/ner.so: argh\n", true},
		"earlier":   {"item 1\nitem 2\na\nb\nc\nd\nargh\n", "something else\na\nb\nc\nd\nargh", true},
		"spaces":    {"argh\n\n  \n", "  argh", true},
		"a message": {"KeyError: 'PMC:17'\n", "ValueError: 'PMC:17'\n", false},
		"a place":   {"  File \"/a/ner.py\", line 3, in tag\nargh", "  File \"/a/other.py\", line 3, in tag\nargh", false},
		"a file":    {"/tmp/ner.so: argh", "/tmp/other.so: argh", false},
		"nothing":   {"", "argh", false},
	} {
		a, b := fingerprint("SIGSEGV", test.a), fingerprint("SIGSEGV", test.b)
		if (a == b) != test.same {
			t.Errorf("%s: %s and %s, want the same: %v", name, a, b, test.same)
		}
		if a == fingerprint("SIGABRT", test.a) {
			t.Errorf("%s: the same for another signal", name)
		}
	}
	// It groups what different versions of this program have seen.
	if got := fingerprint("SIGSEGV", "argh"); got != "d827fb5f326e" {
		t.Errorf("fingerprint %s", got)
	}
}

func TestTail(t *testing.T) {
	var tail tail
	var whole []byte
	write := func(n int, c byte) {
		data := bytes.Repeat([]byte{c}, n)
		whole = append(whole, data...)
		if m, err := tail.Write(data); m != n || err != nil {
			t.Fatal(m, err)
		}
	}
	check := func(since string) {
		t.Helper()
		all, got := tail.text()
		if want := string(whole[max(len(whole)-worker.MaxCrashOutput, 0):]); all != want || got != since {
			t.Errorf("%d bytes, of which %d are new, want %d and %d", len(all), len(got), len(want), len(since))
		}
		if cap(tail.end) > 64<<10 {
			t.Errorf("holds %d bytes", cap(tail.end))
		}
	}
	check("")
	write(10, 'a')
	check("aaaaaaaaaa")
	tail.mark()
	check("")
	write(3, 'b')
	check("bbb")
	for _, n := range []int{worker.MaxCrashOutput - 1, 1, worker.MaxCrashOutput, 5000, 5000, 5000, 5000, 1 << 20, 1} {
		write(n, 'c')
		tail.mark()
		write(2, 'd')
		check("dd")
	}
	write(1, '\xff')
	if all, _ := tail.text(); !strings.HasSuffix(all, "dd?") {
		t.Errorf("ends with %q", all[len(all)-5:])
	}
}

// A guard that somebody kills is replaced, and the new one watches over all.
func TestGuardIsReplaced(t *testing.T) {
	var g guard
	var groups []*exec.Cmd
	begin := func() {
		t.Helper()
		cmd := exec.Command("sleep", "100")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		groups = append(groups, cmd)
		if err := g.watch(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	begin()
	if err := g.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = g.cmd.Wait()
	begin()
	begin()
	g.forget(groups[1].Process.Pid)
	if err := g.close(); err != nil { // as its end would
		t.Fatal(err)
	}
	for i, cmd := range groups {
		if i == 1 { // was forgotten
			if err := cmd.Process.Kill(); err != nil {
				t.Errorf("the one that was forgotten: %v", err)
			}
		}
		_ = cmd.Wait() // or else it would last
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 42 42 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 300 10000000 1234 18446744073709551615 1"
	for _, name := range []string{"sh", "a) S 7 7 (b", ")"} {
		if group, pages := parseStat([]byte("99 (" + name + ")" + rest)); group != 42 || pages != 1234 {
			t.Errorf("%q: group %d, %d pages", name, group, pages)
		}
	}
	for _, text := range []string{"", "99 (sh", "99 (sh) S 1"} {
		if group, pages := parseStat([]byte(text)); group != 0 || pages != 0 {
			t.Errorf("%q: group %d, %d pages", text, group, pages)
		}
	}
}

func TestVariableNames(t *testing.T) {
	for name, want := range map[string]string{"model": "MODEL", "top-k": "TOP_K", "größe": "GR__E", "A1": "A1", "": ""} {
		if diff := cmp.Diff(want, variableName(name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Whatever a command writes is an answer that can be reported, or refused.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{}`, `{"error":"x","code":"C","path":"p"}`, `{"result":[1,{"a":null}]}`, `{"skip":""}`, `null`, `{"error":1}`,
		`{"result":1,"result":2}`, `{"Error":"x"}`, "{\"error\":\"\xff\"}", `{"warning":"a","error":"b","skip":"c"}`, `{} {}`, ` {`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseAnswer(text)
		if q := quote(text); !utf8.ValidString(q) || len(q) > 5*maxQuote || strings.ContainsAny(q, "\n\x00") {
			t.Errorf("quoted as %q", q)
		}
		if err != nil {
			return
		}
		if !isObject(text) {
			t.Errorf("%q is an answer", text)
		}
		if len(r.Value) > 0 && !json.Valid(r.Value) {
			t.Errorf("the result %q is not JSON", r.Value)
		}
		var severity worker.Severity
		for _, f := range r.Findings {
			severity = max(severity, f.Severity)
		}
		if (r.Outcome == worker.Rejected) != (severity == worker.SeverityError) || r.Outcome < worker.Stored || r.Outcome > worker.Skipped {
			t.Errorf("%q is %v with %v", text, r.Outcome, r.Findings)
		}
	})
}

// A line that was there before the item is no answer to it.
func TestUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := &child{parent: newParent(Config{}), stdout: r, lines: make(chan line)}
		go func() { c.lines <- line{text: []byte("done\n")} }()
		synctest.Wait()
		text, sent, err := c.exchange(t.Context(), []byte("1\n"), 0)
		if !errors.Is(err, errUnasked) || sent != 0 || string(text) != "done\n" {
			t.Errorf("%q, %d, %v", text, sent, err)
		}
		if err := errors.Join(r.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	})
}

// Somebody whose command does not flush what it writes is told so long before the item's time is over, and nothing ends.
func TestSilenceIsTold(t *testing.T) {
	log := &records{said: make(chan string, 10)}
	gate := filepath.Join(t.TempDir(), "gate")
	h, err := New(Config{
		Command: "while read -r line; do until [ -e '" + gate + "' ]; do sleep 0.05; done; echo '{}'; done", Logger: slog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.parent.patience = 10 * time.Millisecond
	go func() {
		if said := <-log.said; !strings.Contains(said, "python3 -u") {
			t.Errorf("the log says %q", said)
		}
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Error(err)
		}
	}()
	b := worker.Batch{Items: []payload.Item{{Number: 1, Data: []byte("1")}, {Number: 2, Data: []byte("2")}}}
	if results, err := worker.Try(t.Context(), h, b); err != nil || len(results) != 2 {
		t.Errorf("%d results, %v", len(results), err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if n := len(log.said); n > 0 {
		t.Errorf("it was told %d times more", n)
	}
}

// records hands on what is logged.
type records struct {
	slog.Handler
	said chan string
}

func (*records) Enabled(context.Context, slog.Level) bool { return true }

func (r *records) Handle(_ context.Context, record slog.Record) error {
	r.said <- record.Message
	return nil
}
