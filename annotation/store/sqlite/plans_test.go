package sqlite

import (
	"path/filepath"
	"strings"
	"testing"
)

// The list of jobs must not walk tables that have a row for every item.
func TestPlanOfJobs(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	rows, err := s.reading.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+sqlJobs, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var id, parent, unused int
	var detail string
	searches := 0
	err = scan(rows, []any{&id, &parent, &unused, &detail}, func() {
		switch {
		case strings.HasPrefix(detail, "SEARCH"):
			searches++
		case strings.HasPrefix(detail, "SCAN") && detail != "SCAN k" && detail != "SCAN kept" && !strings.HasPrefix(detail, "SCAN CONSTANT"):
			t.Error(detail)
		case strings.Contains(detail, "TEMP B-TREE"):
			t.Error(detail)
		}
	})
	if err != nil || searches != 3 {
		t.Errorf("%d tables are searched by an index, want 3; %v", searches, err)
	}
}
