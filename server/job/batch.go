package job

import (
	"math/rand/v2"
	"time"
)

// Lease names one attempt of a session at a batch. Attempt is the fencing token: it grows with every claim.
type Lease struct {
	BatchID   int64
	Attempt   int32
	SessionID int64
}

// Batch is a run of items that one worker handles under one lease.
type Batch struct {
	ID        int64
	JobID     int64
	Ordinal   int32 // place in the job, from 0; given by ingest only
	FirstItem int64 // number of its first item in the upload, from 1
	ItemCount int32
	DoneItems int32 // items at its front whose outcome is final
	Weight    int32

	State      BatchState
	Attempt    int32 // claims so far
	Failures   int32
	Crashes    int32
	Losses     int32
	LoneLosses int32  // of the last losses in a row, those while most other sessions kept beating
	Outcomes   []Run  // of the ended items, from the front
	Error      string // what its last attempt ended with, if that was not completion
	Suspicion         // what its deaths say
	Beats      int32  // that renewed the lease of its last attempt
	RootID     int64  // of a part of a split batch: the one that ingest cut; else 0
	ParentID   int64  // of a part of a split batch: the one that was split; else 0

	SessionID      int64     // the holder while running, else 0
	LeaseExpiresAt time.Time // zero unless running
	ClaimedAt      time.Time // of the last attempt; zero before the first
	SettledAt      time.Time // when it ended; zero while open
	AvailableAt    time.Time // of a returned batch: not claimed before
}

// EndKind is how an attempt ended. The texts are kept in the database.
type EndKind string

// The ways an attempt ends.
const (
	EndCompleted EndKind = "completed"
	EndFailed    EndKind = "failed"
	EndReleased  EndKind = "released"  // given back: drain, shutdown, or a grant that nobody received
	EndCancelled EndKind = "cancelled" // given back because the job is being cancelled
	EndDied      EndKind = "died"      // the worker, or the process in which it handled the batch, is known to be dead
	EndLost      EndKind = "lost"      // silence until the lease ran out
)

// Crashed reports whether people are shown the attempt as crashed.
func (k EndKind) Crashed() bool { return k == EndDied || k == EndLost }

// End is how an attempt ended and what it had done by then.
type End struct {
	Kind      EndKind
	Retryable bool   // of a failure: another attempt may succeed
	Message   string // of a failure, or what is known of a crash
	Outcomes  []Run  // what it adds to the outcomes of its batch, from item From on
	From      int32
	Crash     *Crash // what a worker that lives says of the death of a process; nil otherwise
}

// Decision is what an ended attempt leads to.
type Decision struct {
	State      BatchState
	Backoff    time.Duration // of a batch that becomes pending: not claimed before
	Avoid      time.Duration // of a batch that becomes pending: not by a session of DiedOn before
	Undone     Outcome       // of the items without an outcome, when the batch ends
	Failures   int32
	Crashes    int32
	Losses     int32
	LoneLosses int32
	Suspicion
	Parts []Part // of a batch that is split: all of its items, in order
	Why   string // for people; "" when there was nothing to decide
}

// Peer is what is known of another session when a lease has run out in silence.
type Peer struct {
	Age    time.Duration // since it began
	Silent time.Duration // since it was last heard of
}

// lostAsDied is how many losses in a row, each while most other sessions kept beating, count as one death.
const lostAsDied = 3

// Silence says how an attempt ended whose lease ran out while its session had not been heard of for silent: as lost. But
// when most other sessions kept beating meanwhile, and did so at the two losses in a row before, it is the batch that is
// accused: it died. It counts such losses in b. A release in between does not break the row, a loss at which the others
// were silent too, as in a network's outage, is passed over, and any other end begins it anew.
func (b *Batch) Silence(silent time.Duration, others []Peer) EndKind {
	if !keptBeating(silent, others) {
		return EndLost
	}
	if b.LoneLosses++; b.LoneLosses < lostAsDied {
		return EndLost
	}
	return EndDied
}

// Past is how an earlier attempt at a batch ended, and whether its session was never heard of again.
type Past struct {
	Kind      EndKind
	SessionID int64
	Gone      bool
}

// Vanished reports whether the end of an attempt that is lost completes a row of so many losses that they count as one death:
// each of another session, of which nothing was ever heard again. After an outage of the network workers come back. earlier
// are the attempts before, the last one first. A release in between does not break the row.
func Vanished(session int64, earlier []Past) bool {
	gone := map[int64]bool{session: true}
	for _, p := range earlier {
		switch {
		case p.Kind == EndReleased:
			continue
		case p.Kind != EndLost || !p.Gone:
			return false
		}
		if gone[p.SessionID] = true; len(gone) == lostAsDied {
			return true
		}
	}
	return false
}

// keptBeating reports whether more than half of the other sessions were heard of in the second half of a silence. Those
// count that lived when it began: had begun before it, and been heard of no longer before it than it took. Without one
// nobody can tell a batch that freezes its worker from a network that is down.
func keptBeating(silent time.Duration, others []Peer) bool {
	lived, heard := 0, 0
	for _, p := range others {
		if p.Age < silent || p.Silent > 2*silent {
			continue
		}
		lived++
		if 2*p.Silent < silent {
			heard++
		}
	}
	return 2*heard > lived
}

// Case is what the end of an attempt is decided by, besides its batch.
type Case struct {
	End       EndKind
	Retryable bool  // of a failure
	Death     Death // of EndDied
	State     State // of the job
	Policy    Policy
}

// Decide says what the end of an attempt leads to, by what is known of the batch (its DoneItems already including
// what the end reported) and the case. It decides nothing else: the caller applies it under the batch's lock.
func Decide(b *Batch, c Case) Decision {
	d := Decision{Failures: b.Failures, Crashes: b.Crashes, Losses: b.Losses, Suspicion: b.Suspicion}
	switch c.End {
	case EndFailed:
		d.Failures++
	case EndDied:
		if !c.Death.Drained {
			d.Crashes++
		}
	case EndLost:
		d.Losses++
		d.LoneLosses = b.LoneLosses
	case EndReleased:
		d.LoneLosses = b.LoneLosses
	case EndCompleted, EndCancelled:
		// These accuse nobody.
	}
	switch {
	case c.End == EndCompleted || b.DoneItems >= b.ItemCount:
		// An attempt that died after its last item was durable has nothing left to repeat.
		d.State = BatchCompleted
	case c.End == EndFailed && (!c.Retryable || d.Failures >= c.Policy.Attempts()):
		d.State, d.Undone = BatchFailed, ItemFailed
	case c.State.Stopping():
		d.State, d.Undone = BatchCancelled, ItemCancelled
	case c.End == EndDied:
		d.die(b, c.Death, c.Policy)
	case c.End == EndFailed:
		d.State, d.Backoff = BatchPending, backoff(d.Failures)
	default:
		d.State = BatchPending
	}
	return d
}

// Backoff bounds: the first retry after about a second, doubling, at most five minutes.
const (
	backoffFirst = time.Second
	backoffMost  = 5 * time.Minute
)

// backoff returns the wait after the n-th failure, between half and the whole of the nominal time, so that batches
// that failed together do not come back together.
func backoff(n int32) time.Duration {
	d := backoffMost
	if n < 10 {
		d = min(backoffFirst<<max(n-1, 0), backoffMost)
	}
	return d/2 + rand.N(d/2)
}
