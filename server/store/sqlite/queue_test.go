package sqlite

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// contend holds the queue while others line up, one after the other, and returns the order in which they are served.
func contend(t *testing.T, waiters []priority) []int {
	t.Helper()
	var q queue
	if err := q.acquire(t.Context(), keeping); err != nil {
		t.Fatal(err)
	}
	var order []int
	for i, p := range waiters {
		go func() {
			if err := q.acquire(t.Context(), p); err != nil {
				t.Errorf("waiter %d: %v", i, err)
				return
			}
			order = append(order, i) // by whoever holds the queue
			q.release()
		}()
		synctest.Wait()
	}
	q.release()
	synctest.Wait()
	if q.held {
		t.Error("the queue is still held")
	}
	return order
}

func TestQueueServesTheMostUrgentFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := contend(t, []priority{ingesting, claiming, keeping, renewing, claiming, settling, renewing})
		if diff := cmp.Diff([]int{3, 6, 5, 1, 4, 0, 2}, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestQueueStarvesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		waiters := []priority{keeping}
		for range 2 * passes {
			waiters = append(waiters, settling)
		}
		for place, waiter := range contend(t, waiters) {
			if waiter == 0 && place != passes {
				t.Errorf("the least urgent came after %d others, want %d", place, passes)
			}
		}
	})
}

func TestQueueForgetsWaitersThatGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q queue
		if err := q.acquire(t.Context(), claiming); err != nil {
			t.Fatal(err)
		}
		reason := errors.New("no patience")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- q.acquire(ctx, renewing) }()
		synctest.Wait()
		cancel(reason)
		if err := <-result; !errors.Is(err, reason) {
			t.Errorf("acquire: %v, want %v", err, reason)
		}
		if err := q.acquire(ctx, renewing); !errors.Is(err, reason) {
			t.Errorf("acquire after the end: %v, want %v", err, reason)
		}
		q.release()
		if err := q.acquire(t.Context(), keeping); err != nil {
			t.Errorf("acquire once it is free: %v", err)
		}
	})
}
