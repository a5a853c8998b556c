package dispatch

import (
	"context"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/server/store"
)

func (c *claims) settleAndClaim(
	ctx context.Context, settlements []store.Settlement, r store.ClaimRequest, kinds []string,
) ([]store.SettleAnswer, []store.Grant, error) {
	w := &waiter{ctx: ctx, request: r, kinds: slices.Sorted(slices.Values(kinds)), done: make(chan struct{}), arrived: time.Now(),
		settlements: settlements}
	if !c.await(w) {
		return nil, nil, context.Cause(ctx)
	}
	if w.err == nil && !w.asked {
		return nil, nil, context.Cause(ctx) // it was late
	}
	return w.settled, w.grants, w.err
}

// gathering is a group of waiters of whom the store is asked together.
type gathering struct {
	open        []*waiter
	requests    []store.ClaimRequest
	settlements []store.Settlement // in the order of their waiters
	want        int                // batches that may be given to all of them
	asked       bool               // the store has seen every one
}

// gather returns as many waiters that have nothing yet as fit into a group: with fresh only those of whom the store was not
// asked. One that got something is done, if it could take more or not: a second claim under its request id would be taken
// for a repetition.
func (c *claims) gather(waiters []*waiter, fresh bool) gathering {
	g := gathering{asked: true}
	weight := 0
	for _, w := range waiters {
		if len(w.grants) > 0 || w.err != nil || w.drained || w.ctx.Err() != nil || w.asked && (fresh || w.settles()) {
			continue
		}
		r := w.request
		r.Max = min(r.Max, c.d.cfg.GroupSize)
		weight += weighSettlements(w.settlements)
		if len(g.open) > 0 && max(g.want+r.Max, weight) > c.d.cfg.GroupSize {
			break
		}
		g.open, g.requests, g.want = append(g.open, w), append(g.requests, r), g.want+r.Max
		g.settlements = append(g.settlements, w.settlements...)
		g.asked = g.asked && w.asked
	}
	return g
}

// ask has the store settle what a group brings, and claim.
func (c *claims) ask(ctx context.Context, g gathering, turns []store.Turn) (settled store.Settled, claimed store.Claimed, err error) {
	if len(g.settlements) > 0 {
		return c.d.cfg.Store.SettleAndClaim(ctx, g.settlements, c.d.cfg.Lease, g.requests, turns)
	}
	claimed, err = c.d.cfg.Store.Claim(ctx, c.d.cfg.Lease, g.requests, turns)
	return settled, claimed, err
}
