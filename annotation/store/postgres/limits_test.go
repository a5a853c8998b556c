package postgres

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

func lasting() time.Time { return time.Now().Add(time.Hour) }

func open(t *testing.T, dsn string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) }) //nolint:errcheck // the test may have ended it
	return conn
}

// A writer that is frozen with a transaction open keeps its connection. What it holds must not keep the next attempt out.
func TestFrozenWriter(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	s := open(t, dsn)
	s.limits = limits{lock: 50 * time.Millisecond, idle: time.Minute, statement: time.Minute, silent: 100 * time.Millisecond}
	w, err := s.Writer(t.Context(), "cluster")
	if err != nil {
		t.Fatal(err)
	}
	lease := store.Lease{Batch: 1, Attempt: 1, Job: 1, Deadline: lasting}
	if err := w.Begin(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	frozen, other := connect(t, dsn), connect(t, dsn)
	for conn, name := range map[*pgx.Conn]string{frozen: application, other: "psql"} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(`SET application_name = '%s'; BEGIN; SELECT`, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := frozen.Exec(t.Context(), sqlFence, lease.Batch, lease.Attempt); err != nil {
		t.Fatal(err)
	}
	lease.Attempt = 2
	if err := w.Begin(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if _, err := frozen.Exec(t.Context(), `COMMIT`); err == nil {
		t.Error("the frozen writer's transaction can still commit")
	}
	if _, err := other.Exec(t.Context(), `COMMIT`); err != nil {
		t.Errorf("somebody else's transaction was ended: %v", err)
	}
}

// Connections are lost between transactions and in the middle of them; every item is stored once all the same.
func TestLostConnections(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	s := open(t, dsn)
	w, err := s.Writer(t.Context(), "cluster")
	if err != nil {
		t.Fatal(err)
	}
	lease := store.Lease{Batch: 1, Attempt: 1, Job: 1, Deadline: lasting}
	if err := w.Begin(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	var entries []store.Entry
	for n := range int64(1200) {
		entries = append(entries, store.Entry{Number: n + 1, Item: &annotation.Item{
			Key:         annotation.Key{SourceDB: "L", SourceID: strconv.FormatInt(n, 10)},
			Text:        "lost",
			Length:      4,
			Denotations: []annotation.Span{{ID: "T1", Begin: 0, End: 4, Obj: "Word"}},
		}})
	}
	killer := connect(t, dsn)
	kill := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() {
		for range kill {
			_, err := killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()`)
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	kill <- struct{}{}
	stored := 0
	err = w.Store(t.Context(), lease, store.Job{ID: 1, Project: "lost", Mode: store.ModeReplace}, entries, func(durable []store.Result) {
		stored += len(durable)
		for range 3 {
			kill <- struct{}{}
		}
	})
	close(kill) // what is left of it hits the reader
	if err != nil || stored != len(entries) {
		t.Errorf("%d items are stored, %v", stored, err)
	}
	counts, err := s.Count(t.Context(), "lost")
	if want := (store.Counts{Documents: 1200, Denotations: 1200}); err != nil || counts != want {
		t.Errorf("%+v, %v, want %+v", counts, err, want)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			s, err := Open(t.Context(), dsn)
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Errorf("opening an empty database at once: %v", err)
		}
	}
	if _, err := connect(t, dsn).Exec(t.Context(), `INSERT INTO store_goose_version (version_id, is_applied) VALUES (999, true)`); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), dsn); err == nil {
		t.Errorf("a newer schema is opened; closed with %v", s.Close())
	}
}

// A plan that was made while the tables were empty must not walk them when they are large.
func TestPlans(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	open(t, dsn)
	conn := connect(t, dsn)
	for name, query := range map[string]string{
		"lock": sqlLock, "documents": sqlDocuments, "decided": sqlDecided, "anchors": sqlAnchors,
		"skips": sqlSkips, "all anchors": sqlAllAnchors, "merging": sqlMerging, "move": sqlMove, "spans": sqlContentSpans,
		"relations": sqlContentRelations, "attributes": sqlContentAttributes, "settle": sqlSettleSpans, "forget": sqlForgetItems,
		"jobs": sqlJobs,
	} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), sqlSettings, defaultLimits.settings()...); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Prepare(t.Context(), name, query); err != nil {
			t.Fatal(err)
		}
		arguments := strings.Repeat(", NULL", parameters(query))
		rows, err := tx.Query(t.Context(), `EXPLAIN EXECUTE "`+name+`" (`+strings.TrimPrefix(arguments, ", ")+")")
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		plan := strings.Join(lines, "\n")
		for _, bad := range []string{"Seq Scan", "Hash Join", "Merge Join", "Join Filter", "Materialize"} {
			if strings.Contains(plan, bad) {
				t.Errorf("%s\nis planned with a %s:\n%s", query, bad, plan)
			}
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// parameters returns how many parameters a query has.
func parameters(query string) int {
	n := 0
	for strings.Contains(query, "$"+strconv.Itoa(n+1)) {
		n++
	}
	return n
}

// TestFaults: only what an item itself is to blame for may reject it, and no attempt may fail for what will pass.
func TestFaults(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]write.Fault{
		"40P01": write.Transient, // deadlock
		"57P01": write.Transient, // shut down
		"57P03": write.Transient, // starting
		"08006": write.Transient, // connection lost
		"53100": write.Full,      // disk full
		"53200": write.Transient, // out of memory
		"53300": write.Transient, // too many connections
		"58030": write.Transient, // input or output
		"25006": write.Transient, // read-only
		"22P05": write.Refused,   // a character that the database's encoding does not have
		"54000": write.Refused,   // a limit of the program
		"42P01": write.Broken,    // no such table
		"XX001": write.Broken,    // damaged
	} {
		if got, _ := fault(fmt.Errorf("store: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("SQLSTATE %s is fault %d, want %d", code, got, want)
		}
	}
}
