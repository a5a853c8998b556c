package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

const giveBack = pb.LeaseVerdict_LEASE_VERDICT_RELEASE

func (c *coordinator) pause(id int64) *pb.Job {
	c.t.Helper()
	r, err := c.jobs.PauseJob(c.ctx, &pb.PauseJobRequest{JobId: id})
	c.must(err)
	return r.GetJob()
}

func (c *coordinator) resume(id int64) *pb.Job {
	c.t.Helper()
	r, err := c.jobs.ResumeJob(c.ctx, &pb.ResumeJobRequest{JobId: id})
	c.must(err)
	return r.GetJob()
}

// pushed takes what is pushed next and returns its one verdict.
func (b *beating) pushed() pb.LeaseVerdict {
	b.t.Helper()
	m, err := b.Recv()
	b.must(err)
	if m.GetSequence() != 0 || len(m.GetLeases()) != 1 {
		b.t.Fatalf("got %v, want a push about one lease", m)
	}
	return m.GetLeases()[0].GetVerdict()
}

func released(g *pb.Grant) *pb.Settlement {
	return &pb.Settlement{
		BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_RELEASED, FromItem: g.GetDoneItems(),
	}
}

// A paused job holds nothing: its workers are told at once, without a beat, and what they give back waits, also over a
// restart, until the job is resumed, which wakes whoever waits for work.
func TestPauseIsPushedAndHolds(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("paused"), lines(1, 4))
		session := c.register("w")
		g := c.claimOne(session, "r1")
		b := c.beating(session)
		b.want(g, goOn)
		watching := c.watch(c.ctx, up.GetJobId(), 0)
		for c.snapshot(watching).GetProgress().GetItemsInFlight() == 0 {
		}

		if j := c.pause(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_PAUSED {
			t.Errorf("the job is %v", j.GetState())
		}
		if v := b.pushed(); v != giveBack {
			t.Errorf("pushed %v", v)
		}
		b.want(g, giveBack)
		c.settle(session, released(g))
		for {
			j := c.snapshot(watching)
			if j.GetState() == pb.JobState_JOB_STATE_PAUSED && j.GetProgress().GetItemsInFlight() == 0 {
				break
			}
		}
		if grants := c.claim(session, "r2", 2); len(grants) != 0 {
			t.Errorf("claimed %v of a paused job", grants)
		}
		c.must(b.CloseSend())
		c.must(c.halt())

		c = start(t, Config{Database: t.database}, nil)
		session = c.register("w2")
		if grants := c.claim(session, "r3", 2); len(grants) != 0 {
			t.Errorf("claimed %v of a paused job after a restart", grants)
		}
		got := make(chan []*pb.Grant, 1)
		began := time.Now()
		go func() { got <- c.claim(session, "r4", 2) }()
		pass(10 * time.Second)
		c.resume(up.GetJobId())
		grants := <-got
		if took := time.Since(began); len(grants) != 2 || took > 10*time.Second+100*time.Millisecond {
			t.Fatalf("%d batches %v after the claim, want 2 at once after 10s", len(grants), took)
		}
		for _, g := range grants {
			c.settle(session, completed(g))
		}
		if j := c.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("ended as %v", j.GetState())
		}
		_, err := c.jobs.PauseJob(c.ctx, &pb.PauseJobRequest{JobId: up.GetJobId()})
		c.wantError("pause an ended job", err, codes.FailedPrecondition, "JOB_STOPPED")
		_, err = c.jobs.ResumeJob(c.ctx, &pb.ResumeJobRequest{JobId: up.GetJobId()})
		c.wantError("resume an ended job", err, codes.FailedPrecondition, "JOB_STOPPED")
		_, err = c.jobs.PauseJob(c.ctx, &pb.PauseJobRequest{JobId: 99})
		c.wantError("pause an unknown job", err, codes.NotFound, "JOB_NOT_FOUND")
	})
}

// What is paused and resumed at one coordinator is noticed at another one without waiting for a beat.
func TestPauseReachesOtherCoordinators(t *testing.T) {
	t.Parallel()
	database := pgtest.DSN(t, "coordinator", postgres.Migrate)
	here, there := start(t, Config{Database: database}, nil), start(t, Config{Database: database}, nil)
	up := here.submit(header("shared"), lines(1, 2))
	session := there.register("w")
	g := there.claimOne(session, "r1")
	b := there.beating(session)
	b.want(g, goOn)
	here.pause(up.GetJobId())
	if v := b.pushed(); v != giveBack {
		t.Errorf("the worker there was told %v", v)
	}
	there.settle(session, released(g))
	got := make(chan []*pb.Grant, 1)
	go func() { got <- there.claim(session, "r2", 1) }()
	here.resume(up.GetJobId())
	grants := <-got
	if len(grants) != 1 || grants[0].GetAttempt() != 2 {
		t.Fatalf("claimed %v after the resume", grants)
	}
	there.settle(session, completed(grants[0]))
	for _, c := range []*coordinator{here, there} {
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 2}, outcomes(c.ended(up.GetJobId()))); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	}
}
