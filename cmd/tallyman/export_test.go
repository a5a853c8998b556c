package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Annotations of several parts come out as they went in, also where their ids were taken, and go in again.
func TestExportDiscontinuous(t *testing.T) {
	t.Parallel()
	passage := func(text string) string {
		return `{"sourcedb":"PMC","sourceid":"1","text":"` + text + `","denotations":[` +
			`{"id":"T1","span":[{"begin":0,"end":1},{"begin":2,"end":3},{"begin":4,"end":5}],"obj":"A"},` +
			`{"id":"T2","span":{"begin":0,"end":5},"obj":"B"}],"attributes":[{"id":"A1","subj":"T1","pred":"p","obj":1}]}` + "\n"
	}
	const bags = `{"sourcedb":"PMC","sourceid":"1","text":"a b c\nd e f","denotations":[` +
		`{"id":"T1","span":[{"begin":0,"end":1},{"begin":2,"end":3},{"begin":4,"end":5}],"obj":"A"},` +
		`{"id":"T2","span":{"begin":0,"end":5},"obj":"B"},` +
		`{"id":"T1.2","span":[{"begin":6,"end":7},{"begin":8,"end":9},{"begin":10,"end":11}],"obj":"A"},` +
		`{"id":"T2.2","span":{"begin":6,"end":11},"obj":"B"}],` +
		`"attributes":[{"id":"A1","subj":"T1","pred":"p","obj":1},{"id":"A1.2","subj":"T1.2","pred":"p","obj":1}]}` + "\n"
	data := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(t.TempDir(), "corpus.jsonl")
	if err := os.WriteFile(file, []byte(passage("a b c")+passage("d e f")), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, exitOK, "run", file, "--data", data)
	bag := must(t, exitOK, "export", "--project", "corpus", "--discontinuous", "bag", "--data", data).stdout
	if diff := cmp.Diff(strings.ReplaceAll(bags, "c\nd", `c\nd`), bag); diff != "" {
		t.Errorf("export (-want +got):\n%s", diff)
	}
	chains := must(t, exitOK, "export", "--project", "corpus", "--data", data).stdout
	if n := strings.Count(chains, "_FRAGMENT"); n != 4 || strings.Count(chains, "_lexicallyChainedTo") != 4 {
		t.Errorf("%d parts in %s", n, chains)
	}
	for name, exported := range map[string]string{"bag": bag, "chain": chains} {
		again := filepath.Join(t.TempDir(), "again-"+name+".jsonl")
		if err := os.WriteFile(again, []byte(exported), 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, exitOK, "run", again, "--data", data)
		if got := must(t, exitOK, "export", "--project", "again-"+name, "--discontinuous", name, "--data", data).stdout; got != exported {
			t.Errorf("a %s that is stored is exported differently:\n%s", name, cmp.Diff(exported, got))
		}
	}
}
