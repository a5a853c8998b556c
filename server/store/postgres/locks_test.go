package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// fill uploads a job of n batches of two items and registers a session.
func fill(t *testing.T, s store.Store, n int) (jobID, session int64) {
	t.Helper()
	up, err := s.OpenUpload(t.Context(), store.NewJob{UploadID: "a", Project: "project", Kind: "annotations", Mode: "replace"})
	if err != nil {
		t.Fatal(err)
	}
	g := store.IngestGroup{JobID: up.JobID, Epoch: up.Epoch, Finished: true}
	for i := range n {
		g.Batches = append(g.Batches, store.NewBatch{FirstItem: int64(2*i + 1), Items: 2, Weight: 2, Frame: []byte("frame")})
	}
	g.Position.Item, g.Position.Offset = int64(2*n), int64(20*n)
	if err := s.CommitIngest(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	session, _, err = s.RegisterSession(t.Context(), store.Session{WorkerID: "w", Kinds: []string{"annotations"}, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	return up.JobID, session
}

func claim(t *testing.T, s store.Store, jobID, session int64, request string, n int) []store.Grant {
	t.Helper()
	got, err := s.Claim(t.Context(), time.Minute, []store.ClaimRequest{{SessionID: session, RequestID: request, Max: n}},
		[]store.Turn{{JobID: jobID, Most: n}})
	if err != nil {
		t.Fatal(err)
	}
	return got.Grants[0]
}

// While another transaction holds a batch's row, claims, beats and the reaper go on without it and without waiting.
func TestLockedRowsAreSkipped(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	s := openAt(t, dsn, 4)
	jobID, session := fill(t, s, 5)
	held := claim(t, s, jobID, session, "1", 3)

	blocked, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blocked.Exec(t.Context(), `SELECT id FROM batches WHERE ordinal IN (1, 3) FOR UPDATE`); err != nil {
		t.Fatal(err)
	}

	if got := claim(t, s, jobID, session, "2", 5); len(got) != 1 || got[0].Ordinal != 4 {
		t.Errorf("claimed %+v, want the batch that nobody has locked", got)
	}
	stored := []job.Run{{Count: 1, Outcome: job.Stored}}
	for _, outcomes := range [][]job.Run{nil, stored} {
		var beats []store.Beat
		for _, g := range held {
			beats = append(beats, store.Beat{Lease: g.Lease, Outcomes: outcomes})
		}
		answers, skipped, err := s.Beat(t.Context(), time.Minute, beats)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int{1}, skipped); diff != "" {
			t.Errorf("skipped beats with %d outcomes (-want +got):\n%s", len(outcomes), diff)
		}
		done := int32(len(outcomes))
		want := []store.BeatAnswer{{JobID: jobID, Acknowledged: done}, {JobID: jobID}, {JobID: jobID, Acknowledged: done}}
		if diff := cmp.Diff(want, answers); diff != "" {
			t.Errorf("answers to beats with %d outcomes (-want +got):\n%s", len(outcomes), diff)
		}
	}
	execute(t, connect(t, dsn), `UPDATE batches SET lease_expires_at = now() - interval '1 second' WHERE ordinal IN (0, 2)`)
	reaped, err := s.Reap(t.Context(), nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(reaped.Ended) != 2 {
		t.Errorf("reaped %+v, want two", reaped.Ended)
	}
	if err := blocked.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, skipped, err := s.Beat(t.Context(), time.Minute, []store.Beat{{Lease: held[1].Lease}}); err != nil || len(skipped) != 0 {
		t.Errorf("afterwards a beat is skipped %v, %v", skipped, err)
	}
}

// A settlement waits for a row that somebody else holds, and is judged by what that one left.
func TestSettleWaits(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	s := openAt(t, dsn, 4)
	jobID, session := fill(t, s, 2)
	held := claim(t, s, jobID, session, "1", 2)

	blocked, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blocked.Exec(t.Context(), `UPDATE batches SET done_items = 1, outcomes = '\x0101' WHERE id = $1`, held[1].BatchID); err != nil {
		t.Fatal(err)
	}
	type result struct {
		answers []store.SettleAnswer
		err     error
	}
	done := make(chan result, 1)
	go func() {
		var group []store.Settlement
		for _, g := range held {
			group = append(group, store.Settlement{Lease: g.Lease, End: job.End{
				Kind: job.EndCompleted, Outcomes: []job.Run{{Count: 2, Outcome: job.Stored}},
			}})
		}
		answers, _, err := s.Settle(t.Context(), group)
		done <- result{answers, err}
	}()
	waitFor(t, connect(t, dsn), `SELECT count(*) = 1 FROM pg_locks WHERE NOT granted`)
	if err := blocked.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	completed := store.SettleAnswer{JobID: jobID, State: job.BatchCompleted}
	if diff := cmp.Diff([]store.SettleAnswer{completed, completed}, got.answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	b, _, err := s.GetBatch(t.Context(), held[1].BatchID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]job.Run{{Count: 2, Outcome: job.Stored}}, b.Outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// waitFor asks until the database answers true.
func waitFor(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var yes bool
		if err := conn.QueryRow(t.Context(), sql).Scan(&yes); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if yes {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited in vain for %s", sql)
		}
	}
}
