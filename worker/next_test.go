package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// asking counts the settlements that asked for batches.
func (c *coordinator) asking() (n int) {
	for _, r := range c.settles {
		if r.GetClaim() != nil {
			n++
		}
	}
	return n
}

// done checks that every batch was handled once.
func (c *coordinator) done(t *testing.T) {
	t.Helper()
	for _, b := range c.batches {
		if b.attempt != 1 || b.ends != 1 || b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
			t.Errorf("batch %d had %d attempts and %d ends, the last %v", b.id, b.attempt, b.ends, b.end)
		}
	}
}

func TestSettlementsBringTheNextBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		for range 20 {
			c.add(1)
		}
		if err := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		c.done(t)
		// The claim that begins and the one that finds nothing; every settlement asks.
		if d := cmp.Diff([]int{2, 20, 20}, []int{c.count("claim"), len(c.settles), c.asking()}); d != "" {
			t.Errorf("claims, settlements, and those that asked (-want +got):\n%s", d)
		}
	})
}

func TestCoordinatorThatKnowsOnlyPlainSettlements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.old = true
		for range 20 {
			c.add(1)
		}
		if err := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		c.done(t)
		if n := c.asking(); n != 1 {
			t.Errorf("%d settlements asked for batches, want the first only", n)
		}
	})
}

// What was granted with an answer that was lost is claimed again under its request id.
func TestGrantOfALostSettlementIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		for range 3 {
			c.add(1)
		}
		c.after = func(call string, n int) error {
			if call == "settle" && n == 1 || call == "claim" && n == 2 {
				return unavailable
			}
			return nil
		}
		if err := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		c.done(t)
		id := c.settles[0].GetClaim().GetRequestId()
		if d := cmp.Diff([]string{id, id}, c.requests[1:3]); d != "" || id == "" {
			t.Errorf("request ids of the claims that followed (-want +got):\n%s", d)
		}
	})
}

// What comes when the worker has begun to stop is given back.
func TestGrantToAWorkerThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		first, second := c.add(1), c.add(1)
		c.after = func(call string, n int) error {
			if call == "settle" && n == 1 {
				<-time.After(time.Second)
			}
			return nil
		}
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1})
		<-time.After(500 * time.Millisecond) // into the settlement of the first
		r.stop()
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		got := []pb.AttemptEnd{first.end.GetEnd(), second.end.GetEnd()}
		if d := cmp.Diff([]pb.AttemptEnd{pb.AttemptEnd_ATTEMPT_END_COMPLETED, pb.AttemptEnd_ATTEMPT_END_RELEASED}, got); d != "" {
			t.Errorf("ends (-want +got):\n%s", d)
		}
		if second.attempt != 1 || len(second.outcomes) != 0 || !c.deregistered {
			t.Errorf("%d attempts, %d outcomes, deregistered: %v", second.attempt, len(second.outcomes), c.deregistered)
		}
	})
}
