package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

func TestClockRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.silent = func() bool { return true }
		var ended time.Time
		var cause error
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			b.Report(worker.Result{Outcome: worker.Stored})
			<-ctx.Done()
			if b.Attempt == 1 {
				ended, cause = time.Now(), context.Cause(ctx)
			}
			b.Report(worker.Result{Outcome: worker.Stored}) // too late
			return nil
		})
		r := start(t, conn, h, worker.Config{Slots: 1, ClaimWait: 55 * time.Second})
		// The claim waits for this batch for a while, which does not count.
		wait := 20 * time.Second
		var granted time.Time
		time.AfterFunc(wait, func() {
			granted = time.Now()
			c.add(2)
		})
		time.AfterFunc(wait+leaseTime+time.Second, r.stop)
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		if !errors.Is(cause, worker.ErrLeaseLost) || !ended.Equal(granted.Add(leaseTime)) {
			t.Errorf("the handler was told %v after %v, want %v after %v", cause, ended.Sub(granted), worker.ErrLeaseLost, leaseTime)
		}
		if len(c.settles) == 0 {
			t.Fatal("the lease is not given back")
		}
		if m := c.settles[0].GetSettlements()[0]; m.GetEnd() != pb.AttemptEnd_ATTEMPT_END_RELEASED || len(m.GetOutcomes()) > 0 {
			t.Errorf("settled with %v, want that it is given back", m)
		}
		if n := c.count("heartbeat"); n < 2 {
			t.Errorf("%d streams, want that a silent one is given up", n)
		}
	})
}

func TestSlowHandlerKeepsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			ticker := time.NewTicker(time.Second)
			defer ticker.Stop()
			for range 10 * int(leaseTime/time.Second) {
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				left := time.Until(b.Deadline())
				if left < leaseTime-beatTime-2*time.Second || left > leaseTime {
					return fmt.Errorf("%v are left of the lease", left)
				}
			}
			b.Report(worker.Result{Outcome: worker.Stored})
			return nil
		})
		if err := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if b.attempt != 1 || b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
			t.Errorf("after %d attempts: %v", b.attempt, b.end)
		}
		if n, want := c.count("beat"), 10*int(leaseTime/beatTime); n < want || n > want+3 {
			t.Errorf("%d beats, want about %d", n, want)
		}
	})
}

func TestLeaseOutlivesACoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		var away atomic.Bool
		c.before = func(string, int) error {
			if away.Load() {
				return unavailable
			}
			return nil
		}
		time.AfterFunc(12*time.Second, func() { away.Store(true) })
		time.AfterFunc(35*time.Second, func() { away.Store(false) })
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			select {
			case <-time.After(time.Minute):
				return storing(ctx, b)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		r := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if b.attempt != 1 || b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
			t.Errorf("after %d attempts: %v\n%s", b.attempt, b.end, r.log)
		}
		for _, message := range []string{"coordinator not reached", "coordinator reached again"} {
			n := 0
			for line := range strings.Lines(r.log.String()) {
				if strings.Contains(line, message) && strings.Contains(line, "operation=heartbeat") {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%q logged %d times:\n%s", message, n, r.log)
			}
		}
	})
}

func TestVerdicts(t *testing.T) {
	tests := map[string]struct {
		verdict func(c *coordinator, b *batch)
		cause   error
		end     pb.AttemptEnd // unspecified: none
		at      time.Duration // at the latest
	}{
		"cancelled by an answer": {
			verdict: func(_ *coordinator, b *batch) { b.cancel = true },
			cause:   worker.ErrJobCancelled, end: pb.AttemptEnd_ATTEMPT_END_CANCELLED, at: beatTime,
		},
		"cancelled by a push": {
			verdict: func(c *coordinator, b *batch) {
				c.push <- &pb.HeartbeatResponse{Leases: []*pb.LeaseAnswer{{
					BatchId: b.id, Attempt: b.attempt, Verdict: pb.LeaseVerdict_LEASE_VERDICT_CANCEL}}}
			},
			cause: worker.ErrJobCancelled, end: pb.AttemptEnd_ATTEMPT_END_CANCELLED,
		},
		"paused by an answer": {
			verdict: func(_ *coordinator, b *batch) { b.paused = true },
			cause:   worker.ErrJobPaused, end: pb.AttemptEnd_ATTEMPT_END_RELEASED, at: beatTime,
		},
		"paused by a push": {
			verdict: func(c *coordinator, b *batch) {
				b.paused = true
				c.push <- &pb.HeartbeatResponse{Leases: []*pb.LeaseAnswer{{
					BatchId: b.id, Attempt: b.attempt, Verdict: pb.LeaseVerdict_LEASE_VERDICT_RELEASE}}}
			},
			cause: worker.ErrJobPaused, end: pb.AttemptEnd_ATTEMPT_END_RELEASED,
		},
		"lost": {
			verdict: func(_ *coordinator, b *batch) { b.lost = true },
			cause:   worker.ErrLeaseLost, at: beatTime,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				b := c.add(3)
				var told time.Time
				var cause error
				var reports int
				h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
					reports++
					b.Report(worker.Result{Outcome: worker.Rejected})
					<-ctx.Done()
					told, cause = time.Now(), context.Cause(ctx)
					b.Report(worker.Result{Outcome: worker.Stored})
					return cause
				})
				r := start(t, conn, h, worker.Config{Slots: 1})
				synctest.Wait()
				<-time.After(3 * time.Second) // a beat has told of the first item
				said := time.Now()
				c.mu.Lock()
				test.verdict(c, b)
				c.mu.Unlock()
				<-time.After(beatTime + time.Second)
				r.stop()
				if err := r.wait(); err != nil {
					t.Error(err)
				}
				if !errors.Is(cause, test.cause) || told.Sub(said) > test.at {
					t.Errorf("told %v after %v, want %v after at most %v", cause, told.Sub(said), test.cause, test.at)
				}
				want := 2
				if test.end == pb.AttemptEnd_ATTEMPT_END_UNSPECIFIED {
					want = 1
				}
				if got := b.end.GetEnd(); got != test.end || len(b.outcomes) != want || reports != 1 {
					t.Errorf("ended %v with %d outcomes after %d calls, want %v with %d after 1", got, len(b.outcomes), reports, test.end, want)
				}
			})
		})
	}
}

func TestUnknownVerdictChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.add(1)
		c.answers = func(a *pb.LeaseAnswer) { a.Verdict = pb.LeaseVerdict_LEASE_VERDICT_UNKNOWN }
		began := time.Now()
		var told time.Duration
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			<-ctx.Done()
			if b.Attempt == 1 {
				told = time.Since(began)
			}
			return context.Cause(ctx)
		})
		var first *pb.Settlement
		c.settled = func(m *pb.Settlement, _ *pb.SettleAnswer) {
			if first == nil {
				first = m
			}
		}
		r := start(t, conn, h, worker.Config{Slots: 1})
		time.AfterFunc(leaseTime+time.Second, r.stop)
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		if told != leaseTime || first.GetEnd() != pb.AttemptEnd_ATTEMPT_END_RELEASED {
			t.Errorf("interrupted after %v and settled with %v; want the lease's own end after %v, and that it is given back",
				told, first, leaseTime)
		}
	})
}

func TestSessionEnded(t *testing.T) {
	for _, call := range []string{"claim", "heartbeat", "beat"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				b := c.add(1)
				var over atomic.Bool
				c.before = func(got string, _ int) error {
					switch {
					case !over.Load():
						return nil
					case got == call:
						return refusal(t, codes.FailedPrecondition, "SESSION_ENDED")
					case call == "heartbeat" && got == "beat":
						return unavailable // so that the stream is opened again
					}
					return nil
				}
				time.AfterFunc(7*time.Second, func() { over.Store(true) })
				var cause error
				h := worker.HandlerFunc(func(ctx context.Context, _ *worker.Batch) error {
					<-ctx.Done()
					cause = context.Cause(ctx)
					return nil
				})
				err := start(t, conn, h, worker.Config{Slots: 2, ClaimWait: 5 * time.Second}).wait()
				if !errors.Is(err, worker.ErrSessionEnded) {
					t.Errorf("Run returned %v", err)
				}
				if !errors.Is(cause, worker.ErrLeaseLost) || !errors.Is(cause, worker.ErrSessionEnded) {
					t.Errorf("the handler was told %v", cause)
				}
				if b.ends != 0 || c.deregistered {
					t.Errorf("%d ends, deregistered: %v; want nothing of either", b.ends, c.deregistered)
				}
			})
		})
	}
}
