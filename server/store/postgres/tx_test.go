package postgres

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{DSN: pgtest.DSN(t, "coordinator", Migrate), MaxConns: 2})
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

const raise = `DO $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '`

// A transaction that lost against others is run again, a bounded number of times; any other error is the caller's. Either
// way nothing of it stays, and its connection can be used again.
func TestWriteRetries(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for _, c := range []struct {
		name  string
		code  string
		fails int // that many times
		runs  int
		ok    bool
		want  error // if it does not succeed, and is one that callers tell apart
	}{
		{"serialization", serializationFailure, 2, 3, true, nil},
		{"deadlock", deadlockDetected, 1, 2, true, nil},
		{"deadlocks without end", deadlockDetected, 1000, attempts, false, nil},
		{"anything else", uniqueViolation, 1, 1, false, nil},
		{"full", diskFull, 1, 1, false, store.ErrFull},
		{"shut down", "57P01", 1, 1, false, store.ErrUnavailable},
	} {
		runs := 0
		err := s.write(t.Context(), "test", func(_ context.Context, t *tx) error {
			runs++
			t.queue(`INSERT INTO findings (job_id, item, severity, code, file, line, byte_offset, document, path, message)
				VALUES (1, 1, 1, $1, '', 0, 0, '', '', '')`, c.name)
			if runs <= c.fails {
				t.queue(raise + c.code + `'; END $$`)
			}
			return nil
		})
		switch {
		case runs != c.runs:
			t.Errorf("%s: ran %d times, want %d", c.name, runs, c.runs)
		case c.ok != (err == nil):
			t.Errorf("%s: %v", c.name, err)
		case c.want != nil && !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		var kept int
		if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM findings WHERE code = $1`, c.name).Scan(&kept); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 1, false: 0}[c.ok]; kept != want {
			t.Errorf("%s: %d rows stay, want %d", c.name, kept, want)
		}
	}
	if n := s.pool.Stat().NewConnsCount(); n > 2 {
		t.Errorf("%d connections were opened, want those of before used again", n)
	}
}

// A caller that gives up gets its own error, and the connection it used does not stay in a transaction.
func TestWriteCancelled(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.write(ctx, "test", func(ctx context.Context, t *tx) error {
		t.queue(`SELECT 1`)
		if err := t.send(ctx); err != nil {
			return err
		}
		cancel()
		t.queue(`SELECT 2`)
		return t.send(ctx)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("write: %v, want Canceled", err)
	}
	var open int
	err = s.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND state LIKE 'idle in transaction%'`).Scan(&open)
	if err != nil || open != 0 {
		t.Errorf("%d connections are left in a transaction, %v", open, err)
	}
}

// A renewal rewrites the row and no index entry: its column is in none.
func TestRenewalsAreHOT(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.DSN(t, "coordinator", Migrate))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // its database is dropped anyway
	const load = `
		INSERT INTO batches (job_id, ordinal, first_item, item_count, weight, state, attempt, session_id, claim_request_id,
		                     claimed_at, lease_expires_at)
		SELECT 1, n, n, 1, 1, 1, 1, 1, 'r', now(), now() FROM generate_series(1, 20) AS n`
	if _, err := conn.Exec(t.Context(), load); err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	leases := make([]job.Lease, 20)
	for i := range leases {
		leases[i] = job.Lease{BatchID: int64(i + 1), Attempt: 1, SessionID: 1}
	}
	a := newLeases(leases)
	if _, err := tx.Exec(t.Context(), renewLeases, a.batches, a.attempts, a.sessions, time.Minute, a.batches[:7], a.attempts[:7]); err != nil {
		t.Fatal(err)
	}
	var got [2]int
	err = tx.QueryRow(t.Context(), `
		SELECT pg_stat_get_xact_tuples_updated('batches'::regclass), pg_stat_get_xact_tuples_hot_updated('batches'::regclass)`,
	).Scan(&got[0], &got[1])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([2]int{20, 20}, got); diff != "" {
		t.Errorf("rows renewed, of these HOT (-want +got):\n%s", diff)
	}
}

// On a young table the planner's numbers are those of an empty one. A group of claims must not search for each batch more
// than a few times even so.
func TestClaimsOfAYoungTable(t *testing.T) {
	t.Parallel()
	const batches = 300
	config, err := pgx.ParseConfig(pgtest.DSN(t, "coordinator", Migrate))
	if err != nil {
		t.Fatal(err)
	}
	connection(config, maxSilence)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // its database is dropped anyway
	for _, load := range []string{
		`INSERT INTO jobs (upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, submitted_at, updated_at)
			VALUES ('u', 'project', 'k', 'replace', '{}', '{}', '{}', 0, 'f', 0, now(), now())`,
		`INSERT INTO sessions (worker_id, host, pid, version, kinds, slots, registered_at, beat_at)
			VALUES ('w', 'h', 1, 'v', '{k}', 1, now(), now())`,
		`INSERT INTO batches (job_id, ordinal, first_item, item_count, weight) SELECT 1, n, n, 1, 1 FROM generate_series(1, 5000) AS n`,
	} {
		if _, err := conn.Exec(t.Context(), load); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	rows, err := tx.Query(t.Context(), lockPending, []int64{1}, []int32{0}, []int32{batches}, batches)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id int64, err error) {
		return id, row.Scan(nil, &id, nil, nil, nil, nil, nil, nil, nil, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	sessions, requests := slices.Repeat([]int64{1}, len(locked)), slices.Repeat([]string{"r"}, len(locked))
	claimed, err := tx.Exec(t.Context(), claimBatches, locked, sessions, requests, time.Minute, frameBytes)
	if err != nil || claimed.RowsAffected() != batches {
		t.Fatalf("%d batches are claimed, %v; want %d", claimed.RowsAffected(), err, batches)
	}
	var searches int
	if err := tx.QueryRow(t.Context(), `SELECT pg_stat_get_xact_numscans('batches_pkey'::regclass)`).Scan(&searches); err != nil {
		t.Fatal(err)
	}
	if searches == 0 || searches > 5*batches {
		t.Errorf("%d searches by id for %d batches", searches, batches)
	}
}

// A delta of a version that this program does not know stays, and so do all others of that job: what came later builds on
// what came before.
func TestFoldLeavesUnknownDeltas(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	up, err := s.OpenUpload(t.Context(), store.NewJob{UploadID: "a", Project: "p", Kind: "k", Mode: "m"})
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{`\x0100`, `\xff`, `\x0100`} {
		if _, err := s.pool.Exec(t.Context(), `INSERT INTO job_deltas (job_id, delta) VALUES ($1, $2::text::bytea)`, up.JobID, form); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Fold(t.Context(), up.JobID); !errors.Is(err, job.ErrDelta) {
		t.Errorf("fold: %v, want ErrDelta", err)
	}
	var kept int
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM job_deltas`).Scan(&kept); err != nil || kept != 3 {
		t.Errorf("%d deltas stay, %v, want 3", kept, err)
	}
	if j, err := s.GetJob(t.Context(), up.JobID); err != nil || j.Revision != 1 {
		t.Errorf("the job is at revision %d, %v", j.Revision, err)
	}
}

// TestSilentTransaction has a coordinator freeze in the middle of a transaction: what it has locked must be free again
// before leases that it keeps others from renewing run out.
func TestSilentTransaction(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", Migrate)
	open := func(silence time.Duration) *Store {
		s, err := Open(t.Context(), Config{DSN: dsn, MaxConns: 2, Silence: silence})
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
	frozen, awake := open(500*time.Millisecond), open(0)
	session, _, err := awake.RegisterSession(t.Context(), store.Session{WorkerID: "w", Kinds: []string{"k"}, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	locked := make(chan error, 1)
	wake := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- frozen.write(t.Context(), "freeze", func(ctx context.Context, t *tx) error {
			t.queue(`SELECT FROM sessions WHERE id = $1 FOR UPDATE`, session)
			locked <- t.send(ctx)
			<-wake
			t.queue(`UPDATE sessions SET host = 'frozen' WHERE id = $1`, session)
			return nil
		})
	}()
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), maxSilence/2)
	defer cancel()
	if _, err := awake.OpenStream(ctx, session); err != nil {
		t.Errorf("nobody else gets any further: %v", err)
	}
	close(wake)
	if err := <-ended; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the frozen one went on with %v, want %v", err, store.ErrUnavailable)
	}
}
