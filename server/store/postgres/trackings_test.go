package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
	"github.com/tallyman-dev/tallyman/server/store/storetest"
)

// queried runs SQL and returns the rows as text.
func queried(tb testing.TB, conn *pgx.Conn, query string) (all [][]string) {
	tb.Helper()
	results, err := conn.PgConn().Exec(tb.Context(), query).ReadAll()
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	for _, values := range results[0].Rows {
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = string(v)
			if v == nil {
				row[i] = "null"
			}
		}
		all = append(all, row)
	}
	return all
}

// openWithQuery opens a store, and a connection besides.
func openWithQuery(tb testing.TB) (store.Store, storetest.Query) {
	tb.Helper()
	dsn := pgtest.DSN(tb, "coordinator", postgres.Migrate)
	conn := connect(tb, dsn)
	return openAt(tb, dsn, 4), func(tb testing.TB, query string) [][]string { tb.Helper(); return queried(tb, conn, query) }
}

func TestTrackings(t *testing.T) {
	t.Parallel()
	storetest.Trackings(t, openWithQuery)
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	storetest.Families(t, openWithQuery, `ALTER TABLE batches DROP CONSTRAINT batches_state_check`)
}

func TestRemoval(t *testing.T) {
	t.Parallel()
	storetest.Removal(t, openWithQuery, `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname`)
}

func TestPaging(t *testing.T) {
	t.Parallel()
	storetest.Paging(t, openWithQuery, "now()")
}
