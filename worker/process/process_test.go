//go:build unix

package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

// TestMain runs this program as one of the processes that tests need, or else the tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if program, ok := programs[os.Args[1]]; ok {
			program()
			return
		}
	}
	goleak.VerifyTestMain(m)
}

// self is a command line that runs this program as one of programs.
func self(program string) string { return fmt.Sprintf("exec '%s' %s", os.Args[0], program) }

// bound is for what must happen at once.
const bound = 20 * time.Second

// loop is a command that does something with each line, in $line, and then answers {}.
func loop(what string) string {
	return "while read -r line; do " + what + "\necho '{}'; done"
}

// on is what a command does with lines that have a word in them.
func on(word, what string) string { return fmt.Sprintf("case $line in *%s*) %s;; esac", word, what) }

// items makes a batch of these.
func items(data ...string) worker.Batch {
	b := worker.Batch{ID: 7, Attempt: 2, JobID: 3, Kind: "ner", Project: "trial", Mode: "replace",
		Parameters: map[string]string{"model": "large"}}
	for i, d := range data {
		b.Items = append(b.Items, payload.Item{Number: int64(i + 1), File: "up.jsonl", Line: int64(i + 1), Data: []byte(d)})
	}
	return b
}

// open returns a handler that is closed at the end of the test.
func open(t *testing.T, config process.Config) *process.Handler {
	t.Helper()
	h, err := process.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

// try has a new handler handle a batch.
func try(t *testing.T, config process.Config, b worker.Batch) ([]worker.Result, error) {
	t.Helper()
	return attempt(t, open(t, config), b)
}

func attempt(t *testing.T, h *process.Handler, b worker.Batch) ([]worker.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	results, err := worker.Try(ctx, h, b)
	if ctx.Err() != nil {
		t.Fatalf("it took too long: %v", err)
	}
	return results, err
}

// stored is what becomes of n items that a command answers {}.
func stored(n int) []worker.Result {
	results := make([]worker.Result, n)
	for i := range results {
		results[i].Outcome = worker.Stored
	}
	return results
}

func TestAnswers(t *testing.T) {
	finding := func(severity worker.Severity, code, path, message string) []worker.Finding {
		return []worker.Finding{{Severity: severity, Code: code, Path: path, Message: message}}
	}
	answers := []struct {
		answer string
		want   worker.Result
	}{
		{`{}`, worker.Result{Outcome: worker.Stored}},
		{` { } `, worker.Result{Outcome: worker.Stored}},
		{`{"result": {"a": [1, "日本"]}}`, worker.Result{Outcome: worker.Stored, Value: []byte(`{"a": [1, "日本"]}`)}},
		{`{"error":"no text","result":1}`, worker.Result{Outcome: worker.Rejected, Value: []byte(`1`),
			Findings: finding(worker.SeverityError, "EXEC_ERROR", "", "no text")}},
		{`{"error":"no text","code":"NO_TEXT","path":"text"}`, worker.Result{Outcome: worker.Rejected,
			Findings: finding(worker.SeverityError, "NO_TEXT", "text", "no text")}},
		{`{"warning":"short","error":null}`, worker.Result{Outcome: worker.StoredWithWarnings,
			Findings: finding(worker.SeverityWarning, "EXEC_WARNING", "", "short")}},
		{`{"skip":"known"}`, worker.Result{Outcome: worker.Skipped,
			Findings: finding(worker.SeverityWarning, "EXEC_SKIPPED", "", "known")}},
		{`{"skip":""}`, worker.Result{Outcome: worker.Skipped}},
		{`{"error":"no text","warning":"short","code":"X"}`, worker.Result{Outcome: worker.Rejected, Findings: append(
			finding(worker.SeverityError, "X", "", "no text"), finding(worker.SeverityWarning, "EXEC_WARNING", "", "short")...)}},
	}
	var data []string
	var want []worker.Result
	for _, a := range answers {
		data = append(data, a.answer)
		want = append(want, a.want)
	}
	results, err := try(t, process.Config{Command: "cat"}, items(data...))
	if diff := cmp.Diff(want, results); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// What a command does wrong, or dies of, is said, with the item where it is one's, and costs nothing of what was done.
func TestMisbehavior(t *testing.T) {
	const dead = "item 3 (up.jsonl:3): the command died: the process "
	for name, test := range map[string]struct {
		config process.Config
		done   int           // items that are stored nevertheless
		crash  *worker.Crash // without output, memory and fingerprint
		want   string        // in the error
	}{
		"a signal": {
			config: process.Config{Command: loop(on("poison", "echo argh >&2; kill -SEGV $$"))}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGSEGV", Stderr: "argh\n"}, want: dead + "was killed by SIGSEGV",
		},
		"a signal that a shell tells of": {
			config: process.Config{Command: "(" + loop(on("poison", `sh -c 'kill -ABRT $$'; exit $?`)) + "); exit $?"}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGABRT", Stderr: "Aborted\n"}, want: dead + "was killed by SIGABRT",
		},
		"an exit code": {
			config: process.Config{Command: loop(on("poison", "echo oops >&2; exit 3"))}, done: 2,
			crash: &worker.Crash{Suspect: 2, ExitCode: 3, Stderr: "oops\n"}, want: dead + "exited with code 3",
		},
		"the end in silence": {
			config: process.Config{Command: loop(on("poison", "exit 0"))}, done: 2,
			crash: &worker.Crash{Suspect: 2}, want: dead + "exited with code 0",
		},
		"half an answer and death": {
			config: process.Config{Command: loop(on("poison", `printf '{"result":'; kill -KILL $$`))}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  "item 3 (up.jsonl:3): the command died, perhaps because memory ran out: the process was killed by SIGKILL",
		},
		"the first item": {
			config: process.Config{Command: loop(on("first", "kill -SEGV $$"))},
			crash:  &worker.Crash{Suspect: 0, Signal: "SIGSEGV"}, want: "item 1 (up.jsonl:1): the command died",
		},
		"a passing problem": {
			config: process.Config{Command: loop(on("poison", "echo no network >&2; exit 75"))}, done: 2,
			want: "the command exited with code 75, which means a passing problem:\nno network",
		},
		"no such program": {
			config: process.Config{Command: "/no/such/program --quiet"},
			want:   "the command exited with code 127 before it read an item:\n/bin/sh: 1: /no/such/program: not found",
		},
		"death at every start": {
			config: process.Config{Command: "echo cannot import >&2; exit 1"},
			want:   "the command exited with code 1 before it read an item:\ncannot import",
		},
		"death by a signal at every start": {
			config: process.Config{Command: "kill -SEGV $$"},
			want:   "the command was killed by SIGSEGV before it read an item",
		},
		"silence": {
			config: process.Config{Command: loop(on("poison", "exec sleep 100")), ItemTimeout: 2 * time.Second}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want: "item 3 (up.jsonl:3): the command did not answer within 2s (exec-item-timeout); does it flush what it " +
				"writes?: the process was killed by SIGKILL",
		},
		"silence from the start": {
			config: process.Config{Command: "read -r line; exec sleep 100", ItemTimeout: time.Second, StartTimeout: 2 * time.Second},
			crash:  &worker.Crash{Suspect: 0, Signal: "SIGKILL"},
			want:   "did not answer within 3s (exec-start-timeout and exec-item-timeout)",
		},
		"nothing is read": {
			config: process.Config{Command: "exec sleep 100", ItemTimeout: 200 * time.Millisecond, StartTimeout: 100 * time.Millisecond},
			want:   "the command did not read its item within 300ms",
		},
		"nothing of the next item is read": {
			config: process.Config{Command: "read -r line; echo '{}'; exec sleep 100", ItemTimeout: 200 * time.Millisecond}, done: 1,
			want: "the command did not read its item within 200ms",
		},
		"standard input is closed": {
			config: process.Config{Command: "read -r line; exec <&-; echo '{}'; exec sleep 100"}, done: 1,
			want: "the command closed its standard input and went on",
		},
		"standard output is closed": {
			config: process.Config{Command: loop(on("poison", "exec sleep 100 >&-"))}, done: 2,
			want: "the command closed its standard output and went on",
		},
		"no answer": {
			config: process.Config{Command: loop(on("poison", "echo Loading…; continue"))}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  `item 3 (up.jsonl:3): the command answered "Loading…", which is no answer: it is not a JSON object`,
		},
		"a list": {
			config: process.Config{Command: loop(on("poison", "echo []; continue"))}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  `the command answered "[]", which is no answer: it is not a JSON object`,
		},
		"a word that is misspelled": {
			config: process.Config{Command: loop(on("poison", `echo '{"eror":"x"}'; continue`))}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  `"eror" is no key of an answer: choose among error, warning`,
		},
		"two answers in one": {
			config: process.Config{Command: loop(on("poison", "printf '{}\n{}\n'; continue"))}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  "item 3 (up.jsonl:3): the command wrote more than one line for an item",
		},
		"lines without end": {
			config: process.Config{Command: loop(on("poison", "yes")), ItemTimeout: time.Minute}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  "item 3 (up.jsonl:3): the command wrote more than one line",
		},
		"a line without end": {
			config: process.Config{Command: loop(on("poison", "tr -d '\\n' </dev/zero"))}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  "item 3 (up.jsonl:3): the command wrote a line of more than 16777216 bytes (exec-max-answer-bytes)",
		},
		"a long line": {
			config: process.Config{Command: loop(on("poison", "echo '{                      }'; continue")), MaxAnswer: 20}, done: 2,
			crash: &worker.Crash{Suspect: 2, Signal: "SIGKILL"},
			want:  "the command wrote a line of more than 20 bytes (exec-max-answer-bytes)",
		},
		"no answer to the first item": {
			config: process.Config{Command: loop(on("first", "echo bla; continue"))},
			crash:  &worker.Crash{Suspect: 0, Signal: "SIGKILL"}, want: `item 1 (up.jsonl:1): the command answered "bla", which is no answer`,
		},
		"no answer to the first two": {
			config: process.Config{Command: loop(on("first", "echo bla; continue") + "; " + on("good", "echo bla; continue"))},
			crash:  &worker.Crash{Suspect: 0, Signal: "SIGKILL"}, want: `item 1 (up.jsonl:1): the command answered "bla", which is no answer`,
		},
		"no answer to any": {
			config: process.Config{Command: loop("echo bla; continue")},
			want:   `item 1 (up.jsonl:1): the command answered "bla", which is no answer: it is not a JSON object`,
		},
		"a long line from the start": {
			config: process.Config{Command: loop("echo '{                      }'; continue"), MaxAnswer: 20},
			want:   "the command wrote a line of more than 20 bytes (exec-max-answer-bytes)",
		},
		"never ready": {
			config: process.Config{Command: "exec sleep 100", Ready: true, StartTimeout: 100 * time.Millisecond},
			want:   "the command was not ready within 100ms (exec-start-timeout)",
		},
		"ready in other words": {
			config: process.Config{Command: "echo ready; exec sleep 100", Ready: true},
			want:   `the command began with "ready"`,
		},
		"dead before it is ready": {
			config: process.Config{Command: "echo no model >&2; exit 1", Ready: true},
			want:   "the command exited with code 1 before it read an item:\nno model",
		},
		"too slow as a whole": {
			config: process.Config{Command: loop(on("poison", "exec sleep 100")), BatchTimeout: 3 * time.Second}, done: 2,
			want: "the command took longer than 3s for the batch (exec-batch-timeout)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			results, err := try(t, test.config, items(`"first"`, `"good"`, `"poison"`, `"last"`))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if diff := cmp.Diff(stored(test.done), results); diff != "" && (test.done > 0 || len(results) > 0) {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			crash, ok := errors.AsType[*worker.Crash](err)
			if !ok && test.crash != nil {
				t.Fatal("no crash")
			}
			if crash != nil {
				if len(crash.Fingerprint) != 12 {
					t.Errorf("fingerprint %q", crash.Fingerprint)
				}
				crash.Fingerprint, crash.PeakMemory = "", 0
			}
			if diff := cmp.Diff(test.crash, crash); diff != "" {
				t.Errorf("crash (-want +got):\n%s", diff)
			}
		})
	}
}

// A command that is wrong all the time accuses no items for long, whatever it has answered before.
func TestGarbageUsesUpCredit(t *testing.T) {
	t.Parallel()
	h := open(t, process.Config{Command: loop(on("poison", "echo bla; continue"))})
	var good []string
	for range 250 {
		good = append(good, `"good"`)
	}
	if results, err := attempt(t, h, items(good...)); err != nil || len(results) != 250 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for n := range 60 {
		_, err := attempt(t, h, items(`"poison"`, `"good"`))
		if crash, ok := errors.AsType[*worker.Crash](err); ok != (n < 50) || ok && crash.Suspect != 0 || err == nil {
			t.Fatalf("time %d: %v", n+1, err)
		}
	}
	if _, err := attempt(t, h, items(`"good"`, `"good"`)); err != nil {
		t.Fatal(err)
	}
	if _, err := attempt(t, h, items(`"good"`, `"poison"`)); !isCrash(err) {
		t.Errorf("the command was right again, then %v", err)
	}
}

func isCrash(err error) bool {
	_, ok := errors.AsType[*worker.Crash](err)
	return ok
}

// One that writes a line too much for each item fails, whenever that is seen.
func TestLineAfterEachAnswer(t *testing.T) {
	t.Parallel()
	h := open(t, process.Config{Command: loop("echo '{}'; echo done; continue")})
	b := items(`1`, `2`, `3`, `4`, `5`, `6`, `7`, `8`, `9`, `10`, `11`, `12`)
	crashes := 0
	for {
		results, err := attempt(t, h, b)
		if err == nil || !strings.Contains(err.Error(), "(other things than answers belong on standard error)") {
			t.Fatalf("it goes unnoticed: %d results, %v", len(results), err)
		}
		if b.Done += len(results); !isCrash(err) {
			break
		}
		if crashes++; crashes > 2 {
			t.Fatal("it is taken for the fault of items")
		}
	}
}

// buffer is one for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
