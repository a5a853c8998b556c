package main_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/sample"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/worker"
)

// TestExample compiles the program and runs it against a coordinator and a worker.
func TestExample(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "submit")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	address := serve(t, filepath.Join(dir, "tallyman.db"))
	collection := filepath.Join(dir, "collection.jsonl")
	file, err := os.Create(collection)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sample.Generate(file, sample.Config{Documents: 100}); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, address, "example", collection).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if want, last := "JOB_STATE_SUCCEEDED 120 of 120 items", lines[len(lines)-1]; last != want {
		t.Errorf("last line %q, want %q", last, want)
	}
}

// serve runs a coordinator, and a worker that takes every item as stored, until the test ends.
func serve(t *testing.T, database string) (address string) {
	t.Helper()
	s, err := server.Open(t.Context(), server.Config{Database: "sqlite:" + database, Migrate: true, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	background(t, s.Run)
	w, err := worker.New(worker.Config{Address: s.Addr(), Handlers: map[string]worker.Handler{
		"annotations": worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			for range b.Open() {
				b.Report(worker.Result{Outcome: worker.Stored})
			}
			return nil
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	background(t, w.Run)
	return s.Addr()
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
