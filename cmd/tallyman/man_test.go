package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManualPages(t *testing.T) {
	t.Setenv(sourceDateEpoch, "1700000000")
	folder := filepath.Join(t.TempDir(), "man", "man1")
	must(t, exitOK, "man", folder)
	content, err := os.ReadFile(filepath.Join(folder, "tallyman-run.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"TALLYMAN"`, "Nov 2023", "tallyman run", `--project`} {
		if !strings.Contains(string(content), want) {
			t.Errorf("the page of run does not say %q:\n%.400s", want, content)
		}
	}
	for _, verb := range (&program{}).root().Commands() {
		_, err := os.Stat(filepath.Join(folder, "tallyman-"+verb.Name()+".1"))
		if verb.IsAvailableCommand() != (err == nil) {
			t.Errorf("%s, which is hidden: %v, has a page: %v", verb.Name(), !verb.IsAvailableCommand(), err == nil)
		}
	}
}
