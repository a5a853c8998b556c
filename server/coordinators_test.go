package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// TestCoordinatorsTellEachOther has everything asked of one coordinator be noticed at another one on the same database.
func TestCoordinatorsTellEachOther(t *testing.T) {
	t.Parallel()
	database := pgtest.DSN(t, "coordinator", postgres.Migrate)
	here, there := start(t, Config{Database: database}, nil), start(t, Config{Database: database}, nil)

	session := there.register("w")
	got := make(chan []*pb.Grant, 1)
	go func() { got <- there.claim(session, "r", 1) }()
	up := here.submit(header("shared"), lines(1, 2)) // one batch: nothing is left to sweep
	grants := <-got
	if len(grants) != 1 {
		t.Fatalf("the worker there got %d batches", len(grants))
	}
	if again := here.claim(session, "r", 1); len(again) != 1 || cmp.Diff(leases(grants), leases(again)) != "" {
		t.Errorf("the claim repeated here got %v, want %v", leases(again), leases(grants))
	}
	beating := there.beating(session)
	beating.want(grants[0], goOn)
	watching := there.watch(there.ctx, up.GetJobId(), 0)
	there.snapshot(watching)

	asked := time.Now()
	_, err := here.jobs.CancelJob(here.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
	here.must(err)
	// No beat is sent, so that only a push can tell.
	m, err := beating.Recv()
	there.must(err)
	if m.GetSequence() != 0 || m.GetLeases()[0].GetVerdict() != stop {
		t.Errorf("the worker there was told %v", m)
	}
	t.Logf("told after %v", time.Since(asked))
	there.settle(session, &pb.Settlement{
		BatchId: grants[0].GetBatchId(), Attempt: grants[0].GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_CANCELLED})
	for _, c := range []*coordinator{here, there} {
		j := c.ended(up.GetJobId())
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_CANCELLED: 2}, outcomes(j)); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	}
	if n := len(here.log.lines(t, "job ended")) + len(there.log.lines(t, "job ended")); n != 1 {
		t.Errorf("%d log lines on the end of the job", n)
	}
}

func TestBrokenStreamsLeasesMoveOn(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database, Lease: 10 * time.Second, ReconnectGrace: 300 * time.Millisecond}, nil)
		up := c.submit(header("moves"), lines(1, 2))
		session := c.register("dead")
		g := c.claimOne(session, "r")
		b := c.beating(session)
		b.want(g, goOn)
		broke := time.Now()
		b.cut()
		other := c.register("alive")
		again := c.claimOne(other, "r")
		if took := time.Since(broke); took > 5*time.Second || again.GetBatchId() != g.GetBatchId() || again.GetAttempt() != 2 {
			t.Errorf("claimed %v after %v", again, took)
		}
		if a := c.settle(session, completed(g)); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_LEASE_LOST {
			t.Errorf("settle of the dead: %v", a)
		}
		c.settle(other, completed(again))
		if j := c.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED || len(j.GetLastCrashes()) != 1 {
			t.Errorf("ended as %v with crashes %v", j.GetState(), j.GetLastCrashes())
		}
	})
}
