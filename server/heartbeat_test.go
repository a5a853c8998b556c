package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

// beating is a heartbeat stream of a worker.
type beating struct {
	*coordinator
	pb.WorkerService_HeartbeatClient
	session  int64
	sequence int64
	cut      func()
}

func (c *coordinator) beating(session int64) *beating {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	c.t.Cleanup(cancel)
	stream, err := c.workers.Heartbeat(ctx)
	c.must(err)
	return &beating{coordinator: c, WorkerService_HeartbeatClient: stream, session: session, cut: cancel}
}

func renewal(g *pb.Grant) *pb.LeaseBeat {
	return &pb.LeaseBeat{BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), FromItem: g.GetDoneItems()}
}

// beat sends a beat and takes its answer.
func (b *beating) beat(leases ...*pb.LeaseBeat) *pb.HeartbeatResponse {
	b.t.Helper()
	b.sequence++
	b.must(b.Send(&pb.HeartbeatRequest{SessionId: b.session, Sequence: b.sequence, Leases: leases}))
	for {
		m, err := b.Recv()
		b.must(err)
		if m.GetSequence() != 0 { // else it was pushed
			if m.GetSequence() != b.sequence {
				b.t.Fatalf("answer %v to beat %d", m, b.sequence)
			}
			return m
		}
	}
}

// verdict beats for one grant and returns what is to become of it.
func (b *beating) verdict(g *pb.Grant) pb.LeaseVerdict {
	b.t.Helper()
	return b.beat(renewal(g)).GetLeases()[0].GetVerdict()
}

func (b *beating) want(g *pb.Grant, want pb.LeaseVerdict) {
	b.t.Helper()
	if got := b.verdict(g); got != want {
		b.t.Errorf("verdict %v, want %v", got, want)
	}
}

const (
	goOn    = pb.LeaseVerdict_LEASE_VERDICT_CONTINUE
	stop    = pb.LeaseVerdict_LEASE_VERDICT_CANCEL
	lost    = pb.LeaseVerdict_LEASE_VERDICT_LOST
	unknown = pb.LeaseVerdict_LEASE_VERDICT_UNKNOWN
)

func TestHeartbeatKeepsLeasesForLong(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.submit(header("slow"), lines(1, 2))
		session := c.register("w")
		g := c.claimOne(session, "r")
		b := c.beating(session)
		for range 60 { // ten leases
			a := b.beat(renewal(g))
			if diff := cmp.Diff(goOn, a.GetLeases()[0].GetVerdict()); diff != "" {
				t.Fatalf("verdict (-want +got):\n%s", diff)
			}
			if next := a.GetNextInterval().AsDuration(); next < 4500*time.Millisecond || next > 5500*time.Millisecond {
				t.Fatalf("the next beat in %v, want 5 s give or take a tenth", next)
			}
			pass(a.GetNextInterval().AsDuration())
		}
		if a := c.settle(session, completed(g)); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED {
			t.Errorf("settle: %v", a)
		}
		b.want(g, lost)
		if n := len(c.log.lines(t, "batch crashed")); n != 0 {
			t.Errorf("%d batches crashed", n)
		}
	})
}

func TestHeartbeatBringsOutcomes(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("durable")
		h.Policy.BatchItems = 10
		up := c.submit(h, lines(1, 10))
		session := c.register("w")
		g := c.claimOne(session, "r")
		b := c.beating(session)
		beat := renewal(g)
		beat.Outcomes = []*pb.OutcomeRun{{Count: 2, Outcome: pb.Outcome_OUTCOME_STORED}, {Count: 2, Outcome: pb.Outcome_OUTCOME_REJECTED}}
		beat.Findings = []*pb.ItemFinding{{Position: 3, Finding: &pb.Finding{
			Item: 4, Severity: pb.Severity_SEVERITY_ERROR, Code: "BAD", File: "durable.jsonl", Line: 4, Path: "n", Message: "is bad"}}}
		for range 2 { // the second is a repetition
			if got := b.beat(beat).GetLeases()[0].GetAcknowledgedItems(); got != 4 {
				t.Fatalf("acknowledged %d items, want 4", got)
			}
		}
		s := &pb.Settlement{BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_COMPLETED, FromItem: 4}
		s.Outcomes = []*pb.OutcomeRun{{Count: 5, Outcome: pb.Outcome_OUTCOME_STORED}}
		if a := c.settle(session, s); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_OUTCOMES_INCOMPLETE {
			t.Errorf("settled with an item less: %v", a)
		}
		b.want(g, goOn)
		s.Outcomes[0].Count = 6
		for range 2 {
			a := c.settle(session, s)
			if a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED || a.GetBatchState() != pb.BatchState_BATCH_STATE_COMPLETED {
				t.Errorf("settle: %v", a)
			}
		}
		s.End = pb.AttemptEnd_ATTEMPT_END_FAILED
		if a := c.settle(session, s); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_LEASE_LOST {
			t.Errorf("another end later: %v", a)
		}
		want := map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 8, pb.Outcome_OUTCOME_REJECTED: 2}
		if diff := cmp.Diff(want, outcomes(c.ended(up.GetJobId()))); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		if f := c.findings(up.GetJobId()); len(f) != 1 || f[0].GetBatchId() != g.GetBatchId() || f[0].GetPath() != "n" {
			t.Errorf("findings %v", f)
		}
	})
}

// A worker that sends beats and closes its side has them all answered.
func TestHeartbeatAnswersWhatCameBeforeTheEnd(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		for range 20 { // what it was that came first used to be decided by lot
			b := c.beating(session)
			for n := int64(1); n <= 3; n++ {
				c.must(b.Send(&pb.HeartbeatRequest{SessionId: session, Sequence: n}))
			}
			c.must(b.CloseSend())
			for n := int64(1); n <= 3; n++ {
				if m, err := b.Recv(); m.GetSequence() != n {
					t.Fatalf("answer %v, %v to beat %d", m, err, n)
				}
			}
			if _, err := b.Recv(); !errors.Is(err, io.EOF) {
				t.Fatalf("after the last answer: %v, want EOF", err)
			}
		}
	})
}

func TestHeartbeatIsPushedACancelAtOnce(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("pushed"), lines(1, 4))
		session := c.register("w")
		g := c.claimOne(session, "r")
		b := c.beating(session)
		b.want(g, goOn)
		asked := time.Now()
		_, err := c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: up.GetJobId(), Reason: "enough"})
		c.must(err)
		m, err := b.Recv()
		c.must(err)
		if m.GetSequence() != 0 || len(m.GetLeases()) != 1 || m.GetLeases()[0].GetVerdict() != stop ||
			m.GetLeases()[0].GetBatchId() != g.GetBatchId() || m.GetLeases()[0].GetAttempt() != g.GetAttempt() {
			t.Errorf("pushed %v", m)
		}
		// Far below a beat; in a bubble it is nothing at all.
		if took := time.Since(asked); took > 3*time.Second {
			t.Errorf("pushed after %v", took)
		}
		b.want(g, stop)
		a := c.settle(session, &pb.Settlement{
			BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_CANCELLED,
			Outcomes: []*pb.OutcomeRun{{Count: 1, Outcome: pb.Outcome_OUTCOME_STORED}},
		})
		if a.GetBatchState() != pb.BatchState_BATCH_STATE_CANCELLED {
			t.Errorf("settle: %v", a)
		}
		j := c.ended(up.GetJobId())
		want := map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 1, pb.Outcome_OUTCOME_CANCELLED: 3}
		if diff := cmp.Diff(want, outcomes(j)); diff != "" || j.GetState() != pb.JobState_JOB_STATE_CANCELLED || j.GetReason() != "enough" {
			t.Errorf("ended as %v because %q, outcomes (-want +got):\n%s", j.GetState(), j.GetReason(), diff)
		}
	})
}

func TestHeartbeatReleasesWhatItDoesNotName(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.submit(header("unnamed"), lines(1, 4))
		session := c.register("w")
		known, forgotten := c.claimOne(session, "r"), c.claimOne(session, "q")
		b := c.beating(session)
		b.want(known, goOn)
		for range 2 {
			pass(6 * time.Second)
			b.want(known, goOn)
		}
		got := c.batch(forgotten.GetBatchId()).GetBatch()
		if got.GetState() != pb.BatchState_BATCH_STATE_PENDING || got.GetCrashes()+got.GetLosses()+got.GetFailures() != 0 {
			t.Errorf("the batch that was not named is %v", got)
		}
		if g := c.claimOne(session, "s"); g.GetBatchId() != forgotten.GetBatchId() || g.GetAttempt() != 2 {
			t.Errorf("then claimed %v", g)
		}
	})
}

func TestHeartbeatThatBreaks(t *testing.T) {
	breaks := map[string]func(b *beating){
		"cut":    func(b *beating) { b.cut() },
		"closed": func(b *beating) { b.must(b.CloseSend()) },
	}
	for how, interrupt := range breaks {
		t.Run(how+" for good", func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				c.submit(header("broken"), lines(1, 2))
				session := c.register("w")
				g := c.claimOne(session, "r")
				b := c.beating(session)
				b.want(g, goOn)
				interrupt(b)
				broke := time.Now()
				again := c.claimOne(c.register("other"), "r")
				if took := time.Since(broke); took < 5*time.Second || took > 6*time.Second {
					t.Errorf("claimable again after %v, want the grace of 5 s and at most a second", took)
				}
				if again.GetBatchId() != g.GetBatchId() || again.GetAttempt() != 2 {
					t.Errorf("claimed %v", again)
				}
				whole := c.batch(g.GetBatchId())
				if len(whole.GetAttempts()) != 1 || whole.GetAttempts()[0].GetEnd() != pb.AttemptEnd_ATTEMPT_END_DIED {
					t.Errorf("attempts %v", whole.GetAttempts())
				}
				crashed := c.log.lines(t, "batch crashed")
				if len(crashed) != 1 || crashed[0]["job_id"] != float64(g.GetJobId()) || crashed[0]["batch_id"] != float64(g.GetBatchId()) ||
					crashed[0]["attempt"] != 1.0 || crashed[0]["worker_id"] != "w" || crashed[0]["end"] != "died" {
					t.Errorf("log lines %v", crashed)
				}
			})
		})
		t.Run(how+" and back", func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				c.submit(header("back"), lines(1, 2))
				session := c.register("w")
				g := c.claimOne(session, "r")
				b := c.beating(session)
				b.want(g, goOn)
				interrupt(b)
				pass(4 * time.Second)
				b = c.beating(session)
				b.want(g, goOn)
				pass(20 * time.Second)
				b.want(g, goOn)
				if n := len(c.log.lines(t, "batch crashed")); n != 0 {
					t.Errorf("%d batches crashed", n)
				}
			})
		})
	}
	t.Run("replaced by a newer one", func(t *testing.T) {
		inMemory(t, func(t *scene) {
			c := start(t, Config{Database: t.database}, nil)
			c.submit(header("replaced"), lines(1, 2))
			session := c.register("w")
			g := c.claimOne(session, "r")
			older := c.beating(session)
			older.want(g, goOn)
			newer := c.beating(session)
			newer.want(g, goOn)
			if _, err := older.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("the older stream: %v, want its end", err)
			}
			pass(20 * time.Second)
			newer.want(g, goOn)
		})
	})
}

func TestHeartbeatRefusesBadBeats(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		for _, test := range []struct {
			name string
			beat *pb.HeartbeatRequest
		}{
			{"no session", &pb.HeartbeatRequest{}},
			{"another session", &pb.HeartbeatRequest{SessionId: 77}},
			{"a lease of nothing", &pb.HeartbeatRequest{SessionId: 1, Leases: []*pb.LeaseBeat{{}}}},
		} {
			b := c.beating(c.register(fmt.Sprint("worker-", test.name[:1])))
			b.beat()
			c.must(b.Send(test.beat))
			_, err := b.Recv()
			c.wantError(test.name, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
	})
}

func TestHeartbeatEndsWithTheCoordinatorAndShortensNothing(t *testing.T) {
	inMemory(t, func(t *scene) {
		first := start(t, Config{Database: t.database}, nil)
		up := first.submit(header("drained"), lines(1, 2))
		session := first.register("w")
		g := first.claimOne(session, "r")
		b := first.beating(session)
		b.want(g, goOn)
		expires := first.batch(g.GetBatchId()).GetBatch().GetLeaseExpiresAt().AsTime()
		waiting := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(first.ctx, time.Minute)
			defer cancel()
			r, err := first.workers.ClaimBatches(ctx, &pb.ClaimBatchesRequest{SessionId: session, RequestId: "q", MaxBatches: 1})
			if err == nil && len(r.GetGrants()) > 0 {
				err = fmt.Errorf("granted %v", r)
			}
			waiting <- err
		}()
		pass(time.Second)
		began := time.Now()
		first.must(first.halt())
		if took := time.Since(began); took > time.Second {
			t.Errorf("stopping took %v", took)
		}
		first.must(<-waiting)
		_, err := b.Recv()
		first.wantError("the stream", err, codes.Unavailable, "SHUTTING_DOWN")

		pass(15 * time.Second) // three graces, half a lease
		second := start(t, Config{Database: t.database}, nil)
		if got := second.batch(g.GetBatchId()).GetBatch().GetLeaseExpiresAt().AsTime(); !got.Equal(expires) {
			t.Errorf("the lease ends at %v, was to end at %v", got, expires)
		}
		b = second.beating(session)
		b.want(g, goOn)
		if a := second.settle(session, completed(g)); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED {
			t.Errorf("settle at the next coordinator: %v", a)
		}
		if j := second.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("ended as %v", j)
		}
	})
}

func TestHeartbeatWhileTheDatabaseIsAway(t *testing.T) {
	inMemory(t, func(t *scene) {
		var gone atomic.Bool
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			return &away{Store: s, beat: func() error {
				if gone.Load() {
					return fmt.Errorf("beat: %w", store.ErrUnavailable)
				}
				return nil
			}}
		})
		c.submit(header("away"), lines(1, 2))
		session := c.register("w")
		g := c.claimOne(session, "r")
		b := c.beating(session)
		b.want(g, goOn)
		gone.Store(true)
		pass(5 * time.Second)
		b.want(g, unknown)
		gone.Store(false)
		pass(5 * time.Second)
		b.want(g, goOn)
	})
}
