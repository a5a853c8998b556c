package postgres_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	dialects "github.com/pressly/goose/v3/database"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/postgres"
	"github.com/tallyman-dev/tallyman/annotation/store/storetest"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// database is a store that knows its connection string.
type database struct {
	*postgres.Store
	dsn string
}

func open(t testing.TB, dsn string) database {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return database{s, dsn}
}

func migrate(ctx context.Context, dsn string) error {
	s, err := postgres.Open(ctx, dsn)
	if err != nil {
		return err
	}
	return s.Close()
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Test(t, storetest.Engine{Open: openTwice, Query: query})
}

func openTwice(t *testing.T) (store.Store, func() store.Store) {
	t.Helper()
	dsn := pgtest.DSN(t, "annotations", migrate)
	return open(t, dsn), func() store.Store { return open(t, dsn) }
}

func query(ctx context.Context, s store.Store, query string) ([][]string, error) {
	conn, err := pgx.Connect(ctx, s.(database).dsn)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	// The simple protocol gives every value as text.
	results, err := conn.PgConn().Exec(ctx, query).ReadAll()
	if err != nil {
		return nil, err
	}
	var table [][]string
	for _, values := range results[0].Rows {
		var row []string
		for _, v := range values {
			row = append(row, string(v))
		}
		table = append(table, row)
	}
	return table, nil
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	storetest.Upgrade(t, db, dialects.DialectPostgres, "postgres", `decode(repeat('00', 32), 'hex')`, func() store.Store { return open(t, dsn) })
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, open(b, pgtest.DSN(b, "annotations", migrate)))
}

// BenchmarkLoad compares storing with COPY.
func BenchmarkLoad(b *testing.B) {
	storetest.BenchmarkLoad(b, func() store.Store { return open(b, pgtest.DSN(b, "annotations", migrate)) },
		func(from store.Store) (int64, storetest.Cost) {
			rows, took, err := copyAll(b.Context(), from.(database).dsn, pgtest.DSN(b, "annotations", migrate), b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			return rows, storetest.Cost{Time: took}
		})
}

// copyAll copies the rows of a store to another database, through files. The time is that of COPY FROM and of the commit.
func copyAll(ctx context.Context, from, to, folder string) (rows int64, took time.Duration, err error) {
	source, err := pgx.Connect(ctx, from)
	if err != nil {
		return 0, 0, err
	}
	defer source.Close(ctx)
	target, err := pgx.Connect(ctx, to)
	if err != nil {
		return 0, 0, err
	}
	defer target.Close(ctx)
	files := make(map[string]*os.File)
	for _, table := range storetest.LoadedTables() {
		f, err := os.Create(filepath.Join(folder, table))
		if err != nil {
			return 0, 0, err
		}
		defer f.Close()
		if _, err := source.PgConn().CopyTo(ctx, f, "COPY "+table+" TO STDOUT (FORMAT binary)"); err != nil {
			return 0, 0, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return 0, 0, err
		}
		files[table] = f
	}
	began := time.Now()
	if _, err := target.Exec(ctx, "BEGIN"); err != nil {
		return 0, 0, err
	}
	for _, table := range storetest.LoadedTables() {
		tag, err := target.PgConn().CopyFrom(ctx, files[table], "COPY "+table+" FROM STDIN (FORMAT binary)")
		if err != nil {
			return 0, 0, err
		}
		rows += tag.RowsAffected()
	}
	_, err = target.Exec(ctx, "COMMIT")
	return rows, time.Since(began), err
}
