package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/storetest"
)

// besides opens the file of a store a second time, as another program does.
func besides(tb testing.TB, path string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(1) // so that a PRAGMA stays
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close the database: %v", err)
		}
	})
	return db
}

// queried runs SQL and returns the rows as text.
func queried(tb testing.TB, db *sql.DB, query string) (all [][]string) {
	tb.Helper()
	rows, err := db.QueryContext(tb.Context(), query)
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		tb.Fatal(err)
	}
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			tb.Fatal(err)
		}
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = fmt.Sprint(v)
			if v == nil {
				row[i] = "null"
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return all
}

// openWithQuery opens a store, and its file besides.
func openWithQuery(tb testing.TB) (store.Store, storetest.Query) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "tallyman.db")
	s, err := Open(tb.Context(), Config{Path: path, Migrate: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close store: %v", err)
		}
	})
	db := besides(tb, path)
	return s, func(tb testing.TB, query string) [][]string { tb.Helper(); return queried(tb, db, query) }
}

func TestTrackings(t *testing.T) {
	t.Parallel()
	storetest.Trackings(t, openWithQuery)
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	storetest.Families(t, openWithQuery, `PRAGMA ignore_check_constraints = 1`)
}

func TestRemoval(t *testing.T) {
	t.Parallel()
	storetest.Removal(t, openWithQuery, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name`)
}

func TestPaging(t *testing.T) {
	t.Parallel()
	storetest.Paging(t, openWithQuery, "1")
}

func TestTrackingsHaveUnixSeconds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tallyman.db")
	s, err := Open(t.Context(), Config{Path: path, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	jobID := uploaded(t, s, "a", 1)
	before := time.Now()
	g := claimed(t, s, jobID, time.Minute)[0]
	db := besides(t, path)
	var started float64
	err = db.QueryRowContext(t.Context(), "SELECT started_at FROM batch_job_trackings WHERE id = ?", g.BatchID).Scan(&started)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.UnixMicro(int64(started * 1e6)); got.Before(before.Add(-time.Second)) || got.After(time.Now().Add(time.Second)) {
		t.Errorf("started at %v, want about %v", got, before)
	}
}

// Queries for a status, or a job, read the index that is made for it: nothing is walked through but what is asked for.
func TestTrackingsUseIndexes(t *testing.T) {
	t.Parallel()
	s := opened(t)
	for _, q := range []struct {
		where string
		scans []string // of whole tables and indexes
	}{
		{"parent_job_id = 7", nil},
		{"parent_job_id = 7 AND status = 'crashed'", nil},
		{"id = 7", nil},
	} {
		var scans []string
		for _, step := range plan(t, s, "SELECT * FROM batch_job_trackings WHERE "+q.where) {
			if strings.HasPrefix(step, "SCAN ") && step != "SCAN b" && !strings.HasPrefix(step, "SCAN k ") {
				scans = append(scans, step)
			}
		}
		if diff := cmp.Diff(q.scans, scans); diff != "" {
			t.Errorf("%s (-want +got):\n%s", q.where, diff)
		}
	}
}
