package server

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

func (c *coordinator) retry(r *pb.RetryJobRequest) *pb.Job {
	c.t.Helper()
	resp, err := c.jobs.RetryJob(c.ctx, r)
	c.must(err)
	return resp.GetJob()
}

// stalled is a store whose retries do not move anything: what a coordinator that is killed leaves behind.
type stalled struct{ store.Store }

func (stalled) RetryingJobs(context.Context) ([]int64, error) { return nil, nil }

// A retry of a whole job is asked of a coordinator that is gone before its first step; another life of it does the rest.
func TestRetrySurvivesARestart(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store { return stalled{s} })
		h := header("again")
		h.Policy.MaxAttempts = 1
		up := c.submit(h, lines(1, 6))
		session := c.register("w")
		grants := c.claim(session, "r", 3)
		c.settle(session, completed(grants[0]))
		c.settle(session, failed(grants[1], "no"))
		c.settle(session, failed(grants[2], "no"))
		first := c.ended(up.GetJobId())
		if first.GetState() != pb.JobState_JOB_STATE_COMPLETED_WITH_ERRORS || first.GetRun() != 1 {
			t.Fatalf("ended as %v in run %d", first.GetState(), first.GetRun())
		}
		j := c.retry(&pb.RetryJobRequest{JobId: up.GetJobId(), RequestId: "1"})
		if j.GetState() != pb.JobState_JOB_STATE_RUNNING || j.GetRun() != 2 || j.GetRevision() <= first.GetRevision() {
			t.Errorf("retried: %v in run %d at revision %d", j.GetState(), j.GetRun(), j.GetRevision())
		}
		c.must(c.halt())

		c = start(t, Config{Database: t.database}, nil)
		if j := c.retry(&pb.RetryJobRequest{JobId: up.GetJobId(), RequestId: "1"}); j.GetRun() != 2 {
			t.Errorf("the same retry again began run %d", j.GetRun())
		}
		watching := c.watch(c.ctx, up.GetJobId(), first.GetRevision())
		session = c.register("w2")
		for n := 0; n < 2; {
			for _, g := range c.claim(session, "again"+string(rune('0'+n)), 2) {
				if g.GetAttempt() != 2 {
					t.Errorf("granted attempt %d", g.GetAttempt())
				}
				c.settle(session, completed(g))
				n++
			}
		}
		for seen := first.GetRevision(); ; {
			j := c.snapshot(watching)
			if j.GetRevision() <= seen || j.GetRun() != 2 {
				t.Errorf("revision %d of run %d after %d", j.GetRevision(), j.GetRun(), seen)
			}
			if seen = j.GetRevision(); j.GetEndedAt() != nil {
				break
			}
		}
		last := c.ended(up.GetJobId())
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 6}, outcomes(last)); diff != "" ||
			last.GetState() != pb.JobState_JOB_STATE_SUCCEEDED || last.GetRun() != 2 {
			t.Errorf("ended as %v in run %d, outcomes (-want +got):\n%s", last.GetState(), last.GetRun(), diff)
		}
		if n := len(c.batch(grants[1].GetBatchId()).GetAttempts()); n != 1 {
			t.Errorf("%d attempts are remembered", n)
		}
		_, err := c.jobs.RetryJob(c.ctx, &pb.RetryJobRequest{JobId: up.GetJobId(), RequestId: "2"})
		c.wantError("retry of a job that succeeded", err, codes.FailedPrecondition, "NOTHING_TO_RETRY")
		_, err = c.jobs.RetryJob(c.ctx, &pb.RetryJobRequest{JobId: 99, RequestId: "2"})
		c.wantError("retry of an unknown job", err, codes.NotFound, "JOB_NOT_FOUND")
	})
}

// What is retried at one coordinator is given to a worker that waits at another, and who begins to watch there follows
// it to its new end, though that coordinator saw the job end.
func TestRetryReachesOtherCoordinators(t *testing.T) {
	t.Parallel()
	database := pgtest.DSN(t, "coordinator", postgres.Migrate)
	here, there := start(t, Config{Database: database}, nil), start(t, Config{Database: database}, nil)
	up := here.submit(header("shared"), lines(1, 4))
	session := there.register("w")
	there.settle(session, completed(there.claimOne(session, "r1")))
	_, err := here.jobs.CancelJob(here.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
	here.must(err)
	if j := there.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_CANCELLED {
		t.Fatalf("ended as %v", j.GetState())
	}
	got := make(chan []*pb.Grant, 1)
	go func() { got <- there.claim(session, "r2", 1) }()
	here.retry(&pb.RetryJobRequest{JobId: up.GetJobId(), RequestId: "1"})
	watching := there.watch(there.ctx, up.GetJobId(), 0)
	if j := there.snapshot(watching); j.GetRun() != 2 || j.GetEndedAt() != nil {
		t.Errorf("who watches there sees %v in run %d", j.GetState(), j.GetRun())
	}
	grants := <-got
	if len(grants) != 1 || grants[0].GetAttempt() != 1 {
		t.Fatalf("claimed %v after the retry", grants)
	}
	there.settle(session, completed(grants[0]))
	for j := there.snapshot(watching); j.GetEndedAt() == nil; {
		j = there.snapshot(watching)
	}
	for _, c := range []*coordinator{here, there} {
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 4}, outcomes(c.ended(up.GetJobId()))); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	}
}

// A job that passes its limit stops its workers at once, without a beat, and the reason says which limit it was.
func TestLimitStopsWorkersAtOnce(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("limited")
		h.Policy.MaxAttempts, h.Policy.MaxBadItems = 1, 1
		up := c.submit(h, lines(1, 8))
		session := c.register("w")
		grants := c.claim(session, "r", 2)
		b := c.beating(session)
		b.want(grants[0], goOn)
		c.settle(session, failed(grants[1], "no"))
		if v := b.pushed(); v != stop {
			t.Errorf("pushed %v", v)
		}
		c.settle(session, &pb.Settlement{
			BatchId: grants[0].GetBatchId(), Attempt: grants[0].GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_CANCELLED})
		j := c.ended(up.GetJobId())
		want := map[pb.Outcome]int64{pb.Outcome_OUTCOME_FAILED: 2, pb.Outcome_OUTCOME_CANCELLED: 6}
		if diff := cmp.Diff(want, outcomes(j)); diff != "" || j.GetState() != pb.JobState_JOB_STATE_FAILED ||
			!strings.Contains(j.GetReason(), "max_bad_items") {
			t.Errorf("ended as %v because %q, outcomes (-want +got):\n%s", j.GetState(), j.GetReason(), diff)
		}
		if n := len(c.log.lines(t, "job is stopped")); n != 1 {
			t.Errorf("%d log lines on the stop", n)
		}
	})
}
