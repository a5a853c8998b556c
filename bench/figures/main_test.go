package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFigures(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	document := write("doc.md", "# Title\n"+begin+"old\n"+end+"the rest\n")
	report := write("a.json", `{"machine":{"cores":2,"system":"linux/amd64","go":"go1.26"},"version":"v1","started":"2026-01-02T03:04:05Z",
		"versions":{"River":"v9"},"results":[{"scenario":"drain","settings":{"slots":"8","batches":"10"}}],
		"rows":[{"scenario":"drain","engine":"sqlite","metric":"drained","unit":"batches/s","median":1234,"least":1,"most":2000,"rounds":3}]}`)
	output := write("go.txt", "goos: linux\npkg: x\nBenchmarkA-2 \t 10 \t 5 ns/op\nPASS\n")
	want := "# Title\n" + begin + `
Version v1, 2026-01-02, on an unknown processor, 2 cores, linux/amd64, go1.26; load before it began 0. River: v9.

#### drain

batches 10, slots 8

| on | | median | least | most | rounds | |
| --- | --- | ---: | ---: | ---: | ---: | --- |
| sqlite | drained | 1,234 | 1.00 | 2,000 | 3 | batches/s |

Go's benchmarks:

` + "```text\npkg: x\nBenchmarkA-2 \t 10 \t 5 ns/op\n```\n\n" + end + "the rest\n"
	for range 2 { // the second time replaces what the first wrote
		if err := run(document, []string{report, output}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("document (-want +got):\n%s", diff)
		}
	}
	if err := run(write("other.md", "nothing\n"), []string{report}); err == nil {
		t.Error("a document without a place is changed, want an error")
	}
}
