package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

const copiedTable = `CREATE TABLE copied (
	a bigint NOT NULL, b integer CHECK (b > 0), c smallint, d boolean, e text, f json)`

// copied begins the rows of that table, of which the second one may be refused.
func copied(second int) *copying {
	c := &copying{}
	c.begin("copied", "a, b, c, d, e, f")
	c.row(6)
	c.bigint(-1 << 40)
	c.integer(1 << 30)
	c.smallint(-2)
	c.boolean(true)
	c.text("ä𝛂")
	c.text(`{"a": 1}`)
	c.row(6)
	c.reference(7)
	c.integer(second)
	c.smallint(0)
	c.boolean(false)
	c.optional("")
	c.null()
	c.end()
	return c
}

// begun is a connection to a database with that table, in a transaction.
func begun(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn := connect(t, dsn)
	for _, statement := range []string{copiedTable, `BEGIN`} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

func rowsOf(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT copied::text FROM copied ORDER BY a`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestCopying(t *testing.T) {
	t.Parallel()
	conn := begun(t, pgtest.DSN(t, "empty", nil))
	c := copied(2)
	c.begin("copied", "a, e")
	c.row(2)
	c.bigint(8)
	c.text("second table")
	c.end()
	c.statement("COMMIT")
	if tag, err := c.run(t.Context(), conn); tag != "COMMIT" || err != nil {
		t.Fatalf("%q, %v", tag, err)
	}
	want := []string{`(-1099511627776,1073741824,-2,t,ä𝛂,"{""a"": 1}")`, `(7,2,0,f,,)`, `(8,,,,"second table",)`}
	if diff := cmp.Diff(want, rowsOf(t, conn)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// What follows a statement that fails is passed over, its rows too, and the connection can be used.
func TestCopyingFails(t *testing.T) {
	t.Parallel()
	conn := begun(t, pgtest.DSN(t, "empty", nil))
	c := copied(-2)
	c.begin("copied", "a")
	c.row(1)
	c.bigint(8)
	c.end()
	c.statement("COMMIT")
	_, err := c.run(t.Context(), conn)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.ConstraintName != "copied_b_check" {
		t.Errorf("%v, want a violation of the constraint", err)
	}
	if status := conn.PgConn().TxStatus(); status != 'E' {
		t.Errorf("status %c, want that of a failed transaction", status)
	}
	if _, err := conn.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if rows := rowsOf(t, conn); len(rows) > 0 {
		t.Errorf("%d rows are there: %v", len(rows), rows)
	}
}

// A caller that has no more time does not wait for a lock, and neither does the server for the caller.
func TestCopyingInterrupted(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	other := begun(t, dsn)
	if _, err := other.Exec(t.Context(), `LOCK TABLE copied`); err != nil {
		t.Fatal(err)
	}
	conn, witness := connect(t, dsn), connect(t, dsn)
	if _, err := conn.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	pid := conn.PgConn().PID()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		c := copied(2)
		c.statement("COMMIT")
		_, err := c.run(ctx, conn)
		ended <- err
	}()
	eventually(t, witness, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock')`, pid)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !conn.IsClosed() {
		t.Errorf("%v, closed: %v; want that it was cancelled and is closed", err, conn.IsClosed())
	}
	eventually(t, witness, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid)
	if _, err := other.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if rows := rowsOf(t, other); len(rows) > 0 {
		t.Errorf("%d rows are there: %v", len(rows), rows)
	}
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, conn *pgx.Conn, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for yes := false; !yes; {
		if err := conn.QueryRow(ctx, query, args...).Scan(&yes); err != nil {
			t.Fatalf("wait for %s: %v", query, err)
		}
	}
}
