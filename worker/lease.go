package worker

import (
	"context"
	"sync"
	"time"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// leaseKey names a lease within a session.
type leaseKey struct {
	batch   int64
	attempt int32
}

// stage is how far the work under a held lease is.
type stage uint8

const (
	handling stage = iota // the handler works
	flushing              // it has ended, and beats carry away what is too much for a settle
	settling              // the settlement waits to be sent, or to be answered
	parting               // the same, but its clock has run out: it is not held any more
	over                  // nothing more is said of it
)

// lease is the right to work on a batch, and the work. Unless said otherwise fields never change.
type lease struct {
	leaseKey
	grant    *pb.Grant
	ctx      context.Context // of the handler
	cancel   context.CancelCauseFunc
	progress *progress // set before the handler starts; nil while the payload is being fetched
	opaque   bool      // its handler finishes all items at once

	// Guarded by the session's lock.
	stage      stage
	settlement *pb.Settlement // how the attempt ended
	carried    bool           // the last beat brought outcomes
	stalled    bool           // and its answer acknowledged none
	refused    int            // answers in a row that should have brought it on and did not
	stuck      *time.Timer    // says that the handler does not stop; nil while it need not

	mu       sync.Mutex
	deadline time.Time
	clock    *time.Timer
}

// hold takes a lease that was granted, unless it is held already, and has its batch handled, or gives it back when nothing is
// taken any more. Its clock runs from start.
func (s *session) hold(working context.Context, g *pb.Grant, start time.Time) {
	key := leaseKey{g.GetBatchId(), g.GetAttempt()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] != nil || s.closed {
		return
	}
	l := &lease{leaseKey: key, grant: g, deadline: start.Add(g.GetRemaining().AsDuration()),
		opaque: opaque(s.config.Handlers[g.GetKind()])}
	l.ctx, l.cancel = context.WithCancelCause(working)
	l.clock = time.AfterFunc(time.Until(l.deadline), func() { s.ranOut(l) })
	s.held[key] = l
	if !s.claiming {
		l.cancel(ErrDraining)
		s.conclude(l, ErrDraining)
		return
	}
	s.running[l] = struct{}{}
	// It ends with the handler. What does not return when the worker stops is named in Run's error.
	go s.work(l)
}

// until returns when the lease ends as known now.
func (l *lease) until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

// renew notes that the lease lasts until deadline at least.
func (l *lease) renew(deadline time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if deadline.After(l.deadline) {
		l.deadline = deadline
		l.clock.Reset(time.Until(deadline))
	}
}

// ranOut gives a lease up when its clock has run out. The clock may have been set forward since it rang.
func (s *session) ranOut(l *lease) {
	l.mu.Lock()
	left := time.Until(l.deadline)
	if left > 0 {
		l.clock.Reset(left)
	}
	l.mu.Unlock()
	if left > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part(l)
}

// part gives up a lease whose clock has run out. By now it may be another worker's, but after an outage of the coordinators
// it is nobody's until they have waited for another lease: so it is given back or, when the work was done in time, still
// settled. Should somebody else have it, that changes nothing. The lock must be held.
func (s *session) part(l *lease) {
	if !s.drop(l, ErrLeaseLost) {
		return
	}
	if l.stage != settling {
		l.settlement = &pb.Settlement{BatchId: l.batch, Attempt: l.attempt, FromItem: l.grant.GetDoneItems(),
			End: pb.AttemptEnd_ATTEMPT_END_RELEASED, Message: "no heartbeat was answered while the lease lasted"}
		s.queue = append(s.queue, l)
		poke(s.settle)
	}
	l.stage = parting
	s.log.Warn("lease lost", "job_id", l.grant.GetJobId(), "batch_id", l.batch, "attempt", l.attempt,
		"reason", "no heartbeat was answered while it lasted")
}

// lose gives up a lease that is not the session's any more. Nothing is settled.
func (s *session) lose(l *lease, why string) {
	s.mu.Lock()
	dropped := s.drop(l, ErrLeaseLost)
	s.mu.Unlock()
	if dropped {
		s.log.Warn("lease lost", "job_id", l.grant.GetJobId(), "batch_id", l.batch, "attempt", l.attempt, "reason", why)
	}
}

// drop forgets a lease, interrupting its handler if there still is one. It returns false if it was not held any more.
// The lock must be held.
func (s *session) drop(l *lease, cause error) bool {
	if s.held[l.leaseKey] != l {
		return false
	}
	delete(s.held, l.leaseKey)
	l.mu.Lock()
	l.clock.Stop()
	l.mu.Unlock()
	if l.progress != nil {
		l.progress.close()
	}
	s.interrupt(l, cause)
	s.notify()
	return true
}

// interrupt ends the context of a handler. The lock must be held.
func (s *session) interrupt(l *lease, cause error) {
	if _, ok := s.running[l]; ok && l.stuck == nil {
		l.stuck = time.AfterFunc(s.config.StopTimeout, func() {
			s.log.Warn("handler does not stop, its slot stays taken", "job_id", l.grant.GetJobId(), "batch_id", l.batch,
				"attempt", l.attempt, "cause", context.Cause(l.ctx))
		})
	}
	l.cancel(cause)
}
