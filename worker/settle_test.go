package worker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

func TestSettleIsRepeatedUntilAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(2)
		c.before = func(call string, n int) error {
			if call == "settle" && n <= 2 {
				return unavailable
			}
			return nil
		}
		c.after = func(call string, n int) error {
			if call == "settle" && n <= 4 {
				return unavailable
			}
			return nil
		}
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if b.ends != 1 || len(c.settles) != 5 {
			t.Errorf("%d ends by %d settles, want 1 by 5", b.ends, len(c.settles))
		}
		for _, again := range c.settles[1:] {
			if want := c.settles[0].GetSettlements()[0]; len(again.GetSettlements()) != 1 || !proto.Equal(want, again.GetSettlements()[0]) {
				t.Errorf("settled with %v, then with %v", want, again)
			}
		}
		if strings.Contains(r.log.String(), "lease lost") {
			t.Errorf("a lease was lost:\n%s", r.log)
		}
	})
}

func TestSettleEndsWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		c.before = func(call string, _ int) error {
			if call == "settle" || call == "heartbeat" {
				return unavailable
			}
			return nil
		}
		began := time.Now()
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if b.ends != 0 || !strings.Contains(r.log.String(), "lease lost") {
			t.Errorf("ended %d times, log:\n%s", b.ends, r.log)
		}
		if took := time.Since(began); took < leaseTime || took > 2*leaseTime {
			t.Errorf("gave up after %v, want a lease (%v)", took, leaseTime)
		}
	})
}

// TestSettleAfterTheLease has no coordinator answer until the lease has run out: work that was done in time counts, unless
// somebody else has the batch by then, and work that was not is given back.
func TestSettleAfterTheLease(t *testing.T) {
	for name, test := range map[string]struct {
		handle worker.HandlerFunc
		lost   bool
		want   pb.AttemptEnd
	}{
		"done":                    {handle: storing, want: pb.AttemptEnd_ATTEMPT_END_COMPLETED},
		"not done":                {handle: untilEnd, want: pb.AttemptEnd_ATTEMPT_END_RELEASED},
		"done, but another's":     {handle: storing, lost: true},
		"not done, and another's": {handle: untilEnd, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				b := c.add(1)
				back := time.Now().Add(leaseTime + 5*time.Second)
				c.before = func(call string, _ int) error {
					if (call == "settle" || call == "heartbeat" || call == "claim" && b.attempt > 0) && time.Now().Before(back) {
						return unavailable
					}
					return nil
				}
				h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
					if b.Attempt > 1 {
						return storing(ctx, b)
					}
					return test.handle(ctx, b)
				})
				var first *pb.SettleAnswer
				var end pb.AttemptEnd
				c.settled = func(m *pb.Settlement, a *pb.SettleAnswer) {
					if first == nil {
						first, end = a, m.GetEnd()
					}
				}
				time.AfterFunc(leaseTime+time.Second, func() {
					c.mu.Lock()
					defer c.mu.Unlock()
					b.lost = test.lost
				})
				r := start(t, conn, h, worker.Config{Slots: 1})
				time.AfterFunc(4*leaseTime, r.stop) // so that a claim that waits now is made again
				if err := r.wait(); err != nil {
					t.Fatal(err)
				}
				switch {
				case test.lost:
					if first.GetStatus() != pb.SettleStatus_SETTLE_STATUS_LEASE_LOST || b.ends != 0 {
						t.Errorf("answered %v, %d ends; want that nothing is changed", first, b.ends)
					}
				case first.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED || end != test.want:
					t.Errorf("first settled as %v, %v; want %v", end, first, test.want)
				case b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED:
					t.Errorf("ended with %v, want that it is completed", b.end)
				}
			})
		})
	}
}

func TestOneSettlementFailsTheOthersDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		var batches []*batch
		for range 8 {
			batches = append(batches, c.add(1))
		}
		c.before = func(call string, _ int) error {
			if call != "settle" {
				return nil
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, s := range c.settles[len(c.settles)-1].GetSettlements() {
				if s.GetBatchId() == 5 {
					return status.Error(codes.Internal, "internal error")
				}
			}
			return nil
		}
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 8, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			if got, want := b.ends == 1, b.id != 5; got != want {
				t.Errorf("batch %d ended: %v, want %v", b.id, got, want)
			}
		}
		if !strings.Contains(r.log.String(), "lease lost") {
			t.Errorf("nothing was said of batch 5:\n%s", r.log)
		}
	})
}

func TestRefusedOutcomesFailTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		b.frame, b.items = c.add(2).frame, 2
		c.batches[1].end = &pb.Settlement{} // only the first is to be claimed
		h := worker.HandlerFunc(func(ctx context.Context, x *worker.Batch) error {
			c.mu.Lock()
			b.items = 1 // the coordinator has another idea of the batch
			c.mu.Unlock()
			return storing(ctx, x)
		})
		r := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_FAILED || b.end.GetRetryable() ||
			!strings.Contains(b.end.GetMessage(), "does not accept the outcomes") {
			t.Errorf("ended with %v", b.end)
		}
	})
}
