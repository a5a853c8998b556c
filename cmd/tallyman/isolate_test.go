//go:build linux

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The handler does the same in processes of its own as in this one.
func TestIsolate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "collection.jsonl")
	must(t, exitOK, "sample", "--documents", "300", "--bad", "5", file)
	var exports [][]string
	for _, flags := range [][]string{nil, {"--isolate"}} {
		dir := t.TempDir()
		must(t, exitWithErrors, append([]string{"run", file, "--data", dir, "--project", "my-corpus", "--workers", "3"}, flags...)...)
		counts := must(t, exitOK, "findings", "--data", dir, "-o", "tsv").stdout
		lines := strings.Split(counts+must(t, exitOK, "export", "--data", dir, "--project", "my-corpus").stdout, "\n")
		slices.Sort(lines) // batches end in any order
		exports = append(exports, lines)
	}
	if diff := cmp.Diff(exports[0], exports[1]); diff != "" || len(exports[0]) < 300 {
		t.Errorf("isolated (-without +with):\n%s", diff)
	}
}

// Isolated processes ask the sources of their worker.
func TestIsolateWithSource(t *testing.T) {
	t.Parallel()
	url := sourceOf(t, "k: 1", map[string]string{"1": "Many words."})
	dir := t.TempDir()
	must(t, exitWithErrors, "run", sourcedFile(t), "--data", dir, "--project", "my-corpus", "--isolate",
		"--source", "PubMed="+url, "--source-header", "PubMed=X-Key: k: 1", "--source-timeout", "20s")
	var got []any
	for _, o := range objects(t, must(t, exitOK, "export", "--data", dir, "--project", "my-corpus").stdout) {
		got = append(got, o["text"])
	}
	if diff := cmp.Diff([]any{"words", "Many words."}, got); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
}
