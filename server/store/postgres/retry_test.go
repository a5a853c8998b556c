package postgres_test

import (
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
