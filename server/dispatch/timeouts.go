package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// limits are those of an attempt's time, by its job's policy; 0 for none.
type limits struct {
	stall   time.Duration
	attempt time.Duration
}

// late is an attempt that has passed one of its limits.
type late struct {
	lease job.Lease
	why   string
}

// Standing is what a beat says of how far a batch is.
type Standing struct {
	Finished int32 // items; below 0 while it waits for its handler
	Opaque   bool  // all items are finished at once: it does not stall
}

// Progress notes what a beat says of a lease. A lease that is not known is not noted.
func (l *Ledger) Progress(lease job.Lease, s Standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[lease.BatchID]
	if e == nil || e.lease != lease {
		return
	}
	now := time.Now()
	if s.Finished < 0 {
		e.begun, e.progressed = now, now
	} else if e.beaten.IsZero() || s.Finished > e.finished || s.Opaque {
		e.finished, e.progressed = max(s.Finished, e.finished), now
	}
	e.beaten = now
}

// late returns the attempts that beat here within heard and have passed a limit of their job's. What beats elsewhere is
// judged there, and what does not beat at all ends with its lease. That nothing was finished, and that a handler
// works, is known as of the last beat here, not since: the worker may have gone to another coordinator and told that one
// otherwise.
func (l *Ledger) late(heard time.Duration, of func(jobID int64) (limits, bool)) (list []late) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for jobID, entries := range l.jobs {
		most, known := of(jobID)
		if !known || most == (limits{}) {
			continue
		}
		for _, e := range entries {
			switch {
			case e.beaten.IsZero() || now.Sub(e.beaten) > heard:
			case most.stall > 0 && e.beaten.Sub(e.progressed) >= most.stall:
				list = append(list, late{e.lease, fmt.Sprintf("no item finished for %v (stall_timeout)", most.stall)})
			case most.attempt > 0 && e.beaten.Sub(e.begun) >= most.attempt:
				list = append(list, late{e.lease, fmt.Sprintf("not done after %v (attempt_timeout)", most.attempt)})
			}
		}
	}
	return list
}

// jobsOf returns the jobs of which leases are known.
func (l *Ledger) jobsOf() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]int64, 0, len(l.jobs))
	for id := range l.jobs {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// timeoutLoop ends, as failed, attempts that finish nothing for too long or take too long.
func (d *Dispatcher) timeoutLoop(ctx context.Context) {
	ticker := time.NewTicker(d.cfg.Poll)
	defer ticker.Stop()
	known := map[int64]limits{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := d.endLate(ctx, known); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrUnavailable) {
			d.cfg.Logger.Warn("end attempts that take too long", "error", err)
		}
	}
}

// endLate is one round of that. known are the limits of the jobs that this coordinator holds leases of.
func (d *Dispatcher) endLate(ctx context.Context, known map[int64]limits) error {
	ids := d.ledger.jobsOf()
	held := make(map[int64]bool, len(ids))
	for _, id := range ids {
		held[id] = true
		if _, ok := known[id]; ok {
			continue
		}
		j, err := d.Job(ctx, id, d.cfg.Store.GetJob)
		if errors.Is(err, store.ErrNotFound) {
			continue // it was deleted
		}
		if err != nil {
			return err
		}
		known[id] = limits{stall: j.Policy.Stall(), attempt: max(j.Policy.AttemptTimeout, 0)}
	}
	for id := range known {
		if !held[id] {
			delete(known, id)
		}
	}
	list := d.ledger.late(d.cfg.Lease, func(id int64) (limits, bool) { most, ok := known[id]; return most, ok })
	if len(list) == 0 {
		return nil
	}
	leases, ends := make([]job.Lease, len(list)), make([]store.Settlement, len(list))
	for i, x := range list {
		leases[i] = x.lease
		ends[i] = store.Settlement{Lease: x.lease, End: job.End{Kind: job.EndFailed, Retryable: true, Message: x.why}}
	}
	answers, err := d.Settle(ctx, ends)
	if err != nil {
		return err
	}
	for i, a := range answers {
		if a.Lost {
			d.ledger.Drop(leases[i])
		}
	}
	d.cfg.Events.Taken(leases)
	return nil
}
