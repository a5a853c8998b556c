package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

// leases names grants, for comparing.
func leases(grants []*pb.Grant) []string {
	names := make([]string, len(grants))
	for i, g := range grants {
		names[i] = fmt.Sprintf("batch %d attempt %d", g.GetBatchId(), g.GetAttempt())
	}
	return names
}

func TestClaimWaitsAndIsWokenAtOnce(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		got := make(chan []*pb.Grant, 1)
		go func() { got <- c.claim(session, "r", 1) }()
		// Not on a second, where polls are.
		pass(5*time.Second + 300*time.Millisecond)
		u := c.open(c.ctx, header("wakes"))
		u.chunk(lines(1, 3))
		u.until("a commit", func(m *pb.SubmitUploadResponse) bool { return m.GetBatches() > 0 })
		committed := time.Now()
		if grants := <-got; len(grants) != 1 {
			t.Errorf("got %d batches", len(grants))
		}
		if late := time.Since(committed); late != 0 {
			t.Errorf("the claim was answered %v after the commit", late)
		}
	})
}

func TestClaimIsWokenByWhatIsCommittedWhileItIsServed(t *testing.T) {
	inMemory(t, func(t *scene) {
		var c *coordinator
		var commit sync.Once
		var submit atomic.Bool
		var committed time.Time
		c = start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			return &away{Store: s, after: func() {
				if submit.Load() {
					commit.Do(func() {
						c.submit(header("meanwhile"), lines(1, 2))
						committed = time.Now()
					})
				}
			}}
		})
		session := c.register("w")
		c.submit(header("served"), lines(1, 2))
		c.settle(session, completed(c.claimOne(session, "first")))
		pass(300 * time.Millisecond)
		submit.Store(true)
		c.claimOne(session, "second")
		if late := time.Since(committed); late != 0 {
			t.Errorf("the claim was answered %v after the commit", late)
		}
	})
}

func TestClaimIsWokenByTheSplitOfABatch(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.submit(header("splits"), lines(1, 2))
		session := c.register("w")
		g := c.claimOne(session, "whole")
		got := make(chan []*pb.Grant, 1)
		go func() { got <- c.claim(session, "parts", 2) }()
		pass(5*time.Second + 300*time.Millisecond)
		a := c.settle(session, &pb.Settlement{
			BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_DIED,
			Crash: &pb.Crash{Suspect: 2, Signal: "SIGSEGV"},
		})
		if a.GetBatchState() != pb.BatchState_BATCH_STATE_SPLIT {
			t.Fatalf("the batch is %v, want split", a)
		}
		split := time.Now()
		if grants := <-got; len(grants) != 2 {
			t.Errorf("got %d parts, want 2", len(grants))
		}
		if late := time.Since(split); late != 0 {
			t.Errorf("the claim was answered %v after the split", late)
		}
	})
}

func TestClaimAnswersBeforeItsDeadline(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
		defer cancel()
		began := time.Now()
		r, err := c.workers.ClaimBatches(ctx, &pb.ClaimBatchesRequest{SessionId: session, RequestId: "r", MaxBatches: 1})
		c.must(err)
		if took := time.Since(began); len(r.GetGrants()) != 0 || took < 19*time.Second || took >= 20*time.Second {
			t.Errorf("%d grants after %v", len(r.GetGrants()), took)
		}
		began = time.Now()
		if _, err = c.workers.ClaimBatches(c.ctx, &pb.ClaimBatchesRequest{SessionId: session, RequestId: "q", MaxBatches: 1}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("without a deadline it waited %v", took)
		}
	})
}

func TestClaimRepeatedGetsTheSameLeases(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("repeated"), lines(1, 12))
		session := c.register("w")
		first := c.claim(session, "r", 3)
		if len(first) != 3 {
			t.Fatalf("got %d batches, want 3", len(first))
		}
		for _, g := range first {
			if g.GetAttempt() != 1 || g.GetJobId() != up.GetJobId() || g.GetKind() != "probe" || g.GetProject() != "probing" ||
				g.GetRemaining().AsDuration() <= 0 || g.GetRemaining().AsDuration() > 30*time.Second {
				t.Errorf("grant %v", g)
			}
		}
		again := c.claim(session, "r", 3)
		if diff := cmp.Diff(leases(first), leases(again)); diff != "" {
			t.Errorf("repeated (-first +again):\n%s", diff)
		}
		if other := c.claim(session, "another", 8); len(other) != 3 {
			t.Errorf("another request got %d batches, want the 3 that were left", len(other))
		}
		// A request is also repeated when nothing may be claimed any more.
		_, err := c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
		c.must(err)
		if diff := cmp.Diff(leases(first), leases(c.claim(session, "r", 3))); diff != "" {
			t.Errorf("repeated while the job is being stopped (-first +again):\n%s", diff)
		}
	})
}

func TestClaimOfAnEndedSession(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		c.submit(header("ended"), lines(1, 2))
		g := c.claimOne(session, "r")
		newer := c.register("w")
		if newer == session {
			t.Fatal("registering anew gave the same session")
		}
		claim := func(session int64) error {
			_, err := c.workers.ClaimBatches(c.ctx, &pb.ClaimBatchesRequest{SessionId: session, RequestId: "q", MaxBatches: 1})
			return err
		}
		c.wantError("claim of the session before", claim(session), codes.FailedPrecondition, "SESSION_ENDED")
		c.wantError("claim of a session that never was", claim(1<<40), codes.FailedPrecondition, "SESSION_ENDED")
		stream, err := c.workers.Heartbeat(c.ctx)
		c.must(err)
		c.must(stream.Send(&pb.HeartbeatRequest{SessionId: session}))
		_, err = stream.Recv()
		c.wantError("beat of the session before", err, codes.FailedPrecondition, "SESSION_ENDED")
		if a := c.settle(session, completed(g)); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_LEASE_LOST {
			t.Errorf("settle of the session before: %v", a)
		}
		// What it held died at once, and is offered at once.
		if again := c.claimOne(newer, "r"); again.GetBatchId() != g.GetBatchId() || again.GetAttempt() != 2 {
			t.Errorf("the new session got %v", again)
		}
		crashed := c.log.lines(t, "batch crashed")
		if len(crashed) != 1 || crashed[0]["level"] != "WARN" || crashed[0]["end"] != "died" || crashed[0]["worker_id"] != "w" {
			t.Errorf("log lines %v", crashed)
		}
		_, err = c.workers.DeregisterWorker(c.ctx, &pb.DeregisterWorkerRequest{SessionId: newer, Reason: "done"})
		c.must(err)
		_, err = c.workers.DeregisterWorker(c.ctx, &pb.DeregisterWorkerRequest{SessionId: newer, Reason: "done"})
		c.must(err)
		c.wantError("claim after deregistering", claim(newer), codes.FailedPrecondition, "SESSION_ENDED")
		if n := len(c.log.lines(t, "batch crashed")); n != 1 {
			t.Errorf("deregistering crashed a batch: %d lines", n)
		}
	})
}

func TestClaimOfAnEndedSessionIsToldWhenThereIsNoWork(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		if g := c.claim(session, "r", 1); len(g) != 0 {
			t.Fatalf("got %v", g)
		}
		c.register("w")
		began := time.Now()
		_, err := c.workers.ClaimBatches(c.ctx, &pb.ClaimBatchesRequest{SessionId: session, RequestId: "q", MaxBatches: 1})
		c.wantError("claim", err, codes.FailedPrecondition, "SESSION_ENDED")
		if took := time.Since(began); took != 0 {
			t.Errorf("told after %v", took)
		}
	})
}

func TestClaimWhoseCallerIsGoneIsReleased(t *testing.T) {
	inMemory(t, func(t *scene) {
		var leave func()
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			return &away{Store: s, after: func() { leave() }}
		})
		session := c.register("w")
		up := c.submit(header("gone"), lines(1, 2))
		ctx, cancel := context.WithCancel(c.ctx)
		// The caller goes when the claim is committed and nobody has answered yet.
		leave = func() { cancel(); pass(time.Millisecond) }
		_, err := c.workers.ClaimBatches(ctx, &pb.ClaimBatchesRequest{SessionId: session, RequestId: "r", MaxBatches: 1})
		c.wantError("a caller that left", err, codes.Canceled, "")
		leave = func() {}
		pass(time.Second)
		r, err := c.jobs.ListBatches(c.ctx, &pb.ListBatchesRequest{JobId: up.GetJobId()})
		c.must(err)
		if b := r.GetBatches()[0]; b.GetState() != pb.BatchState_BATCH_STATE_PENDING || b.GetAttempt() != 1 ||
			b.GetCrashes()+b.GetLosses()+b.GetFailures() != 0 {
			t.Errorf("the batch is %v, want it released", b)
		}
		if g := c.claimOne(session, "q"); g.GetAttempt() != 2 {
			t.Errorf("the next claim got %v", g)
		}
	})
}

func TestClaimOutlastsTheDatabase(t *testing.T) {
	inMemory(t, func(t *scene) {
		var gone atomic.Bool
		gone.Store(true)
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			return &away{Store: s, claim: func() error {
				if gone.Load() {
					return fmt.Errorf("claim: %w", store.ErrUnavailable)
				}
				return nil
			}}
		})
		session := c.register("w")
		c.submit(header("away"), lines(1, 2))
		got := make(chan []*pb.Grant, 1)
		go func() { got <- c.claim(session, "r", 1) }()
		pass(5 * time.Second)
		select {
		case g := <-got:
			t.Fatalf("answered with %v while the database was away", g)
		default:
		}
		gone.Store(false)
		back := time.Now()
		if g := <-got; len(g) != 1 || time.Since(back) > time.Second {
			t.Errorf("got %d batches %v after the database was back", len(g), time.Since(back))
		}
	})
}

func TestClaimsOfManyCallersShare(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.submit(header("many"), lines(1, 400))
		var mu sync.Mutex
		seen := map[string]int{}
		var wg sync.WaitGroup
		for w := range 20 {
			session := c.register(fmt.Sprint("w", w))
			wg.Go(func() {
				for i := range 5 {
					grants := c.claim(session, fmt.Sprint("r", i), 2)
					mu.Lock()
					for _, name := range leases(grants) {
						seen[name]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) != 200 {
			t.Errorf("%d leases, want 200", len(seen))
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%s was granted %d times", name, n)
			}
		}
	})
}

func TestClaimServesOnlyItsKinds(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("other")
		h.Kind = "other"
		c.submit(h, lines(1, 2))
		if g := c.claim(c.register("w"), "r", 1); len(g) != 0 {
			t.Errorf("got %v", g)
		}
	})
}
