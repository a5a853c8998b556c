package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	dialects "github.com/pressly/goose/v3/database"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/postgres"
	"github.com/tallyman-dev/tallyman/annotation/store/storetest"
	loading "github.com/tallyman-dev/tallyman/bench/postgres"
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
			// The time is that of the server, too, which the processor time of this process is not.
			var cost storetest.Cost
			rows, err := loading.Load(b.Context(), from.(database).dsn, pgtest.DSN(b, "annotations", migrate), b.TempDir(),
				store.Tables(), cost.Measure)
			if err != nil {
				b.Fatal(err)
			}
			return rows, storetest.Cost{Time: cost.Time}
		})
}
