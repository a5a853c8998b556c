package worker_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// taking returns a handler that takes so long for each item.
func taking(d time.Duration, causes *[]error) worker.HandlerFunc {
	return func(ctx context.Context, b *worker.Batch) error {
		for range b.Open() {
			select {
			case <-time.After(d):
				b.Report(worker.Result{Outcome: worker.Stored})
			case <-ctx.Done():
				*causes = append(*causes, context.Cause(ctx))
				return context.Cause(ctx)
			}
		}
		return nil
	}
}

func TestDrain(t *testing.T) {
	tests := map[string]struct {
		hurry    time.Duration // when StopNow is called, after the stop; 0: never
		end      pb.AttemptEnd
		outcomes int
		took     time.Duration
	}{
		"some finish": {end: pb.AttemptEnd_ATTEMPT_END_RELEASED, outcomes: 14, took: 10 * time.Second},
		"in a hurry":  {hurry: 3500 * time.Millisecond, end: pb.AttemptEnd_ATTEMPT_END_RELEASED, outcomes: 8, took: 3500 * time.Millisecond},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				short, long := c.add(7), c.add(60)
				var causes []error
				r := start(t, conn, taking(time.Second, &causes), worker.Config{Slots: 2})
				<-time.After(4500 * time.Millisecond)
				later := c.add(1)
				began := time.Now()
				r.stop()
				if test.hurry > 0 {
					time.AfterFunc(test.hurry, r.StopNow)
				}
				if err := r.wait(); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("stopping took %v, want %v", took, test.took)
				}
				if short.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
					t.Errorf("the short batch ended with %v", short.end)
				}
				if long.end.GetEnd() != test.end || len(long.outcomes) != test.outcomes || len(causes) != 1 ||
					!errors.Is(causes[0], worker.ErrDraining) {
					t.Errorf("the long batch ended with %v and %d outcomes, its handler was told %v", long.end, len(long.outcomes), causes)
				}
				if later.attempt != 0 || !c.deregistered || r.log == nil {
					t.Errorf("a later batch had %d attempts, deregistered: %v", later.attempt, c.deregistered)
				}
			})
		})
	}
}

func TestStopWithoutCoordinatorIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(3)
		var away atomic.Bool
		c.before = func(string, int) error {
			if away.Load() {
				return unavailable
			}
			return nil
		}
		r := start(t, conn, worker.HandlerFunc(untilEnd), worker.Config{Slots: 1, DrainTimeout: 4 * time.Second})
		<-time.After(time.Second)
		away.Store(true)
		r.stop()
		began := time.Now()
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if b.ends != 0 || !strings.Contains(r.log.String(), "worker not deregistered") {
			t.Errorf("%d ends, log:\n%s", b.ends, r.log)
		}
	})
}

func TestHandlerThatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(3)
		release := make(chan struct{})
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			b.Report(worker.Result{Outcome: worker.Stored})
			<-release
			b.Report(worker.Result{Outcome: worker.Stored})
			return nil
		})
		r := start(t, conn, h, worker.Config{Slots: 1, DrainTimeout: 2 * time.Second, StopTimeout: 3 * time.Second})
		synctest.Wait()
		r.stop()
		began := time.Now()
		err := r.wait()
		if err == nil || !strings.Contains(err.Error(), "batch 1 (kind test, attempt 1)") {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_RELEASED || len(b.outcomes) != 1 || !c.deregistered {
			t.Errorf("ended with %v and %d outcomes", b.end, len(b.outcomes))
		}
		if n := strings.Count(r.log.String(), "handler does not stop"); n > 1 {
			t.Errorf("logged %d times:\n%s", n, r.log)
		}
		close(release)
	})
}

func TestHandlerThatDoesNotStopKeepsItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b, next := c.add(1), c.add(1)
		release := make(chan struct{})
		h := worker.HandlerFunc(func(ctx context.Context, x *worker.Batch) error {
			if x.ID == b.id {
				<-release
			}
			return storing(ctx, x)
		})
		r := start(t, conn, h, worker.Config{Slots: 1})
		synctest.Wait()
		c.mu.Lock()
		b.lost = true
		b.end = &pb.Settlement{} // so that it is not claimed again
		c.mu.Unlock()
		<-time.After(time.Minute)
		c.mu.Lock()
		if next.attempt != 0 {
			t.Error("another batch was claimed for a slot that is taken")
		}
		c.mu.Unlock()
		close(release)
		<-time.After(time.Second)
		r.stop()
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		if next.ends != 1 || b.ends != 0 {
			t.Errorf("ends: %d of the next batch, %d of the lost one", next.ends, b.ends)
		}
		if n := strings.Count(r.log.String(), "handler does not stop"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, r.log)
		}
	})
}
