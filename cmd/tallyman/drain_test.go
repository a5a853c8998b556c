package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/sample"
)

// TestDrain drains a server's own worker, without which the server goes on, and a worker beside it, which ends well.
func TestDrain(t *testing.T) {
	t.Parallel()
	server, folder, address := serve(t, "--workers", "1")
	workers := func() []string {
		t.Helper()
		var ids []string
		for line := range strings.Lines(must(t, exitOK, "workers", "--server", address, "-o", "tsv").stdout) {
			ids = append(ids, strings.SplitN(line, "\t", 2)[0])
		}
		return ids[1:] // without the head
	}
	server.await(&server.stderr, "worker registered.*session_id")
	own := workers()
	if len(own) != 1 {
		t.Fatalf("workers %q, want one", own)
	}
	if r := must(t, exitOK, "drain", own[0], "--server", address); !strings.Contains(r.stdout, own[0]+" is draining") {
		t.Errorf("drain said %q", r.stdout)
	}
	server.await(&server.stderr, "goes on without them")

	working := start(t, strings.NewReader(""), "work", "--server", address, "--worker-id", "host-7",
		"--store", "sqlite:"+filepath.Join(folder, "annotations.db"))
	working.await(&working.stderr, "worker registered")
	path, _ := collection(t, sample.Config{Documents: 20})
	must(t, exitOK, "submit", path, "--server", address, "--watch")
	must(t, exitOK, "drain", "host-7", "--server", address)
	working.await(&working.stderr, "the worker was drained")
	if code := working.wait(); code != exitOK {
		t.Errorf("the drained worker ended with %d", code)
	}
	if left := workers(); len(left) != 0 {
		t.Errorf("workers %q are left", left)
	}
	if r := must(t, exitOther, "drain", "host-7", "--server", address); !strings.Contains(r.stderr, "host-7") {
		t.Errorf("draining it again: %s", r.stderr)
	}
}
