package dispatch

import (
	"context"
	"errors"
	"sync"

	"github.com/tallyman-dev/tallyman/server/store"
)

// ErrStopped answers calls that a loop can take no more.
var ErrStopped = errors.New("the coordinator is shutting down")

// call is one caller's request and, later, its answer.
type call[Q, A any] struct {
	ctx    context.Context
	query  Q
	answer A
	err    error
	done   chan struct{}
}

// group commits calls together: Run takes whatever arrived while the previous transaction ran, as long as the weights
// add up to no more than most, and hands it to do. A group that fails is halved until the guilty call fails alone,
// unless the store cannot be reached, which is nobody's fault.
type group[Q, A any] struct {
	most   int
	weigh  func(Q) int
	do     func(ctx context.Context, queries []Q) ([]A, error)
	mu     sync.Mutex
	queue  []*call[Q, A]
	closed bool
	wake   chan struct{}
}

func newGroup[Q, A any](most int, weigh func(Q) int, do func(context.Context, []Q) ([]A, error)) *group[Q, A] {
	return &group[Q, A]{most: most, weigh: weigh, do: do, wake: make(chan struct{}, 1)}
}

// Call waits until a group with q is committed, and returns its answer. When ctx ends before, the outcome is unknown:
// the call may or may not still be made.
func (g *group[Q, A]) Call(ctx context.Context, q Q) (A, error) {
	c := &call[Q, A]{ctx: ctx, query: q, done: make(chan struct{})}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return c.answer, ErrStopped
	}
	g.queue = append(g.queue, c)
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		var none A
		return none, context.Cause(ctx)
	}
}

// Run serves calls until ctx ends; those that are waiting then are answered with an error, and so are later ones.
func (g *group[Q, A]) Run(ctx context.Context) {
	defer g.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		}
		for calls := g.take(); len(calls) > 0 && ctx.Err() == nil; calls = g.take() {
			g.apply(ctx, calls)
		}
	}
}

func (g *group[Q, A]) take() []*call[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, weight := 0, 0
	for n < len(g.queue) {
		if weight += g.weigh(g.queue[n].query); n > 0 && weight > g.most {
			break
		}
		n++
	}
	taken := g.queue[:n:n]
	g.queue = g.queue[n:]
	if len(g.queue) == 0 {
		g.queue = nil
	}
	return taken
}

func (g *group[Q, A]) apply(ctx context.Context, calls []*call[Q, A]) {
	live := calls[:0]
	for _, c := range calls {
		if c.ctx.Err() == nil {
			live = append(live, c)
		}
	}
	if len(live) == 0 {
		return
	}
	queries := make([]Q, len(live))
	for i, c := range live {
		queries[i] = c.query
	}
	answers, err := g.do(ctx, queries)
	switch {
	case err == nil:
		for i, c := range live {
			c.answer = answers[i]
			close(c.done)
		}
	case len(live) > 1 && ctx.Err() == nil && !errors.Is(err, store.ErrUnavailable):
		half := len(live) / 2
		g.apply(ctx, live[:half:half])
		g.apply(ctx, live[half:])
	default:
		for _, c := range live {
			c.err = err
			close(c.done)
		}
	}
}

func (g *group[Q, A]) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, c := range g.queue {
		c.err = ErrStopped
		close(c.done)
	}
	g.queue = nil
}
