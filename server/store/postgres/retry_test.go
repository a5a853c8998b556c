package postgres_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// A batch that ends badly while a retry begins belongs to the run before it, and is tried again, or to the retry's, and is
// not: the retry waits for an end that has begun, an end for a retry that has.
func TestRetryAgainstBadEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		endsFirst bool
		moved     int
		ended     int64 // items, after the steps
	}{
		{"the end has begun", true, 2, 0},
		{"the retry has begun", false, 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
			s, ending, watcher := openAt(t, dsn, 4), openAt(t, dsn, 2), connect(t, dsn)
			jobID, session := fill(t, s, 3)
			held := claim(t, s, jobID, session, "1", 3)
			fail := func(g store.Grant) error {
				_, _, err := ending.Settle(t.Context(), []store.Settlement{{Lease: g.Lease, End: job.End{Kind: job.EndFailed}}})
				return err
			}
			fold := func() job.Job {
				t.Helper()
				j, _, err := s.Fold(t.Context(), jobID)
				if err != nil {
					t.Fatal(err)
				}
				return j
			}
			// It leaves a delta, which the retry must answer with one, and a connection that has prepared its statements.
			if err := fail(held[0]); err != nil {
				t.Fatal(err)
			}
			// Both can do everything but write down what has changed, which they do last.
			blocked, err := connect(t, dsn).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := blocked.Exec(t.Context(), `LOCK TABLE job_deltas IN SHARE ROW EXCLUSIVE MODE`); err != nil {
				t.Fatal(err)
			}
			ends, retries := make(chan error, 1), make(chan error, 1)
			calls := []func(){
				func() { ends <- fail(held[1]) },
				func() {
					_, err := s.RetryJob(t.Context(), jobID, store.Retry{RequestID: "r"})
					retries <- err
				},
			}
			if !test.endsFirst {
				calls[0], calls[1] = calls[1], calls[0]
			}
			go calls[0]()
			waitFor(t, watcher, `SELECT count(*) = 1 FROM pg_locks WHERE NOT granted`)
			go calls[1]()
			waitFor(t, watcher, `SELECT count(*) = 2 AND count(*) FILTER (WHERE locktype = 'advisory') = 1 FROM pg_locks WHERE NOT granted`)
			if err := blocked.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-ends; err != nil {
				t.Fatal(err)
			}
			if err := <-retries; err != nil {
				t.Fatal(err)
			}
			before := fold()
			if before.ItemsEnded() != test.ended || before.Run != 2 {
				t.Errorf("%d items have ended in run %d, want %d", before.ItemsEnded(), before.Run, test.ended)
			}
			moved := 0
			for more := true; more; {
				var n int
				if n, more, err = s.RetryStep(t.Context(), jobID, 1); err != nil {
					t.Fatal(err)
				}
				moved += n
			}
			if moved != test.moved {
				t.Errorf("moved %d batches, want %d", moved, test.moved)
			}
			after := fold()
			if diff := cmp.Diff(before.ItemOutcomes, after.ItemOutcomes); diff != "" {
				t.Errorf("items that have ended, before and after the steps (-before +after):\n%s", diff)
			}
			if after.TakenBack != (job.Job{}).TakenBack || after.Retrying != 0 {
				t.Errorf("at the end of the retry %v is taken back", after.TakenBack)
			}
		})
	}
}

// Two coordinators move the batches of one retry, each step one's or the other's. One is killed within a step: what it
// had done is undone, and the other does the rest. Nothing falls, and nothing is moved twice.
func TestRetryByTwoCoordinators(t *testing.T) {
	t.Parallel()
	const batches = 60
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	a, b, watcher := openAt(t, dsn, 4), openAt(t, dsn, 2), connect(t, dsn)
	jobID, _ := fill(t, a, batches)
	if _, err := a.StopJob(t.Context(), jobID, job.Cancelled, ""); err != nil {
		t.Fatal(err)
	}
	for n := 1; n > 0; {
		var err error
		if n, err = a.SweepJob(t.Context(), jobID, 100); err != nil {
			t.Fatal(err)
		}
	}
	if j, _, err := a.Fold(t.Context(), jobID); err != nil || j.State != job.Cancelled {
		t.Fatalf("the job is %v, %v", j.State, err)
	}
	if j, err := a.RetryJob(t.Context(), jobID, store.Retry{RequestID: "r"}); err != nil || j.ItemsEnded() != 0 {
		t.Fatalf("retried: %d items have ended, %v", j.ItemsEnded(), err)
	}

	var moved [2]atomic.Int64
	step := func(i int, s store.Store, steps int) {
		for range steps {
			n, more, err := s.RetryStep(t.Context(), jobID, 3)
			if err != nil {
				t.Error(err)
			}
			moved[i].Add(int64(n))
			if j, _, err := s.Fold(t.Context(), jobID); err != nil || j.ItemsEnded() != 0 || j.Run != 2 {
				t.Errorf("in run %d %d items have ended, %v", j.Run, j.ItemsEnded(), err)
			}
			if !more {
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { step(0, a, 5) })
	wg.Go(func() { step(1, b, 5) })
	wg.Wait()
	if n := moved[0].Load() + moved[1].Load(); n != 30 {
		t.Errorf("ten steps of three moved %d batches", n)
	}

	// The first one is killed while it waits for a batch that somebody else has locked.
	blocked, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blocked.Exec(t.Context(), `SELECT id FROM batches WHERE ordinal = 32 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	killed, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := a.RetryStep(killed, jobID, 3)
		done <- err
	}()
	waitFor(t, watcher, `SELECT count(*) = 1 FROM pg_locks WHERE NOT granted`)
	cancel()
	if err := <-done; err == nil {
		t.Error("a step that was interrupted says that it was not")
	}
	waitFor(t, watcher, `SELECT count(*) = 0 FROM pg_locks WHERE NOT granted`)
	if err := blocked.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	step(1, b, batches)
	if n := moved[0].Load() + moved[1].Load(); n != batches {
		t.Errorf("moved %d batches, want %d", n, batches)
	}
	j, _, err := b.Fold(t.Context(), jobID)
	if err != nil || j.Batches[job.BatchPending] != batches || j.Retrying != 0 || j.TakenBack != (job.Job{}).TakenBack || j.ItemsEnded() != 0 {
		t.Errorf("at the end: %v, retrying %v, taken back %v, %d items ended, %v", j.Batches, j.Retrying, j.TakenBack, j.ItemsEnded(), err)
	}
}
