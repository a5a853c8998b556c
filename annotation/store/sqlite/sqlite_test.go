package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3/database"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/sqlite"
	"github.com/tallyman-dev/tallyman/annotation/store/storetest"
	loading "github.com/tallyman-dev/tallyman/bench/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is a store that knows its path.
type file struct {
	*sqlite.Store
	path string
}

func open(t testing.TB, path string) file {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return file{s, path}
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Test(t, storetest.Engine{Open: openTwice, Query: query})
}

func openTwice(t *testing.T) (store.Store, func() store.Store) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	return open(t, path), func() store.Store { return open(t, path) }
}

func query(ctx context.Context, s store.Store, query string) ([][]string, error) {
	db, err := sql.Open("sqlite", "file:"+s.(file).path+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var table [][]string
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i, v := range values {
			row[i] = fmt.Sprint(v)
		}
		table = append(table, row)
	}
	return table, rows.Err()
}

func TestSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	errs := make(chan error, 6)
	for range cap(errs) {
		go func() {
			s, err := sqlite.Open(t.Context(), path)
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Errorf("opening a new file at once: %v", err)
		}
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `INSERT INTO store_goose_version (version_id, is_applied) VALUES (999, 1)`); err != nil {
		t.Fatal(err)
	}
	if s, err := sqlite.Open(t.Context(), path); err == nil {
		t.Errorf("a newer schema is opened; closed with %v", s.Close())
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	storetest.Upgrade(t, db, database.DialectSQLite3, "sqlite", "zeroblob(32)", func() store.Store { return open(t, path) })
}

func TestPath(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "100% of #1?mode=ro&x.db")
	open(t, path)
	if found, err := filepath.Glob(filepath.Join(filepath.Dir(path), "100% of #1[?]mode=ro&x.db")); err != nil || len(found) != 1 {
		t.Errorf("the file is not there: %v, %v", found, err)
	}
	for _, bad := range []string{"", ":memory:", filepath.Join(t.TempDir(), "no", "such", "folder.db"), t.TempDir()} {
		if s, err := sqlite.Open(t.Context(), bad); err == nil {
			t.Errorf("%q is opened; closed with %v", bad, s.Close())
		}
	}
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Writer(t.Context(), "cluster"); err == nil {
		t.Error("a closed store gives a writer")
	}
	if _, err := s.Count(t.Context(), "project"); err == nil {
		t.Error("a closed store is read")
	}
}

// FuzzStore fuzzes this engine only, which needs no server; the suite has both.
func FuzzStore(f *testing.F) {
	storetest.Fuzz(f, open(f, filepath.Join(f.TempDir(), "store.db")))
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, open(b, filepath.Join(b.TempDir(), "bench.db")))
}

// BenchmarkLoad compares storing with one transaction of prepared inserts.
func BenchmarkLoad(b *testing.B) {
	storetest.BenchmarkLoad(b, func() store.Store { return open(b, filepath.Join(b.TempDir(), "store.db")) },
		func(from store.Store) (int64, storetest.Cost) {
			to := filepath.Join(b.TempDir(), "loaded.db")
			empty, err := sqlite.Open(b.Context(), to) // which makes the tables
			if err != nil {
				b.Fatal(err)
			}
			if err := empty.Close(); err != nil {
				b.Fatal(err)
			}
			var cost storetest.Cost
			rows, err := loading.Load(b.Context(), from.(file).path, to, store.Tables(), cost.Measure)
			if err != nil {
				b.Fatal(err)
			}
			return rows, cost
		})
}
