package sqlite

import (
	"context"
	"sync"
)

// priority says how urgent a write is; lower values go first.
type priority int

const (
	renewing priority = iota
	settling
	claiming
	ingesting
	keeping // retention and other upkeep
	priorities
)

// passes bounds how often a waiting write lets a more urgent one go first, so that a busy coordinator still ingests
// and cleans up.
const passes = 32

// queue hands the one right to write to the most urgent waiter, those of one priority in their order.
type queue struct {
	mu      sync.Mutex
	held    bool
	waiting [priorities][]*waiter
}

type waiter struct {
	turn   chan struct{} // closed when it is this waiter's turn
	passed int
}

// acquire waits for the right to write, or returns the cause why ctx ended.
func (q *queue) acquire(ctx context.Context, p priority) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	q.mu.Lock()
	if !q.held {
		q.held = true
		q.mu.Unlock()
		return nil
	}
	w := &waiter{turn: make(chan struct{})}
	q.waiting[p] = append(q.waiting[p], w)
	q.mu.Unlock()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	for i, other := range q.waiting[p] {
		if other == w {
			q.waiting[p] = append(q.waiting[p][:i], q.waiting[p][i+1:]...)
			q.mu.Unlock()
			return context.Cause(ctx)
		}
	}
	q.mu.Unlock()
	// The turn came together with the end.
	q.release()
	return context.Cause(ctx)
}

// release gives the right to the next waiter.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := priorities
	for p := range priorities {
		if len(q.waiting[p]) == 0 {
			continue
		}
		if next == priorities || q.waiting[p][0].passed >= passes {
			next = p
		}
	}
	if next == priorities {
		q.held = false
		return
	}
	w := q.waiting[next][0]
	q.waiting[next] = q.waiting[next][1:]
	for p := next + 1; p < priorities; p++ {
		if len(q.waiting[p]) > 0 {
			q.waiting[p][0].passed++
		}
	}
	close(w.turn)
}
