package dispatch

import (
	"container/heap"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Ledger is the coordinator's memory of the leases that it granted or saw beat: when each is due, whose it is, and
// which job's. It is safe for concurrent use and never blocks for long.
type Ledger struct {
	mu       sync.Mutex
	entries  map[int64]*entry // by batch
	sessions index
	jobs     index
	due      dueHeap
}

type entry struct {
	lease   job.Lease
	jobID   int64
	granted time.Time // monotonic
	heard   time.Time // monotonic; when it was granted or last renewed
	due     time.Time // monotonic; when the lease ends unless it is renewed
	here    bool      // it was granted by this coordinator
	missed  int       // beats in a row, since the grant, that did not name it
	overdue int       // times it was due since it was granted or last renewed
	index   int       // in the heap

	// Of its progress, all monotonic. They begin when this coordinator first hears of the lease, so that a limit may be
	// enforced late, but never early.
	begun      time.Time // when the attempt began
	beaten     time.Time // when it was last named in a beat here; zero before
	finished   int32     // items, as of then
	progressed time.Time // when that last grew
}

// index finds entries by session or job, then by batch.
type index map[int64]map[int64]*entry

func (x index) add(key int64, e *entry) {
	if x[key] == nil {
		x[key] = map[int64]*entry{}
	}
	x[key][e.lease.BatchID] = e
}

func (x index) remove(key int64, e *entry) {
	delete(x[key], e.lease.BatchID)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{entries: map[int64]*entry{}, sessions: index{}, jobs: index{}}
}

// Hold notes that a lease was granted, or renewed, to end in remaining. With a jobID of 0 its job is not known.
func (l *Ledger) Hold(lease job.Lease, jobID int64, remaining time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	e := l.entries[lease.BatchID]
	if e != nil && e.lease != lease {
		if e.lease.Attempt > lease.Attempt {
			return
		}
		l.drop(e)
		e = nil
	}
	if e == nil {
		e = &entry{lease: lease, granted: now, begun: now, progressed: now, due: now.Add(remaining)}
		l.entries[lease.BatchID] = e
		l.sessions.add(lease.SessionID, e)
		heap.Push(&l.due, e)
	}
	if jobID != 0 && e.jobID != jobID {
		e.jobID = jobID
		l.jobs.add(jobID, e)
	}
	e.heard, e.due, e.overdue = now, now.Add(remaining), 0
	heap.Fix(&l.due, e.index)
}

// Grant notes a lease as it was granted here.
func (l *Ledger) Grant(g store.Grant) {
	l.Hold(g.Lease, g.JobID, g.Remaining)
	if g.Repeated {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[g.BatchID]; e != nil && e.lease == g.Lease {
		e.here = true
	}
}

// Known is what is known of a lease.
type Known struct {
	Held    time.Duration // since it was granted; below 0 when that was not here
	Unheard time.Duration // since it was granted, or last renewed, as far as that was here; below 0 when it was not
}

// Look returns what is known of a lease.
func (l *Ledger) Look(lease job.Lease) Known {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[lease.BatchID]
	if e == nil || e.lease != lease {
		return Known{Held: -1, Unheard: -1}
	}
	k := Known{Held: -1, Unheard: time.Since(e.heard)}
	if e.here {
		k.Held = time.Since(e.granted)
	}
	return k
}

// Drop forgets a lease that ended. A newer one on the same batch stays.
func (l *Ledger) Drop(lease job.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[lease.BatchID]; e != nil && e.lease.Attempt <= lease.Attempt {
		l.drop(e)
	}
}

func (l *Ledger) drop(e *entry) {
	delete(l.entries, e.lease.BatchID)
	l.sessions.remove(e.lease.SessionID, e)
	l.jobs.remove(e.jobID, e)
	heap.Remove(&l.due, e.index)
}

// Shorten notes that the leases of a session end in grace at the latest.
func (l *Ledger) Shorten(session int64, grace time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := time.Now().Add(grace)
	for _, e := range l.sessions[session] {
		if due.Before(e.due) {
			e.due = due
			heap.Fix(&l.due, e.index)
		}
	}
}

// Named notes which leases a beat of a session named, and returns those that it, and the beat before it, did not name
// although they were granted more than age ago: the grant never reached the worker, or it has forgotten them.
func (l *Ledger) Named(session int64, named map[int64]bool, age time.Duration) []job.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	var forgotten []job.Lease
	now := time.Now()
	for id, e := range l.sessions[session] {
		switch {
		case named[id]:
			e.missed = 0
		case now.Sub(e.granted) > age:
			if e.missed++; e.missed >= 2 {
				forgotten = append(forgotten, e.lease)
			}
		}
	}
	return forgotten
}

// overdueMost is how often a lease is due before it is forgotten. Who renews or settles at another coordinator leaves
// such entries behind; what did not end after all is found by the reaper's full scan.
const overdueMost = 30

// Due returns at most limit batches whose leases should have ended, and next, the time until another one does: 0 when
// there is none. Their entries move back by again, so that one that the database does not agree about is asked for
// later, not at once, and are forgotten when that has happened too often.
func (l *Ledger) Due(limit int, again time.Duration) (batches []int64, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.due) > 0 && len(batches) < limit && !now.Before(l.due[0].due) {
		e := l.due[0]
		batches = append(batches, e.lease.BatchID)
		if e.overdue++; e.overdue >= overdueMost {
			l.drop(e)
			continue
		}
		e.due = now.Add(again)
		heap.Fix(&l.due, 0)
	}
	if len(l.due) > 0 {
		next = max(l.due[0].due.Sub(now), time.Millisecond)
	}
	return batches, next
}

// OfJob returns the leases known of a job.
func (l *Ledger) OfJob(jobID int64) []job.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	leases := make([]job.Lease, 0, len(l.jobs[jobID]))
	for _, e := range l.jobs[jobID] {
		leases = append(leases, e.lease)
	}
	return leases
}

// Holds reports whether leases of a job are known.
func (l *Ledger) Holds(jobID int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs[jobID]) > 0
}

// Len returns the number of leases known.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
