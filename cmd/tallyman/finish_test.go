//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRetriedJobIsFinished mends a command, retries what failed, and has the hint of retry finish the job.
func TestRetriedJobIsFinished(t *testing.T) {
	t.Parallel()
	dir, items := t.TempDir(), numbered(t)
	failing, mended := script(t, "exit 3\n"), script(t, "while read -r line; do echo '{}'; done\n")
	must(t, exitWithErrors, "run", items, "--data", dir, "--exec", failing, "--exec-mode", "batch", "--max-attempts", "1")
	if r := must(t, exitOK, "findings", "1", "--data", dir); !strings.Contains(r.stderr, "5 items failed with their batches") {
		t.Errorf("findings does not say where the reason is: %s", r.stderr)
	}
	refused := must(t, exitOther, "run", "--job", "1", "--data", dir, "--exec", mended)
	if want := "job 1 has ended, completed with errors; what failed"; !strings.Contains(refused.stderr, want) {
		t.Errorf("no %q in: %s", want, refused.stderr)
	}

	retried := must(t, exitOK, "retry", "1", "--data", dir)
	hint := "tallyman run --job 1 --exec COMMAND --data " + dir
	if !strings.Contains(retried.stderr, hint) {
		t.Errorf("retry does not say %q: %s", hint, retried.stderr)
	}
	shown := must(t, exitOK, "jobs", "1", "--data", dir).stdout
	if !strings.Contains(shown, "nobody serves this data folder") || !strings.Contains(shown, hint) {
		t.Errorf("jobs 1 does not say that it stands still: %s", shown)
	}
	for want, args := range map[string][]string{
		"name the command":                 {"run", "--job", "1", "--data", dir},
		"of the kind exec, not of another": {"run", "--job", "1", "--data", dir, "--exec", mended, "--kind", "another"},
		"takes no FILE":                    {"run", items, "--job", "1", "--data", dir, "--exec", mended},
		"no number":                        {"run", "--job", "-1", "--data", dir, "--exec", mended},
		"name the FILE":                    {"run", "--data", dir},
	} {
		if r := must(t, exitUsage, args...); !strings.Contains(r.stderr, want) {
			t.Errorf("%q: no %q in: %s", args, want, r.stderr)
		}
	}
	must(t, exitOther, "run", "--job", "7", "--data", dir, "--exec", mended)
	must(t, exitOther, "run", "--job", "1", "--data", filepath.Join(dir, "none"), "--exec", mended)
	r := must(t, exitOK, "run", "--job", "1", "--data", dir, "--exec", mended)
	if !strings.Contains(r.stdout, "job 1 succeeded") {
		t.Errorf("the job did not succeed:\n%s%s", r.stdout, r.stderr)
	}
}

// TestCommandGetsItsOwnItemsOnly has a job of one command open, and begins with another one.
func TestCommandGetsItsOwnItemsOnly(t *testing.T) {
	t.Parallel()
	dir, items := t.TempDir(), numbered(t)
	began, seen := filepath.Join(dir, "began"), filepath.Join(dir, "seen")
	standing := script(t, "touch "+began+"; cat >/dev/null; sleep 600\n")
	first := start(t, strings.NewReader(""), "run", items, "--data", dir, "--exec", standing, "--exec-mode", "batch")
	first.await(&first.stderr, `job 1 items.jsonl: running`)
	first.interrupted("stopped: 0 of 5 items of job 1")

	other := script(t, "tee -a "+seen+"\n") // a line for a line, whatever is in it
	r := must(t, exitOther, "run", items, "--data", dir, "--exec", other)
	for _, want := range []string{"job 1 (items.jsonl) of this data folder has not ended", "tallyman run --job 1 --exec COMMAND --data " + dir,
		"tallyman cancel 1 --data " + dir, "--kind NAME"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("no %q in: %s", want, r.stderr)
		}
	}
	if _, err := os.Stat(seen); err == nil {
		t.Error("the other command was given items")
	}
	answering := script(t, "while read -r line; do echo '{}'; done\n")
	must(t, exitOK, "run", items, "--data", dir, "--exec", answering, "--kind", "other")
	must(t, exitOK, "run", "--job", "1", "--data", dir, "--exec", answering)
	must(t, exitOK, "run", items, "--data", dir, "--exec", answering)
}
