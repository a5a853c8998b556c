package watch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Folding is what the folder needs of the store.
type Folding interface {
	Fold(ctx context.Context, id int64) (j job.Job, changed bool, err error)
	DirtyJobs(ctx context.Context) ([]int64, error)
	Notify(ctx context.Context, c store.Change) error
}

// foldPace is the least time between two folds of one job, unless it may have ended.
const foldPace = 100 * time.Millisecond

// Folder moves what commits changed into their jobs: at once after a quiet time, then a few times a second, and at
// once when a job may have ended. What nobody announced is found by a poll.
type Folder struct {
	store  Folding
	hub    *Hub
	logger *slog.Logger
	folded func(job.Job) // called with every new snapshot

	one sync.Mutex // held while a job is folded

	mu    sync.Mutex
	dirty map[int64]bool      // whether it may have ended
	last  map[int64]time.Time // the last fold of jobs folded lately
	wake  chan struct{}

	notifier *notifier
}

// NewFolder returns a folder that works while its Run does. It calls folded with every new snapshot, the one of an ended
// job exactly once; folded may be nil.
func NewFolder(s Folding, hub *Hub, logger *slog.Logger, folded func(job.Job)) *Folder {
	return &Folder{
		store: s, hub: hub, logger: logger, folded: folded,
		dirty: map[int64]bool{}, last: map[int64]time.Time{}, wake: make(chan struct{}, 1),
		notifier: newNotifier(s, logger),
	}
}

// Changed says that a commit changed a job's counters, or its state. It does not block.
func (f *Folder) Changed(jobID int64, mayEnd bool) {
	f.mu.Lock()
	f.dirty[jobID] = f.dirty[jobID] || mayEnd
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Announce tells the other coordinators of a change that needs no fold. It does not block.
func (f *Folder) Announce(jobID int64) { f.notifier.add(jobID) }

// Current returns when the job says what this coordinator's commits of before the call have changed. It blocks for a
// fold or two. That a fold fails shows in the log only: the job is then as it was.
func (f *Folder) Current(ctx context.Context, jobID int64) {
	f.one.Lock()
	defer f.one.Unlock()
	f.mu.Lock()
	_, dirty := f.dirty[jobID]
	if dirty {
		delete(f.dirty, jobID)
		f.last[jobID] = time.Now()
	}
	f.mu.Unlock()
	if dirty {
		f.fold(ctx, jobID)
	}
}

// Run folds until ctx ends.
func (f *Folder) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.notifier.run(ctx) })
	poll := time.NewTicker(time.Second)
	defer poll.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-timer.C:
		case <-poll.C:
			f.find(ctx)
		}
		if wait := f.round(ctx); wait > 0 {
			timer.Reset(wait)
		}
	}
}

// find looks for jobs that changed without this coordinator being told.
func (f *Folder) find(ctx context.Context) {
	ids, err := f.store.DirtyJobs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			f.logger.Warn("look for changed jobs", "error", err)
		}
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.dirty[id] = true
	}
	for id, at := range f.last {
		if time.Since(at) > time.Minute {
			delete(f.last, id)
		}
	}
}

// round folds what is due and returns the time until the next job is, 0 when none waits.
func (f *Folder) round(ctx context.Context) time.Duration {
	f.mu.Lock()
	var due []int64
	var next time.Duration
	now := time.Now()
	for id, mayEnd := range f.dirty {
		wait := foldPace - now.Sub(f.last[id])
		if mayEnd || wait <= 0 {
			due = append(due, id)
		} else if next == 0 || wait < next {
			next = wait
		}
	}
	f.mu.Unlock()
	for _, id := range due {
		if ctx.Err() != nil {
			return 0
		}
		f.Current(ctx, id)
	}
	return next
}

func (f *Folder) fold(ctx context.Context, id int64) {
	j, changed, err := f.store.Fold(ctx, id)
	switch {
	case err != nil:
		// The poll finds it again.
		if ctx.Err() == nil {
			f.logger.Warn("fold job", "job_id", id, "error", err)
		}
	case changed:
		f.hub.Publish(ctx, j)
		f.notifier.add(id)
		if f.folded != nil {
			f.folded(j)
		}
	}
}

// notifyPace is the least time between two notes to the other coordinators.
const notifyPace = 50 * time.Millisecond

// notifyMost is how many jobs a note names; more become "all".
const notifyMost = 256

// notifier tells other coordinators which jobs changed: one note for all of them, at once after a quiet time, and
// always one after the last change.
type notifier struct {
	store  Folding
	logger *slog.Logger
	mu     sync.Mutex
	jobs   map[int64]struct{}
	wake   chan struct{}
}

func newNotifier(s Folding, logger *slog.Logger) *notifier {
	return &notifier{store: s, logger: logger, jobs: map[int64]struct{}{}, wake: make(chan struct{}, 1)}
}

func (n *notifier) add(jobID int64) {
	n.mu.Lock()
	n.jobs[jobID] = struct{}{}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notifier) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		n.mu.Lock()
		c := store.Change{All: len(n.jobs) > notifyMost}
		if !c.All {
			for id := range n.jobs {
				c.Jobs = append(c.Jobs, id)
			}
		}
		clear(n.jobs)
		n.mu.Unlock()
		if err := n.store.Notify(ctx, c); err != nil && ctx.Err() == nil {
			n.logger.Warn("notify other coordinators", "error", err)
		}
		timer.Reset(notifyPace)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}
