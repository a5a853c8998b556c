package dispatch

import (
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Operation is what a group of calls does in one transaction.
type Operation string

// The operations.
const (
	Claiming Operation = "claim" // also with settlements before it
	Beating  Operation = "beat"
	Settling Operation = "settle"
)

// Meter is told what the dispatcher does, to be counted. Its methods must not block, and cost next to nothing.
type Meter interface {
	// Committed says that so many claims, leases or settlements took one transaction, and how long that was.
	Committed(o Operation, size int, took time.Duration)
	// Claimed says that a caller got batches after so long, in which there may have been none.
	Claimed(batches int, waited time.Duration)
	// Renewed says that leases were renewed.
	Renewed(leases int)
	// Settled says how an attempt was settled, and how long it took since it was granted; below 0 when that was elsewhere.
	Settled(end job.EndKind, took time.Duration)
	// Expired says how an attempt was ended whose worker did not, and after how long without a sign of life; below 0 when
	// that is not known here.
	Expired(end job.EndKind, unheard time.Duration)
	// FalselyExpired says that the worker of an attempt that was ended so beat, or settled, after that.
	FalselyExpired()
}

// unmetered counts nothing.
type unmetered struct{}

func (unmetered) Committed(Operation, int, time.Duration) {}
func (unmetered) Claimed(int, time.Duration)              {}
func (unmetered) Renewed(int)                             {}
func (unmetered) Settled(job.EndKind, time.Duration)      {}
func (unmetered) Expired(job.EndKind, time.Duration)      {}
func (unmetered) FalselyExpired()                         {}

// expiredKept bounds the leases of which is remembered that they expired.
const expiredKept = 4096

// expired remembers the leases that were last taken from workers who were silent. The zero value is ready.
type expired struct {
	mu    sync.Mutex
	known map[job.Lease]struct{}
	ring  [expiredKept]job.Lease
	next  int
}

func (x *expired) add(l job.Lease) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil {
		x.known = map[job.Lease]struct{}{}
	}
	delete(x.known, x.ring[x.next])
	x.ring[x.next] = l
	x.known[l] = struct{}{}
	x.next = (x.next + 1) % expiredKept
}

// take reports whether a lease expired, and forgets that.
func (x *expired) take(l job.Lease) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, known := x.known[l]
	delete(x.known, l)
	return known
}

// Expired notes attempts that the store ended since their workers were silent.
func (d *Dispatcher) Expired(ended []store.Ended) {
	for _, e := range ended {
		d.cfg.Meter.Expired(e.Kind, d.ledger.Look(e.Lease).Unheard)
		d.expired.add(e.Lease)
	}
	d.Returned(ended)
}

// late notes a beat or a settlement of a lease that was not its session's any more.
func (d *Dispatcher) late(l job.Lease) {
	if d.expired.take(l) {
		d.cfg.Meter.FalselyExpired()
	}
}
