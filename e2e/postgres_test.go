//go:build linux

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// queryTimeout bounds a look into a database.
const queryTimeout = 30 * time.Second

// connect connects to the database of a site that is on Postgres.
func (s *site) connect() *pgx.Conn {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.store)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// value returns the one value that a query gives.
func value[T any](t testing.TB, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), queryTimeout)
	defer cancel()
	var v T
	if err := conn.QueryRow(ctx, query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// execute executes a statement.
func execute(t testing.TB, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), queryTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// block locks a table of the annotation store, so that workers come no further, until release is called.
func (s *site) block(table string) (release func()) {
	s.t.Helper()
	conn := s.connect()
	execute(s.t, conn, "BEGIN")
	execute(s.t, conn, "LOCK TABLE "+pgx.Identifier{table}.Sanitize()+" IN ACCESS EXCLUSIVE MODE")
	return func() {
		s.t.Helper()
		execute(s.t, conn, "ROLLBACK")
	}
}

// awaitBlocked waits until a statement of a worker stands before the lock on a table.
func awaitBlocked(t testing.TB, conn *pgx.Conn, table string) {
	t.Helper()
	awaitManyBlocked(t, conn, table, 1)
}

// awaitManyBlocked waits until at least n statements of workers stand before the lock on a table.
func awaitManyBlocked(t testing.TB, conn *pgx.Conn, table string, n int) {
	t.Helper()
	eventually(t, jobTimeout, fmt.Sprintf("workers to write into %s, %d at once", table, n), func() bool {
		return n <= value[int](t, conn, `SELECT count(*) FROM pg_locks
			WHERE relation = $1::regclass AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, table)
	})
}

// ofJob are queries for everything that the databases say about a job. Texts of documents have no job: all of them.
var ofJob = []struct{ table, condition string }{
	{"jobs", "id = $1"},
	{"batches", "job_id = $1"},
	{"attempts", "job_id = $1"},
	{"findings", "job_id = $1"},
	{"job_deltas", "job_id = $1"},
	{"store_items", "job_id = $1"},
	{"annotation_spans", "job_id = $1"},
	{"annotation_relations", "job_id = $1"},
	{"annotation_attributes", "job_id = $1"},
	{"fences", "batch_id IN (SELECT id FROM batches WHERE job_id = $1)"},
	{"project_documents", "project = (SELECT project FROM jobs WHERE id = $1)"},
	{"documents", "$1::bigint IS NOT NULL"},
}

// snapshot returns everything that the databases say about a job, as text, a row a line.
func snapshot(t testing.TB, conn *pgx.Conn, job int64) string {
	t.Helper()
	var all strings.Builder
	for _, of := range ofJob {
		rows := value[string](t, conn, fmt.Sprintf(
			`SELECT coalesce(string_agg(r::text, E'\n' ORDER BY r::text), '') FROM %s r WHERE %s`, of.table, of.condition), job)
		fmt.Fprintf(&all, "%s:\n%s\n", of.table, rows)
	}
	return all.String()
}

// asking has questions answered by the database of a site, though that goes away now and then.
type asking struct {
	s    *site
	conn *pgx.Conn
}

func (a *asking) connection() *pgx.Conn {
	a.s.t.Helper()
	eventually(a.s.t, startTimeout, "the database to answer", func() bool {
		ctx, cancel := context.WithTimeout(a.s.t.Context(), queryTimeout)
		defer cancel()
		if a.conn != nil && a.conn.Ping(ctx) == nil {
			return true
		}
		var err error
		a.conn, err = pgx.Connect(ctx, a.s.store)
		return err == nil
	})
	return a.conn
}

// ask returns the one value that a query gives.
func ask[T any](a *asking, query string, args ...any) T {
	a.s.t.Helper()
	return value[T](a.s.t, a.connection(), query, args...)
}

// pass waits until so much time has passed by the database's clock.
func (a *asking) pass(d time.Duration) {
	a.s.t.Helper()
	const clock = `SELECT extract(epoch FROM clock_timestamp())::float8`
	began := ask[float64](a, clock)
	eventually(a.s.t, d+jobTimeout, "time to pass", func() bool { return ask[float64](a, clock)-began >= d.Seconds() })
}
