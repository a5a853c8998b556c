package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs this program as the one that is tested where that starts itself, or else the tests.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == isolatedName {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// result is what a run of the program left.
type result struct {
	code           int
	stdout, stderr string
}

// tallyman runs the program to its end.
func tallyman(t *testing.T, args ...string) result {
	t.Helper()
	return tallymanWith(t.Context(), "", args...)
}

func tallymanWith(ctx context.Context, stdin string, args ...string) result {
	var stdout, stderr locked
	code := execute(ctx, args, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// must runs the program and wants an exit code.
func must(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := tallyman(t, args...)
	if r.code != code {
		t.Fatalf("tallyman %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

// objects decodes JSON Lines.
func objects(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	for decoder.More() {
		var one map[string]any
		if err := decoder.Decode(&one); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		all = append(all, one)
	}
	return all
}

// locked is a buffer for several goroutines, which can be waited at.
type locked struct {
	mu      sync.Mutex
	b       bytes.Buffer
	waiting []wait
}

type wait struct {
	pattern *regexp.Regexp
	found   chan []string
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	l.waiting = deleteMatched(l.waiting, l.b.String())
	return len(p), nil
}

func deleteMatched(waiting []wait, text string) []wait {
	var left []wait
	for _, w := range waiting {
		if match := w.pattern.FindStringSubmatch(text); match != nil {
			w.found <- match
		} else {
			left = append(left, w)
		}
	}
	return left
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// until returns a channel that gets the first match of a pattern, once there is one.
func (l *locked) until(pattern string) <-chan []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := wait{pattern: regexp.MustCompile(pattern), found: make(chan []string, 1)}
	l.waiting = deleteMatched(append(l.waiting, w), l.b.String())
	return w.found
}

// background is a run of the program that goes on.
type background struct {
	t              *testing.T
	stdout, stderr locked
	interrupt      context.CancelFunc
	ended          chan int
}

// start runs the program until it is interrupted, at the latest at the end of the test.
func start(t *testing.T, stdin io.Reader, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	b := &background{t: t, interrupt: cancel, ended: make(chan int, 1)}
	go func() { b.ended <- execute(ctx, args, stdin, &b.stdout, &b.stderr) }()
	t.Cleanup(func() { b.stop() })
	return b
}

// stop interrupts the program and returns its exit code.
func (b *background) stop() int {
	b.interrupt()
	return b.wait()
}

func (b *background) wait() int {
	code := <-b.ended
	b.ended <- code
	return code
}

// await waits until the program has written what matches.
func (b *background) await(from *locked, pattern string) []string {
	b.t.Helper()
	select {
	case match := <-from.until(pattern):
		return match
	case code := <-b.ended:
		b.ended <- code
		b.t.Fatalf("ended with %d before it wrote %q\n%s%s", code, pattern, b.stdout.String(), b.stderr.String())
		return nil
	}
}

// serve starts a server on a new data folder and returns the folder and its address.
func serve(t *testing.T, args ...string) (server *background, data, address string) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	server = start(t, strings.NewReader(""), append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, args...)...)
	return server, data, server.await(&server.stdout, `tallyman serves at (\S+)\n`)[1]
}

func TestUsage(t *testing.T) {
	t.Parallel()
	nothing := filepath.Join(t.TempDir(), "nothing")
	for _, args := range [][]string{
		{"frobnicate"},
		{"jobs", "--color", "red"},
		{"jobs", "three"},
		{"jobs", "-o", "xml"},
		{"jobs", "--state", "walking"},
		{"jobs", "1", "2"},
		{"jobs", "--log-level", "loud", "--data", dataWithJob(t)},
		{"cancel"},
		{"cancel", "1", "--data", nothing},
		{"run"},
		{"run", "-", "--data", nothing},
		{"run", "a", "--server", "127.0.0.1:1"},
		{"work", "--server", "127.0.0.1:1"},
		{"work", "--kind", "ner"},
		{"export", "--data", nothing},
		{"export", "--project", "corpus", "--server", "127.0.0.1:1"},
		{"export", "--project", "corpus", "--discontinuous", "knot", "--data", nothing},
		{"serve", "--listen", "0.0.0.0:0", "--data", nothing},
		{"serve", "--database", "mysql://db"},
		{"serve", "--workers", "-1", "--data", nothing},
		{"run", "a", "--workers", "-1", "--data", nothing},
		{"work", "--slots", "-1", "--data", nothing},
		{"findings", "1", "--job", "2", "--data", nothing},
		{"migrate"},
		{"sample", "--documents", "-1"},
		{"check", "x", "--batch-weight", "-1"},
		{"run", "a", "-o", "tsv"},
		{"stats", "-o", "tsv", "--data", nothing},
	} {
		r := must(t, exitUsage, args...)
		if !strings.Contains(r.stderr, "--help` for what it takes") || r.stdout != "" {
			t.Errorf("%v: stdout %q, stderr %q; want a hint", args, r.stdout, r.stderr)
		}
	}
}

// dataWithJob returns a data folder with one job.
func dataWithJob(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	file := filepath.Join(dir, "sample.jsonl")
	must(t, exitOK, "sample", "--documents", "3", file)
	must(t, exitOK, "run", file, "--data", data)
	return data
}

func TestErrorsOfSeveralLines(t *testing.T) {
	t.Parallel()
	if r := must(t, exitUsage, "runn"); !strings.Contains(r.stderr, "\n\n  Did you mean this?\n    run\n") {
		t.Errorf("stderr: %s", r.stderr)
	}
}

func TestNamesTheWrongFlag(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"run", "a", "--workers", "-1"}, {"serve", "--workers", "5000"}, {"work", "--slots", "-1"},
	} {
		if r := must(t, exitUsage, args...); !strings.Contains(r.stderr, args[len(args)-2]+" ") {
			t.Errorf("%v: %s", args, r.stderr)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	nothing := filepath.Join(t.TempDir(), "nothing")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"127.0.0.1:1: ", []string{"jobs", "--server", "127.0.0.1:1"}},
		{"127.0.0.1:1: ", []string{"submit", "go.mod", "--server", "127.0.0.1:1", "--project", "corpus"}},
		{nothing, []string{"jobs", "--data", nothing}},
		{nothing, []string{"submit", "go.mod", "--data", nothing}},
		{nothing, []string{"work", "--data", nothing}},
	} {
		args := c.args
		for i, arg := range args {
			if arg == "go.mod" {
				args[i] = filepath.Join("..", "..", "go.mod")
			}
		}
		if r := must(t, exitUnreachable, args...); !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: %q does not name %s", args, r.stderr, c.want)
		}
	}
}

func TestHelpHasExamples(t *testing.T) {
	t.Parallel()
	var p program
	for _, verb := range p.root().Commands() {
		if verb.Example == "" || verb.Short == "" {
			t.Errorf("%s has no example or no description", verb.Name())
		}
		for _, below := range verb.Commands() {
			if below.Example == "" {
				t.Errorf("%s %s has no example", verb.Name(), below.Name())
			}
		}
	}
	if r := must(t, exitOK, "run", "--help"); !strings.Contains(r.stdout, "Ctrl-C") {
		t.Errorf("help of run: %s", r.stdout)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if r := must(t, exitOK, "version"); r != must(t, exitOK, "--version") || !strings.HasPrefix(r.stdout, "tallyman ") {
		t.Errorf("version %q", r.stdout)
	}
	if got := objects(t, must(t, exitOK, "version", "-o", "json").stdout)[0]["version"]; got != programVersion() {
		t.Errorf("version %v, want %s", got, programVersion())
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	if r := must(t, exitOK, "completion", "bash"); !strings.Contains(r.stdout, "__start_tallyman") {
		t.Errorf("completion: %.100s", r.stdout)
	}
}

func TestCompletionOfValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"jobs --state ca", "cancelled cancelling"},
		{"jobs -o ", "json table tsv"},
		{"batches --state cr", "crashed"},
		{"cleanup --state ", "cancelled completed_with_errors failed succeeded"},
		{"findings --severity ", "error warning"},
		{"submit --mode ", "add merge replace skip"},
		{"serve --log-level w", "warn"},
	} {
		args := strings.Split(c.args, " ")
		r := must(t, exitOK, append([]string{"__complete"}, args...)...)
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
			if !strings.HasPrefix(line, ":") && strings.HasPrefix(line, args[len(args)-1]) {
				got = append(got, line)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("completion of %q: %q, want %q", c.args, got, c.want)
		}
	}
}

func TestProjectFromName(t *testing.T) {
	t.Parallel()
	valid := regexp.MustCompile(`^[a-z0-9_-]{5,40}$`)
	for name, want := range map[string]string{
		"bc5cdr.jsonl":                   "bc5cdr",
		"dir/My Corpus (2).JSONL.gz":     "my-corpus-2",
		"a.json":                         "a-project",
		"ä.jsonl":                        "project",
		"...":                            "project",
		strings.Repeat("long-name/", 3):  "long-name",
		strings.Repeat("x", 39) + "-yyy": strings.Repeat("x", 39),
		"v1.2.ndjson.zst":                "v1-2-project",
	} {
		got := projectFromName(name)
		if got != want || !valid.MatchString(got) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestWorse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, b, want int }{
		{exitOK, exitOK, exitOK}, {exitOK, exitWithErrors, exitWithErrors}, {exitJobFailed, exitWithErrors, exitJobFailed},
		{exitJobCancelled, exitWithErrors, exitJobCancelled}, {exitJobCancelled, exitOther, exitOther},
	} {
		if got := worse(c.a, c.b); got != c.want {
			t.Errorf("worse(%d, %d) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"a/b.jsonl": "a/b.jsonl", "a b": "'a b'", "it's": `'it'\''s'`, "": "''"} {
		if got := quoted(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
