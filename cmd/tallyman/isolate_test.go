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
