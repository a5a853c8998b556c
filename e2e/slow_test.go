//go:build linux

package e2e

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestSlowWorker keeps a worker from its store for ten lease lengths, while it beats.
func TestSlowWorker(t *testing.T) {
	t.Parallel()
	const lease = 1500 * time.Millisecond
	c := small.undisturbed(t)
	s := postgresSite(t)
	s.serve("--lease", lease.String(), "--heartbeat-interval", "300ms", "--reconnect-grace", "500ms")
	release := s.block("fences")
	s.work("slow", "--slots", "2")
	job := s.upload(c.path, client.Upload{})

	conn := s.connect()
	awaitBlocked(t, conn, "fences")
	const expiry = `SELECT extract(epoch FROM min(lease_expires_at))::float8 FROM batches WHERE job_id = $1 AND state = 1`
	first := value[*float64](t, conn, expiry, job)
	if first == nil {
		t.Fatal("no batch is running")
	}
	eventually(t, 20*lease, "the leases to be renewed for ten lease lengths", func() bool {
		now := value[*float64](t, conn, expiry, job)
		if now == nil {
			t.Fatal("a worker that beats lost its leases")
		}
		return *now-*first >= 10*lease.Seconds()
	})
	release()

	ended := s.await(job)
	s.checkTrial(ended, c)
	for _, b := range s.batches(job) {
		if b.GetAttempt() != 1 {
			t.Errorf("batch %d took %d attempts, want 1", b.GetBatchId(), b.GetAttempt())
		}
	}
	if n := value[int64](t, conn, `SELECT count(*) FROM attempts`); n != 0 {
		t.Errorf("%d attempts did not complete, want none", n)
	}
}

// TestFrozenWorker freezes a worker in the middle of writing, lets its lease run out and another worker do its work,
// and wakes it: it must change nothing in either database, and be of use again.
func TestFrozenWorker(t *testing.T) {
	t.Parallel()
	for _, where := range []struct{ name, table string }{
		{"before the first statement of its attempt", "fences"},
		{"within a transaction", "annotation_spans"},
	} {
		t.Run(where.name, func(t *testing.T) {
			t.Parallel()
			c := small.undisturbed(t)
			s := postgresSite(t)
			s.serve(short...)
			conn := s.connect()
			release := s.block(where.table)
			frozen := s.work("frozen", "--slots", "1")
			job := s.upload(c.path, client.Upload{})
			awaitBlocked(t, conn, where.table)
			held := s.heldBy(job, "frozen")
			if len(held) == 0 {
				t.Fatal("the worker writes without a lease")
			}
			frozen.freeze()
			eventually(t, jobTimeout, "the leases of the frozen worker to end", func() bool {
				return len(s.heldBy(job, "frozen")) == 0
			})
			release()
			helper := s.work("helper", "--slots", "2")
			ended := s.await(job)
			s.checkTrial(ended, c)
			s.checkLost(held)
			helper.terminate()
			eventually(t, jobTimeout, "the counters to be folded", func() bool {
				return value[int64](t, conn, `SELECT count(*) FROM job_deltas WHERE job_id = $1`, job) == 0
			})
			before := snapshot(t, conn, job)

			frozen.thaw()
			// It is the only worker now: once this job is done it has understood.
			again := s.await(s.upload(c.path, client.Upload{Project: "afterwards"}))
			if got, want := again.GetState(), tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS; got != want {
				t.Errorf("the next job is %v, want %v", got, want)
			}
			for _, b := range s.batches(again.GetJobId()) {
				if b.GetWorkerId() != "frozen" || b.GetAttempt() != 1 {
					t.Errorf("batch %d of the next job: worker %s, attempt %d; want frozen, 1", b.GetBatchId(), b.GetWorkerId(), b.GetAttempt())
				}
			}
			frozen.terminate()
			if diff := cmp.Diff(before, snapshot(t, conn, job)); diff != "" {
				t.Errorf("the woken worker changed (-before +after):\n%s", tail(diff))
			}
		})
	}
}

// heldBy returns the batches of a job that a worker holds.
func (s *site) heldBy(job int64, worker string) []*tallymanv1.Batch {
	s.t.Helper()
	var held []*tallymanv1.Batch
	for _, b := range s.batches(job, tallymanv1.BatchState_BATCH_STATE_RUNNING) {
		if b.GetWorkerId() == worker {
			held = append(held, b)
		}
	}
	return held
}

// checkLost fails the test unless the first attempt at each of the batches was lost.
func (s *site) checkLost(batches []*tallymanv1.Batch) {
	s.t.Helper()
	for _, b := range batches {
		attempts := s.attempts(b.GetBatchId())
		if len(attempts) != 1 || attempts[0].GetEnd() != tallymanv1.AttemptEnd_ATTEMPT_END_LOST || attempts[0].GetAttempt() != 1 {
			s.t.Errorf("ended attempts of batch %d: %v, want the first, lost", b.GetBatchId(), attempts)
		}
	}
}
