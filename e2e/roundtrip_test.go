//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
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
		items                        func(testing.TB) []byte
		documents, annotations, bags int // annotations as they were written
	}{
		{"bc5cdr", file("annotations/bc5cdr.jsonl"), goldenItems, goldenAnnotations, 0},
		{"bb-event", file("annotations/BB-event.array.json"), 146, 3_273, 0},
		{"pmc-7646410", file("annotations/PMC-7646410.array.json"), 1, 4_217, 0},
		{"archives", archived, 12, 215, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first, second := t.TempDir(), t.TempDir()
			write := func(name string, content []byte) string {
				path := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			exported := func(data, project, how string) string {
				return succeed(t, "export", "--project", project, "--discontinuous", how, "--data", data)
			}
			succeed(t, "run", write("items.json", test.items(t)), "--project", project, "--sourcedb", "PubMed", "--data", first)
			for _, how := range []string{"chain", "bag"} {
				want := exported(first, project, how)
				again := write("again.jsonl", []byte(want))
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

// file returns a function that reads real data.
func file(name string) func(testing.TB) []byte {
	return func(t testing.TB) []byte {
		t.Helper()
		content, err := os.ReadFile(shared(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
}

// archived returns the items of the real archives, a line each.
func archived(t testing.TB) []byte {
	t.Helper()
	var lines bytes.Buffer
	add := func(item []byte) {
		if err := json.Compact(&lines, item); err != nil {
			t.Fatal(err)
		}
		lines.WriteByte('\n')
	}
	for _, name := range []string{"BC5CDR-example", "NCBIdevset-example", "elliptic-coordination", "tutorial-example"} {
		unzipped, err := gzip.NewReader(bytes.NewReader(file("archives/bconv-" + name + ".tgz")(t)))
		if err != nil {
			t.Fatal(err)
		}
		for archive := tar.NewReader(unzipped); ; {
			_, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			item, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			add(item)
		}
	}
	add(file("archives/bconv-elliptic-coordination.json")(t))
	return lines.Bytes()
}
