package dispatch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// claims is the loop that gives batches to waiting callers.
type claims struct {
	d     *Dispatcher
	board *board

	mu      sync.Mutex
	waiting []*waiter      // in order of arrival
	stirred map[int64]bool // jobs that something happened to; false: no more than that batches of them ended
	stale   bool           // the board must be read again
	closed  bool
	wake    chan struct{}
}

// waiter is one caller of Claim.
type waiter struct {
	ctx     context.Context
	request store.ClaimRequest
	kinds   []string // sorted
	grants  []store.Grant
	err     error
	asked   bool          // the store has seen the request
	drained bool          // it came when its session was being drained already
	done    chan struct{} // closed with grants or err set
	arrived time.Time

	// What goes before the claim. Who settles does not wait for work.
	settlements []store.Settlement
	settled     []store.SettleAnswer // set once asked
}

func (w *waiter) settles() bool { return len(w.settlements) > 0 }

func newClaims(d *Dispatcher) *claims {
	return &claims{d: d, board: newBoard(d.cfg.MaxRunningPerProject), stirred: map[int64]bool{}, stale: true, wake: make(chan struct{}, 1)}
}

func (c *claims) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *claims) stir(jobID int64) {
	c.mu.Lock()
	c.stirred[jobID] = true
	waiting := len(c.waiting) > 0
	c.mu.Unlock()
	if waiting {
		c.signal()
	}
}

// free says that batches of a job ended, which is nothing to jobs and projects without limits.
func (c *claims) free(jobID int64) {
	c.mu.Lock()
	limited := c.board.limited(jobID)
	if _, stirred := c.stirred[jobID]; limited && !stirred {
		c.stirred[jobID] = false
	}
	waiting := len(c.waiting) > 0
	c.mu.Unlock()
	if waiting && limited {
		c.signal()
	}
}

func (c *claims) claim(ctx context.Context, r store.ClaimRequest, kinds []string) ([]store.Grant, error) {
	w := &waiter{ctx: ctx, request: r, kinds: slices.Sorted(slices.Values(kinds)), done: make(chan struct{}), arrived: time.Now()}
	if !c.await(w) {
		return nil, nil
	}
	if errors.Is(w.err, store.ErrSessionDrained) {
		return nil, nil // while it waited
	}
	return w.grants, w.err
}

// await has a waiter served. It returns false when its context ended before that began.
func (c *claims) await(w *waiter) bool {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		w.err = ErrStopped
		return true
	}
	c.waiting = append(c.waiting, w)
	c.mu.Unlock()
	c.signal()
	select {
	case <-w.done:
	case <-w.ctx.Done():
		if c.withdraw(w) {
			return false
		}
		// A claim for it is under way: its answer is bounded by the store's own limits.
		<-w.done
	}
	return true
}

// drain answers the waiters of sessions with nothing. Claims that come later wait in vain, since one that is answered at
// once would be made again at once by a worker that does not heed what it is told.
func (c *claims) drain(sessions []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = slices.DeleteFunc(c.waiting, func(w *waiter) bool {
		if w.drained || w.settles() || !slices.Contains(sessions, w.request.SessionID) {
			return false
		}
		close(w.done)
		return true
	})
}

// withdraw takes a waiter out of the queue; false means that it is being served.
func (c *claims) withdraw(w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.waiting, w)
	if i < 0 {
		return false
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	return true
}

func (c *claims) run(ctx context.Context) {
	defer c.close()
	poll := time.NewTicker(c.d.cfg.Poll)
	defer poll.Stop()
	for {
		polled := false
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-poll.C:
			polled = true
		}
		c.round(ctx, polled)
	}
}

// round serves the waiters, those that serve the same kinds together.
func (c *claims) round(ctx context.Context, polled bool) {
	groups := c.take()
	if len(groups) == 0 {
		return
	}
	if err := c.refresh(ctx, polled); err != nil {
		c.back(groups, err)
		return
	}
	for i, g := range groups {
		if err := c.serve(ctx, g); err != nil {
			c.back(groups[i:], err)
			return
		}
		c.back([][]*waiter{g}, nil)
	}
}

// take removes the waiters from the queue, grouped by kinds.
func (c *claims) take() [][]*waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := map[string]int{}
	var groups [][]*waiter
	for _, w := range c.waiting {
		key := strings.Join(w.kinds, "\n")
		i, ok := by[key]
		if !ok {
			i = len(groups)
			by[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], w)
	}
	c.waiting = nil
	return groups
}

// back answers the waiters that were served, and puts the others at the head of the queue again. With an error they
// are all answered with it, unless the store cannot be reached: waiting goes on then until a caller's own deadline.
func (c *claims) back(groups [][]*waiter, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var still []*waiter
	for _, g := range groups {
		for _, w := range g {
			switch {
			case len(w.grants) > 0 || w.err != nil || w.settles() && w.asked:
				close(w.done)
			case err != nil && (w.settles() || !errors.Is(err, store.ErrUnavailable)):
				w.err = err
				close(w.done)
			case w.ctx.Err() != nil || c.closed:
				close(w.done)
			default:
				still = append(still, w)
			}
		}
	}
	c.waiting = append(still, c.waiting...)
	if err != nil {
		c.stale = true
	} else if len(still) > 0 && len(c.stirred) > 0 {
		// What was committed while these were being served woke nobody: the queue was empty.
		c.signal()
	}
}

// refresh reads which jobs are running when something happened to them, or at a poll.
func (c *claims) refresh(ctx context.Context, polled bool) error {
	c.mu.Lock()
	stirred, stale := c.stirred, c.stale || polled
	c.stirred = map[int64]bool{}
	for id, more := range stirred {
		if more && (id == 0 || c.board.jobs[id] == nil) {
			stale = true
		}
	}
	c.stale = false
	c.mu.Unlock()
	if stale {
		jobs, err := c.d.cfg.Store.ClaimableJobs(ctx)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.board.refresh(jobs)
		c.mu.Unlock()
	}
	c.board.rewind(polled, c.d.cfg.Poll)
	for id, more := range stirred {
		if more {
			c.board.stir(id)
		} else {
			c.board.free(id)
		}
	}
	return nil
}

// serve claims for waiters of the same kinds, as often as jobs that were not asked yet may have more. The store is
// asked about a new waiter even when there is no job: its session may have ended, or it may repeat a request.
func (c *claims) serve(ctx context.Context, waiters []*waiter) error {
	kinds := map[string]bool{}
	for _, k := range waiters[0].kinds {
		kinds[k] = true
	}
	for {
		g := c.gather(waiters, false)
		if !g.asked {
			c.board.reconsider() // who comes anew may be the one that a batch waits for
		}
		turns := c.board.deal(kinds, g.want)
		if len(turns) == 0 && g.asked {
			// There is no work for the first, which must not keep others from being asked about, or from settling.
			if g = c.gather(waiters, true); len(g.open) == 0 {
				return nil
			}
		}
		if len(g.open) == 0 {
			return nil
		}
		open, requests, settlements, want := g.open, g.requests, g.settlements, g.want
		began := time.Now()
		settled, claimed, err := c.ask(ctx, g, turns)
		switch half := len(open) / 2; {
		case err == nil:
			c.d.cfg.Meter.Committed(Claiming, len(requests), time.Since(began))
		case errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil:
			return err
		case half == 0:
			// The guilty request fails alone.
			open[0].err = err
			continue
		default:
			return errors.Join(c.serve(ctx, open[:half]), c.serve(ctx, open[half:]))
		}
		got := 0
		jobs := map[int64]bool{}
		answers := settled.Answers
		for i, w := range open {
			if w.settles() {
				w.settled, answers = answers[:len(w.settlements):len(w.settlements)], answers[len(w.settlements):]
			}
			w.err = claimed.Errs[i]
			if errors.Is(w.err, store.ErrSessionDrained) && !w.asked {
				w.err, w.drained = nil, true
			}
			w.asked = true
			w.grants = claimed.Grants[i]
			if w.settles() {
				w.err = nil // that it cannot claim is for its next claim to be told
			}
			if got += len(w.grants); claimed.Errs[i] != nil || len(w.grants) > 0 && w.grants[0].Repeated {
				got += requests[i].Max // it asked for nothing that a job could have given
			}
			for _, g := range claimed.Grants[i] {
				c.d.ledger.Grant(g)
				jobs[g.JobID] = true
			}
			if len(w.grants) > 0 && !w.grants[0].Repeated {
				c.d.cfg.Meter.Claimed(len(w.grants), time.Since(w.arrived))
			}
		}
		for id := range jobs {
			c.d.cfg.Events.Changed(id, false)
		}
		c.board.took(turns, claimed.Took)
		if got < want {
			c.board.dried(turns, claimed.Took)
		}
		// After what this claim left: what ended may have made room, or returned something, for who waits.
		c.d.settled(settlements, settled)
	}
}

func (c *claims) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, w := range c.waiting {
		w.err = ErrStopped
		close(w.done)
	}
	c.waiting = nil
}

// Job tells what a grant's caller must know of its job, from the board or the store.
func (d *Dispatcher) Job(ctx context.Context, id int64, get func(context.Context, int64) (job.Job, error)) (job.Job, error) {
	if j, ok := d.claims.job(id); ok {
		return j, nil
	}
	return get(ctx, id)
}

func (c *claims) job(id int64) (job.Job, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.board.jobs[id]
	if s == nil {
		return job.Job{}, false
	}
	return s.job, true
}
