package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/sample"
)

// The life of a job from the command line: paused, resumed, cancelled, retried, its items taken out and mended.
func TestLifeOfAJob(t *testing.T) {
	t.Parallel()
	server, data, address := serve(t)
	path, made := collection(t, sample.Config{Documents: 60, Bad: 5})
	must(t, exitOK, "submit", path, "--server", address, "--max-bad-items", "1000", "--max-bad-percent", "99.5",
		"--stall-timeout", "-1s", "--attempt-timeout", "1h", "--max-running", "3")
	policy := objects(t, must(t, exitOK, "jobs", "1", "--server", address, "-o", "json").stdout)[0]["policy"].(map[string]any)
	for name, want := range map[string]any{
		"max_bad_items": "1000", "max_bad_percent": 99.5, "attempt_timeout": "3600s", "max_running": float64(3),
	} {
		if diff := cmp.Diff(want, policy[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	said := func(code int, want string, args ...string) {
		t.Helper()
		r := must(t, code, append(args, "--server", address)...)
		if !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("%v says no %q:\n%s%s", args, want, r.stdout, r.stderr)
		}
	}
	said(exitOK, "job 1 is paused", "pause", "1")
	said(exitOK, "1    paused  1", "jobs")
	said(exitOK, "job 1 is running", "resume", "1")
	said(exitUsage, "--state", "retry", "1", "--state", "completed")
	said(exitOther, "there is no batch to retry", "retry", "1")
	must(t, exitOK, "cancel", "1", "--yes", "--server", address)
	must(t, exitJobCancelled, "watch", "1", "--server", address)
	said(exitOther, "is being stopped or has ended", "pause", "1")
	said(exitOK, "tallyman watch 1 --server "+address, "retry", "1", "--state", "cancelled")
	store := "sqlite:" + filepath.Join(data, "annotations.db")
	must(t, exitOK, "work", "--server", address, "--store", store, "--exit-when-idle")
	watched := must(t, exitWithErrors, "watch", "1", "--server", address)
	if want := fmt.Sprintf("rejected   %d", made.Bad); !strings.Contains(watched.stdout, want) {
		t.Errorf("no %q:\n%s", want, watched.stdout)
	}
	if code := server.stop(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, server.stderr.String())
	}

	// Without a server the folder is opened in process.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if all := must(t, exitOK, "items", "1", "--data", data).stdout; all != string(content) {
		t.Errorf("all items are %d bytes that differ from the file's %d", len(all), len(content))
	}
	bad := must(t, exitOK, "items", "--outcome", "rejected", "--data", data)
	if n := lineCount(bad.stdout); n != made.Bad || !strings.Contains(string(content), bad.stdout[:strings.Index(bad.stdout, "\n")+1]) {
		t.Errorf("%d bad items, want %d:\n%s", n, made.Bad, bad.stdout)
	}
	for _, it := range objects(t, must(t, exitOK, "items", "--outcome", "rejected", "--data", data, "-o", "json").stdout) {
		if it["outcome"] != "OUTCOME_REJECTED" || it["file"] != filepath.Base(path) || it["line"] == nil || it["data"] == nil {
			t.Errorf("item %v", it)
		}
	}
	r := must(t, exitOther, "retry", "1", "--data", data)
	if !strings.Contains(r.stderr, "there is no batch to retry") {
		t.Errorf("retry of nothing: %s", r.stderr)
	}
}

// A job that is stopped by a limit says which, and what to do next.
func TestStrictJobNamesItsItem(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 30, Bad: 2})
	data := filepath.Join(t.TempDir(), "data")
	r := must(t, exitJobFailed, "run", path, "--strict", "--data", data)
	for _, part := range []string{"was rejected, and the job is strict", "tallyman items --job 1 --outcome rejected"} {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("no %q in the summary:\n%s", part, r.stdout)
		}
	}
}
