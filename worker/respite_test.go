package worker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// TestUnavailable has a handler miss what it needs for a while: nothing may be counted as a failure, what was done
// counts, and the batch is not taken again and again without a pause.
func TestUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const misses = 9
		c, conn := serve(t)
		b := c.add(misses + 1)
		var claimed []time.Time
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			claimed = append(claimed, time.Now())
			if len(claimed) > misses {
				return storing(ctx, b)
			}
			b.Report(worker.Result{Outcome: worker.Stored})
			return worker.Unavailable(errBroken)
		})
		r := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		for _, s := range c.settles[:misses] {
			if m := s.GetSettlements()[0]; m.GetEnd() != pb.AttemptEnd_ATTEMPT_END_RELEASED || m.GetMessage() != errBroken.Error() {
				t.Errorf("settled with %v, want that it is released with the reason", m)
			}
		}
		if b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED || len(b.outcomes) != misses+1 {
			t.Errorf("ended with %v and %d outcomes, want %d", b.end, len(b.outcomes), misses+1)
		}
		for i, least := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
			16 * time.Second, 30 * time.Second, 30 * time.Second, 30 * time.Second} {
			if pause := claimed[i+1].Sub(claimed[i]); pause < least || pause > 2*least+time.Second {
				t.Errorf("claimed again %v after miss %d, want %v to %v", pause, i+1, least, 2*least)
			}
		}
		var told []string // each once, in a row
		c.mu.Lock()
		for _, beat := range c.beats {
			if len(told) == 0 || told[len(told)-1] != beat.GetTrouble() {
				told = append(told, beat.GetTrouble())
			}
		}
		c.mu.Unlock()
		// The first beat may go out after the trouble has begun, and the worker may end before the beat after the trouble.
		if len(told) > 0 && told[0] == "" {
			told = told[1:]
		}
		if len(told) > 0 && told[len(told)-1] == "" {
			told = told[:len(told)-1]
		}
		if diff := cmp.Diff([]string{errBroken.Error()}, told); diff != "" {
			t.Errorf("troubles that beats told of (-want +got):\n%s", diff)
		}
		if n := strings.Count(r.log.String(), "what its handler needs is not available"); n != misses {
			t.Errorf("logged %d times, want %d:\n%s", n, misses, r.log)
		}
	})
}

// TestTroubleIsTold has a handler miss what it needs, and then find it again: beats tell of both without waiting for their
// interval.
func TestTroubleIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.add(1)
		missed := 0
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			if missed < 2 { // between a second and a half and three seconds
				missed++
				return worker.Unavailable(errBroken)
			}
			return storing(ctx, b)
		})
		r := start(t, conn, h, worker.Config{Slots: 1})
		<-time.After(beatTime - time.Second)
		c.mu.Lock()
		var told []string
		for _, beat := range c.beats {
			told = append(told, beat.GetTrouble())
		}
		c.mu.Unlock()
		if len(told) > 0 && told[0] == "" { // it may go out before the handler begins
			told = told[1:]
		}
		if diff := cmp.Diff([]string{errBroken.Error(), ""}, told); diff != "" {
			t.Errorf("troubles that beats told of (-want +got):\n%s", diff)
		}
		r.stop()
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestUnavailableForOthers has one handler miss what it needs while another works: that one's success ends the pause.
func TestUnavailableForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b, long := c.add(1), c.add(1)
		h := worker.HandlerFunc(func(ctx context.Context, x *worker.Batch) error {
			switch {
			case x.ID == long.id:
				<-time.After(10 * time.Millisecond)
			case x.Attempt == 1:
				return worker.Unavailable(errBroken)
			}
			return storing(ctx, x)
		})
		began := time.Now()
		r := start(t, conn, h, worker.Config{Slots: 2})
		<-time.After(100 * time.Millisecond)
		c.mu.Lock()
		end := b.end
		c.mu.Unlock()
		if end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
			t.Errorf("after %v the batch has ended with %v, want that it is completed", time.Since(began), end)
		}
		r.stop()
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
	})
}
