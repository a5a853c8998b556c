package storetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The queries that the documentation shows are those that the engines' tests run.
func TestDocumentedQueries(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "annotation-store.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, example := range Examples() {
		want = append(want, example.Name+"\n\n"+example.Query+"\n")
	}
	for _, block := range strings.Split(string(page), "```")[1:] {
		if query, ok := strings.CutPrefix(block, "sql\n"); ok {
			before, _, _ := strings.Cut(string(page), "```"+block)
			before = strings.TrimSpace(before)
			got = append(got, before[strings.LastIndex(before, "\n")+1:]+"\n\n"+query)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/annotation-store.md (-tested +documented):\n%s", diff)
	}
}
