package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, path := filepath.Join(dir, "data"), filepath.Join(dir, "three.jsonl")
	text := `{"sourcedb":"PubMed","sourceid":"8701013","text":"a"}
{"sourcedb":"PMC","sourceid":"4402192","text":"b"}
{"sourcedb":"pmid","sourceid":"99","text":"c"}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, exitOK, "run", path, "--batch-items", "1", "--data", data)
	must(t, exitOK, "run", path, "--batch-items", "1", "--data", data)
	for document, batches := range map[string][]string{
		"PubMed:8701013": {"4", "1"}, "pubmed:8701013": {"4", "1"}, "PUBMED: 8701013": {"4", "1"}, "PMID:8701013": {"4", "1"},
		"pmid 8701013": {"4", "1"}, "PubMed:PMID:8701013": {"4", "1"},
		"PMC:4402192": {"5", "2"}, "pmc:4402192": {"5", "2"}, "PMC4402192": {"5", "2"}, "PMC:PMC4402192": {"5", "2"},
		"pmid:99": {"6", "3"}, // a database of that name
		"PMC:1":   nil, "PMID:1": nil, "PMC": nil, "FirstAuthors:8701013": nil,
	} {
		r := must(t, exitOK, "find", document, "-o", "tsv", "--data", data)
		if diff := cmp.Diff(batches, column(t, r.stdout, 1)); diff != "" {
			t.Errorf("find %q (-want +got):\n%s", document, diff)
		}
	}
	if r := must(t, exitOK, "find", "PMC4402192", "--limit", "1", "--data", data); lineCount(r.stdout) != 2 ||
		r.stderr != "only the first 1 are listed; --limit 0 lists all\n" {
		t.Errorf("bounded: %q, %q", r.stdout, r.stderr)
	}
}
