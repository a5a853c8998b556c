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
			if !proto.Equal(c.settles[0], again) {
				t.Errorf("settled with %v, then with %v", c.settles[0], again)
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
