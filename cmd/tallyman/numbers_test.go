package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/sample"
)

// TestNumbersOfJobsAndBatches takes one for the other: what was meant is said.
func TestNumbersOfJobsAndBatches(t *testing.T) {
	t.Parallel()
	path, made := collection(t, sample.Config{Documents: 20, Bad: 2})
	data := filepath.Join(t.TempDir(), "data")
	must(t, exitWithErrors, "run", path, "--data", data)
	for want, args := range map[string][]string{
		"there is no batch 999; the batches of job 999: tallyman batches --job 999 --data " + data:     {"batches", "999", "--data", data},
		"there is no job 999; the findings of batch 999: tallyman findings --batch 999 --data " + data: {"findings", "999", "--data", data},
		"name one": {"batches", "1", "--batch", "2", "--data", data},
		"is that of a batch, which has a job already": {"batches", "1", "--job", "1", "--data", data},
	} {
		if r := tallyman(t, args...); r.code == exitOK || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: exit code %d, no %q in: %s", args, r.code, want, r.stderr)
		}
	}
	if a, b := must(t, exitOK, "batches", "1", "--data", data), must(t, exitOK, "batches", "--batch", "1", "--data", data); a != b {
		t.Errorf("batches 1 and --batch 1 differ:\n%s%s", a.stdout, b.stdout)
	}
	for _, f := range objects(t, must(t, exitOK, "findings", "1", "-o", "json", "--data", data).stdout) {
		batch := f["batch_id"].(string)
		if batch == "0" { // found as it was read
			continue
		}
		r := must(t, exitOK, "findings", "--batch", batch, "-o", "json", "--data", data)
		if !strings.Contains(r.stdout, `"batch_id":"`+batch+`"`) || strings.Contains(r.stderr, "newest job") {
			t.Errorf("findings of batch %s: %+v", batch, r)
		}
		made.Bad--
	}
	if made.Bad == 2 {
		t.Error("no finding of a batch was looked at")
	}
}

func TestExportOfNothing(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 3})
	data := filepath.Join(t.TempDir(), "data")
	must(t, exitOK, "run", path, "--data", data)
	r := must(t, exitOther, "export", "--project", "colection", "--data", data)
	if r.stdout != "" || !strings.Contains(r.stderr, "no documents of a project colection") {
		t.Errorf("export of an unknown project: %+v", r)
	}
}

// TestSubmitOfAnotherKind sends what is no annotations, without saying so.
func TestSubmitOfAnotherKind(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t)
	path := filepath.Join(t.TempDir(), "numbers.jsonl")
	if err := os.WriteFile(path, []byte("1\n2\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := must(t, exitOK, "submit", path, "--server", address)
	want := "  3 items rejected as it was read, which is all of them: without --kind they must be annotations; " +
		"why: tallyman findings --job 1 --server " + address + "\n"
	if !strings.Contains(r.stdout, want) {
		t.Errorf("no %q in: %s", want, r.stdout)
	}
}
