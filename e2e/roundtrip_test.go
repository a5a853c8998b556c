//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRoundTrip stores real collections, and what is exported of them in another store and in another project of the same
// one: it is exported again as it is, with annotations of several parts as chains and as span arrays.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                         string
		data                         string // files as they are
		documents, annotations, bags int    // annotations as they were written
	}{
		{"bc5cdr", "annotations/bc5cdr.jsonl", goldenItems, goldenAnnotations, 0},
		{"bb-event", "annotations/BB-event.array.json", 146, 3_273, 0},
		{"pmc-7646410", "annotations/PMC-7646410.array.json", 1, 4_217, 0},
		{"archives", "archives", 12, 215, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first, second := t.TempDir(), t.TempDir()
			exported := func(data, project, how string) string {
				return succeed(t, "export", "--project", project, "--discontinuous", how, "--data", data)
			}
			succeed(t, "run", shared(t, test.data), "--project", project, "--sourcedb", "PubMed", "--data", first)
			for _, how := range []string{"chain", "bag"} {
				want := exported(first, project, how)
				again := filepath.Join(t.TempDir(), "again.jsonl")
				if err := os.WriteFile(again, []byte(want), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, data := range []string{first, second} {
					succeed(t, "run", again, "--project", "again-"+how, "--data", data)
					checkExport(t, want, exported(data, "again-"+how, how))
				}
				if how == "chain" {
					continue
				}
				documents, annotations := 0, 0
				for line := range strings.Lines(want) {
					var item struct{ Denotations, Blocks, Relations, Attributes []json.RawMessage }
					if err := json.Unmarshal([]byte(line), &item); err != nil {
						t.Fatal(err)
					}
					documents++
					annotations += len(item.Denotations) + len(item.Blocks) + len(item.Relations) + len(item.Attributes)
				}
				bags := strings.Count(want, `"span":[`)
				if documents != test.documents || annotations != test.annotations || bags != test.bags {
					t.Errorf("%d documents with %d annotations, of which %d have several parts, want %d with %d and %d",
						documents, annotations, bags, test.documents, test.annotations, test.bags)
				}
			}
		})
	}
}
