package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Lister is what the roll needs of the store.
type Lister interface {
	GetJob(ctx context.Context, id int64) (job.Job, error)
	ListJobs(ctx context.Context, f store.JobFilter, page store.Page) ([]job.Job, error)
}

// rollPage is how many jobs the roll reads at once.
const rollPage = 1000

// Roll follows the list of jobs for all who watch it: while there is anyone, it reads once a second which jobs are open,
// which are new, and what became of those that were open, and nothing for each watcher. Safe for concurrent use.
type Roll struct {
	store  Lister
	logger *slog.Logger
	pace   time.Duration

	mu       sync.Mutex
	watchers map[*Reading]struct{}
	entries  map[int64]*entry
	newest   int64              // the highest id that was seen
	looks    map[int64]struct{} // jobs that somebody said have changed
	round    int64
	changed  chan struct{} // closed and replaced when a round brought something
	wake     chan struct{} // there is a first watcher
}

// entry is a job that is open, or was lately.
type entry struct {
	meter    meter
	snapshot *Snapshot // nil when the job is gone
	revision int64
	state    job.State
	round    int64 // in which it changed
}

// NewRoll returns a roll that nobody watches. It reads while Run runs.
func NewRoll(s Lister, logger *slog.Logger) *Roll {
	return &Roll{
		store: s, logger: logger, pace: time.Second, watchers: map[*Reading]struct{}{}, entries: map[int64]*entry{},
		looks: map[int64]struct{}{}, changed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// Look says that a job has changed in a way that its being open or new does not show, such as that it is gone. It does not
// block.
func (r *Roll) Look(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.watchers) > 0 && len(r.looks) < rollPage {
		r.looks[id] = struct{}{}
	}
}

// Run follows the list until ctx ends.
func (r *Roll) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.mu.Lock()
		watched := len(r.watchers) > 0
		if !watched { // what was known is old by when somebody comes
			clear(r.entries)
			clear(r.looks)
			r.newest = 0
		}
		r.mu.Unlock()
		if watched {
			r.runOnce(ctx)
		}
		timer.Reset(r.pace)
		tick := timer.C
		if !watched {
			tick = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-tick:
		}
	}
}

// runOnce reads what there is to read once.
func (r *Roll) runOnce(ctx context.Context) {
	found, gone, err := r.read(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.logger.Warn("follow the list of jobs", "error", err)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round++
	now, news := time.Now(), false
	for i := range found {
		news = r.take(&found[i], now) || news
	}
	for _, id := range gone {
		if e := r.entries[id]; e == nil || e.snapshot != nil {
			r.entries[id] = &entry{round: r.round}
			news = true
		}
	}
	if news {
		close(r.changed)
		r.changed = make(chan struct{})
	}
	r.prune()
}

// take notes a job as it was read, and reports whether that is news. The lock must be held.
func (r *Roll) take(j *job.Job, now time.Time) bool {
	r.newest = max(r.newest, j.ID)
	e := r.entries[j.ID]
	if e == nil {
		e = &entry{}
		r.entries[j.ID] = e
	} else if e.snapshot != nil && e.revision >= j.Revision && e.state == j.State {
		return false
	}
	rate, measured := e.meter.observe(j, now)
	e.snapshot = &Snapshot{Job: *j, Rate: rate, ETA: eta(j, rate, measured), shared: new(shared)}
	e.revision, e.state, e.round = j.Revision, j.State, r.round
	return true
}

// prune forgets jobs that have ended, or are gone, of which every watcher knows. The lock must be held.
func (r *Roll) prune() {
	oldest := r.round
	for w := range r.watchers {
		oldest = min(oldest, w.round)
	}
	for id, e := range r.entries {
		if e.round <= oldest && (e.snapshot == nil || e.state.Ended()) {
			delete(r.entries, id)
		}
	}
}

// read returns jobs that may have changed, and those that are gone.
func (r *Roll) read(ctx context.Context) (found []job.Job, gone []int64, err error) {
	r.mu.Lock()
	newest := r.newest
	look := make(map[int64]struct{}, len(r.entries)+len(r.looks))
	for id, e := range r.entries {
		if e.snapshot != nil && !e.state.Ended() {
			look[id] = struct{}{}
		}
	}
	for id := range r.looks {
		look[id] = struct{}{}
	}
	r.mu.Unlock()
	add := func(jobs []job.Job) {
		for i := range jobs {
			delete(look, jobs[i].ID)
		}
		found = append(found, jobs...)
	}
	open := store.JobFilter{States: []job.State{job.Running, job.Paused, job.Cancelling}}
	for p := (store.Page{Size: rollPage}); ; {
		jobs, err := r.store.ListJobs(ctx, open, p)
		if err != nil {
			return nil, nil, err
		}
		add(jobs)
		if len(jobs) < rollPage {
			break
		}
		p.After = jobs[len(jobs)-1].ID
	}
	// Jobs that came and ended since the last look. The first time there is none: watchers begin with the newest ones.
	for p := (store.Page{Size: 20}); ; p.Size = rollPage {
		jobs, err := r.store.ListJobs(ctx, store.JobFilter{}, p)
		if err != nil {
			return nil, nil, err
		}
		full := len(jobs) == p.Size
		for len(jobs) > 0 && jobs[len(jobs)-1].ID <= newest {
			jobs, full = jobs[:len(jobs)-1], false
		}
		add(jobs)
		if !full || newest == 0 {
			break
		}
		p.After = jobs[len(jobs)-1].ID
	}
	for id := range look {
		j, err := r.store.GetJob(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			gone = append(gone, id)
		case err != nil:
			return nil, nil, err
		default:
			found = append(found, j)
		}
	}
	r.mu.Lock()
	for id := range look {
		delete(r.looks, id)
	}
	r.mu.Unlock()
	return found, gone, nil
}

// Reading is one watcher of the roll. It belongs to one goroutine.
type Reading struct {
	roll  *Roll
	round int64 // up to which it knows all
}

// Read begins to watch. What changes from now on is brought by Next; what there is now is read by ListJobs, after Read.
// Close must be called.
func (r *Roll) Read() *Reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &Reading{roll: r, round: r.round}
	r.watchers[w] = struct{}{}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return w
}

// Close ends the watching.
func (w *Reading) Close() {
	w.roll.mu.Lock()
	defer w.roll.mu.Unlock()
	delete(w.roll.watchers, w)
}

// Known returns the snapshot of a job if the roll has it at this revision, with its pace; nil otherwise.
func (w *Reading) Known(j *job.Job) *Snapshot {
	w.roll.mu.Lock()
	defer w.roll.mu.Unlock()
	if e := w.roll.entries[j.ID]; e != nil && e.snapshot != nil && e.revision == j.Revision {
		return e.snapshot
	}
	return nil
}

// Next blocks until jobs have changed, which it returns in no order with those that are gone, nothing has for some time, or
// ctx ends. It merges what a slow watcher has missed.
func (w *Reading) Next(ctx context.Context, quiet time.Duration) (changed []*Snapshot, gone []int64, err error) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		w.roll.mu.Lock()
		wait := w.roll.changed
		for id, e := range w.roll.entries {
			switch {
			case e.round <= w.round:
			case e.snapshot == nil:
				gone = append(gone, id)
			default:
				changed = append(changed, e.snapshot)
			}
		}
		w.round = w.roll.round
		w.roll.mu.Unlock()
		if len(changed)+len(gone) > 0 {
			return changed, gone, nil
		}
		select {
		case <-wait:
		case <-timer.C:
			return nil, nil, nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
