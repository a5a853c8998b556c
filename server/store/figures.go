package store

import (
	"context"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// FiguresQuery says what is asked of Figures.
type FiguresQuery struct {
	Window time.Duration // that the ended batches are of, as in StatisticsFilter
	Silent time.Duration // without a beat after which a session counts as silent
	// Floors are what an earlier answer said, so that what has been claimed since then is not walked through again; nil at
	// first.
	Floors map[int64]int32
}

// Figures are what is measured of the whole database, for many to look at. They are read from what is open, and from
// counters; what they cost does not grow with what has ended.
type Figures struct {
	Jobs     map[job.State]int64    // open ones
	Kinds    map[string]KindFigures // of open jobs, and those that sessions serve
	Sessions SessionFigures
	Ended    [6]int64 // as Statistics has them, over the window
	Crashed  int64
	Floors   map[int64]int32 // by job: no fresh batch that can be claimed lies before this ordinal, now or later
	Database DatabaseFigures
}

// CrashRate is the share of the batches that ended in the window, cancelled ones apart, of which at least one attempt died with its
// worker.
func (f *Figures) CrashRate() float64 { return job.CrashRate(f.Ended[:], f.Crashed) }

// Settled is the number of batches that the crash rate is of.
func (f *Figures) Settled() int64 {
	n := -f.Ended[job.BatchCancelled]
	for _, ended := range f.Ended {
		n += ended
	}
	return n
}

// KindFigures are those of a kind.
type KindFigures struct {
	Pending, Running int64 // batches of open jobs, as of their last folds
	// Oldest is for how long that batch has waited which has waited longest: since it was cut, or could be claimed again. Only
	// of jobs that are running; 0 when none waits.
	Oldest   time.Duration
	Sessions int64 // that serve it, and are neither silent nor being drained
}

// SessionFigures counts the sessions that have not ended.
type SessionFigures struct {
	Alive    int64 // not silent
	Silent   int64
	Draining int64 // of the others
	Lacking  int64 // of the others, those that lack something which they need
}

// DatabaseFigures are about the database itself. An engine leaves out what it does not have.
type DatabaseFigures struct {
	DeadTuples     map[string]int64 // by table, as of the engine's own statistics
	OldestSnapshot time.Duration    // of others, as far as this user may see them: what keeps dead tuples from being removed
}

// Pool is the state of a pool of connections.
type Pool struct {
	Max, InUse, Idle int64
	Waits            int64         // callers, ever, that had to wait for a connection
	Waited           time.Duration // all of them together
}

// Gauges is what an operator measures of a store.
type Gauges interface {
	// Figures returns what the database is at. It is one reading, of one moment as far as each part is.
	Figures(ctx context.Context, q FiguresQuery) (Figures, error)
	// Pool returns the state of the connections. It does not block.
	Pool() Pool
}

// Open counts open jobs of a state and kind, and their batches.
func (f *Figures) Open(state job.State, kind string, jobs, pending, running int64) {
	f.Jobs[state] += jobs
	k := f.Kinds[kind]
	k.Pending += pending
	k.Running += running
	f.Kinds[kind] = k
}

// Waits notes that a batch of a kind has waited for so long.
func (f *Figures) Waits(kind string, age time.Duration) {
	k := f.Kinds[kind]
	k.Oldest = max(k.Oldest, age)
	f.Kinds[kind] = k
}

// Serve counts sessions that have not ended.
func (f *Figures) Serve(kinds []string, silent, draining, lacking bool, n int64) {
	if silent {
		f.Sessions.Silent += n
	} else {
		f.Sessions.Alive += n
		if draining {
			f.Sessions.Draining += n
		}
		if lacking {
			f.Sessions.Lacking += n
		}
	}
	for _, kind := range kinds {
		k := f.Kinds[kind]
		if !silent && !draining {
			k.Sessions += n
		}
		f.Kinds[kind] = k
	}
}
