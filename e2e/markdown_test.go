//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The examples of documents are run: every fenced block of code has a language and a name, as in
//
//	```sh watch-a-job
//
// and a test by these two, or, of a shell block, a block of its output, of the language json or text with the same name,
// right behind it. In an output … stands for anything: as a string of JSON for any value, as a key of JSON for any further
// keys, within a line of text for any characters, as a line of its own for any lines. Examples run in the order of the
// document, since what one does the next may show.

// anything is what an expected output says where it does not matter.
const anything = "…"

// block is a fenced block of code.
type block struct {
	language, name, text string
	line                 int
}

func (b block) String() string { return b.language + " " + b.name }

// example tests one block.
type example func(t testing.TB, b block)

var (
	// hidden is what must not stand in an indented block, since nobody would run it there.
	hidden = regexp.MustCompile(`^ {4,}(\$ )?((bin/)?tallyman |buf |psql |curl |grep |SELECT |make )`)
	// named is the line that opens a block.
	named = regexp.MustCompile("^```([a-z]+) ([a-z0-9-]+)$")
)

// blocks returns the fenced blocks of a document.
func blocks(text string) (all []block, err error) {
	var problems []error
	var open *block
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\n")
		switch opening := named.FindStringSubmatch(line); {
		case open != nil && line == "```":
			all, open = append(all, *open), nil
		case open != nil:
			open.text += line + "\n"
		case opening != nil:
			open = &block{language: opening[1], name: opening[2], line: number}
		case strings.HasPrefix(strings.TrimLeft(line, " >"), "```"), strings.HasPrefix(line, "~~~"):
			problems = append(problems, fmt.Errorf("line %d: a block without a language and a name: %s", number, line))
			open = &block{line: number}
		case hidden.MatchString(line):
			problems = append(problems, fmt.Errorf("line %d: an example outside of a fenced block: %s", number, line))
		}
	}
	if open != nil {
		problems = append(problems, fmt.Errorf("line %d: a block that does not end", open.line))
	}
	return all, errors.Join(problems...)
}

// markdown is a document whose examples are tested.
type markdown struct {
	path     string
	shell    shell
	examples map[string]example // by language and name
}

// test runs the examples of a document in their order. An example without a test is an error, and so is a test without
// an example.
func (d *markdown) test(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := blocks(string(text))
	if err != nil {
		t.Errorf("%s: %v", d.path, err)
	}
	seen := map[string]bool{}
	for i := 0; i < len(all); i++ {
		b := all[i]
		if seen[b.String()] {
			t.Errorf("%s:%d: a second block %v", d.path, b.line, b)
		}
		seen[b.String()] = true
		run := d.examples[b.String()]
		if next := i + 1; b.language == "sh" && next < len(all) && all[next].name == b.name &&
			(all[next].language == "json" || all[next].language == "text") {
			if run != nil {
				t.Errorf("%s:%d: the block %v has both a test and an output", d.path, b.line, b)
			}
			run, i = d.outputs(all[next]), next
		}
		if run == nil {
			t.Errorf("%s:%d: no test of the block %v", d.path, b.line, b)
			continue
		}
		t.Run(b.String(), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("%s:%d: %s", d.path, b.line, b.text)
				}
			}()
			run(t, b)
		})
	}
	for key := range d.examples {
		if !seen[key] {
			t.Errorf("%s: no block %s", d.path, key)
		}
	}
}

// outputs is the test of a shell block that is followed by its output.
func (d *markdown) outputs(want block) example {
	return func(t testing.TB, b block) {
		t.Helper()
		got := d.shell.run(t, b.text)
		if want.language == "json" {
			sameJSON(t, want.text, got.stdout)
			return
		}
		if !pattern(want.text).MatchString(got.stdout) {
			t.Errorf("output:\n%s\nwant, with … for anything:\n%s", got.stdout, want.text)
		}
	}
}

// setup is the test of a shell block whose variables and functions the blocks behind it use.
func (d *markdown) setup(t testing.TB, b block) {
	t.Helper()
	d.shell.run(t, b.text)
	d.shell.prelude += b.text
}

// pattern matches an output as a document shows it.
func pattern(want string) *regexp.Regexp {
	var expression strings.Builder
	expression.WriteString(`\A`)
	for line := range strings.Lines(want) {
		if line == anything+"\n" {
			expression.WriteString(`(?:.*\n)*`)
			continue
		}
		for i, part := range strings.Split(line, anything) {
			if i > 0 {
				expression.WriteString(`.*`)
			}
			expression.WriteString(regexp.QuoteMeta(part))
		}
	}
	return regexp.MustCompile(expression.String() + `\z`)
}

// sameJSON compares the JSON values of an output with those that a document shows.
func sameJSON(t testing.TB, want, got string) {
	t.Helper()
	wanted, gotten := values(t, want), values(t, got)
	if len(wanted) == len(gotten) {
		for i := range wanted {
			wanted[i], gotten[i] = forget(wanted[i], gotten[i])
		}
	}
	if diff := cmp.Diff(wanted, gotten); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// values reads JSON values that stand one after another.
func values(t testing.TB, text string) (all []any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	for {
		var v any
		switch err := decoder.Decode(&v); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("read JSON: %v: %s", err, text)
		}
		all = append(all, v)
	}
}

// forget makes two values alike where what is wanted is anything.
func forget(want, got any) (wanted, gotten any) {
	switch w := want.(type) {
	case string:
		if w == anything {
			return got, got
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return want, got
		}
		_, more := w[anything]
		delete(w, anything)
		for key := range g {
			if of, ok := w[key]; ok {
				w[key], g[key] = forget(of, g[key])
			} else if more {
				delete(g, key)
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return want, got
		}
		for i := range w {
			w[i], g[i] = forget(w[i], g[i])
		}
	}
	return want, got
}

// shell runs shell blocks.
type shell struct {
	dir     string
	env     []string          // further variables
	real    *strings.Replacer // what the document calls things, and what they are in the test; may be nil
	prelude string
}

// run runs a text as bash does a script that ends at the first error, and fails the test unless it ends well.
func (s *shell) run(t testing.TB, text string) result {
	t.Helper()
	r := s.try(t, text)
	if r.code != 0 {
		t.Fatalf("exit code %d, want 0\n%s%s", r.code, r.stdout, r.stderr)
	}
	return r
}

// try is run for a text that may end with any code.
func (s *shell) try(t testing.TB, text string) result {
	t.Helper()
	text = s.prelude + text
	if s.real != nil {
		text = s.real.Replace(text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	bash := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	var stdout, stderr bytes.Buffer
	bash.Dir, bash.Stdout, bash.Stderr = s.dir, &stdout, &stderr
	bash.Env = append(append(environment(), "PATH="+tools(t)+":"+os.Getenv("PATH")), s.env...)
	bash.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	bash.WaitDelay = endTimeout
	err := bash.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", text, err)
	}
	return result{code: bash.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// toolsTimeout is enough to compile buf, which is larger than all of ours. make test has done so before.
const toolsTimeout = 15 * time.Minute

// tools returns a folder with the programs that documents call: ours, and buf as pinned in tools/buf.
func tools(t testing.TB) string {
	t.Helper()
	dir, err := linked()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var linked = sync.OnceValues(func() (string, error) {
	program, err := built()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), toolsTimeout)
	defer cancel()
	where := exec.CommandContext(ctx, "go", "tool", "-n", "-modfile=../tools/buf/go.mod", "buf")
	where.Stderr = os.Stderr
	buf, err := where.Output()
	if err != nil {
		return "", fmt.Errorf("build buf: %w", err)
	}
	dir := filepath.Join(scratch(), "tools")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder of tools: %w", err)
	}
	for _, language := range []string{"python3", "ruby"} {
		if path := interpreterOf(language); filepath.IsAbs(path) {
			if err := os.Symlink(path, filepath.Join(dir, language)); err != nil {
				return "", fmt.Errorf("link %s: %w", language, err)
			}
		}
	}
	for name, path := range map[string]string{"tallyman": program, "buf": strings.TrimSpace(string(buf))} {
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("link tool: %w", err)
		}
	}
	return dir, nil
})

// A document cannot have an example that is not run.
func TestBlocks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       []block
		wrong      bool
	}{
		{"two", "a\n```sh one\nx\n\ny\n```\n```json one\n{}\n```\n", []block{{"sh", "one", "x\n\ny\n", 2}, {"json", "one", "{}\n", 7}}, false},
		{"a drawing", "    a ──► b\n", nil, false},
		{"no name", "```sh\nx\n```\n", []block{{"", "", "x\n", 1}}, true},
		{"no language", "```\nx\n```\n", []block{{"", "", "x\n", 1}}, true},
		{"in a list", "* a\n  ```sh one\n  x\n  ```\n", nil, true},
		{"no end", "```sh one\nx\n", nil, true},
		{"indented", "    tallyman jobs 7\n", nil, true},
		{"indented SQL", "\n    SELECT 1\n", nil, true},
	} {
		got, err := blocks(c.text)
		if (err != nil) != c.wrong {
			t.Errorf("%s: error %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(block{})); diff != "" && !c.wrong {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want, got string
		matches   bool
	}{
		{"a\n", "a\n", true},
		{"a\n", "a\nb\n", false},
		{"a\n…\nc\n", "a\nc\n", true},
		{"a\n…\nc\n", "a\nb\nb\nc\n", true},
		{"a\n…\nc\n", "a\nb\n", false},
		{"a … c\n", "a (b) c\n", true},
		{"a … c\n", "a b\nc\n", false},
		{"a.\n", "ab\n", false},
	} {
		if got := pattern(c.want).MatchString(c.got); got != c.matches {
			t.Errorf("%q matches %q: %v", c.want, c.got, got)
		}
	}
	want, got := forget(values(t, `{"a": "…", "b": [{"c": 1, "…": ""}]}`)[0], values(t, `{"a": {"x": 1}, "b": [{"c": 1, "d": 2}]}`)[0])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alike (-want +got):\n%s", diff)
	}
	if want, got = forget(values(t, `{"a": 1}`)[0], values(t, `{"a": 1, "d": 2}`)[0]); cmp.Equal(want, got) {
		t.Error("a key that is not wanted is taken")
	}
}
