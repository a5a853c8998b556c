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

// Reader is what the hub needs of the store.
type Reader interface {
	GetJob(ctx context.Context, id int64) (job.Job, error)
	LastCrashes(ctx context.Context, jobID int64, limit int) ([]store.Attempt, error)
}

// crashesShown bounds the crashes in a snapshot.
const crashesShown = 5

// Hub holds the latest snapshot of every job that changes or is watched here. Safe for concurrent use.
type Hub struct {
	store  Reader
	logger *slog.Logger
	pace   time.Duration // at least between two snapshots for one watcher
	poll   time.Duration

	mu     sync.Mutex
	topics map[int64]*topic
}

// topic is one job.
type topic struct {
	watchers int
	meter    meter
	latest   *Snapshot
	err      error         // the job is gone
	changed  chan struct{} // closed and replaced with every new snapshot
	reading  chan struct{} // held by the new watcher that reads the job for all of them
	touched  time.Time
}

// tellTime is what it takes to tell one watcher, here and where that is. Where there are so many that telling all takes
// longer than the pace, it is the pace: what is sent faster waits in the buffers of connections, where nothing newer can
// take its place, and is old when it is read.
const tellTime = 50 * time.Microsecond

// NewHub returns a hub that brings a watcher at most 10 snapshots a second, and fewer where more than 2,000 watch one job.
func NewHub(s Reader, logger *slog.Logger) *Hub {
	return &Hub{store: s, logger: logger, pace: 100 * time.Millisecond, poll: time.Second, topics: map[int64]*topic{}}
}

// Publish takes over a job as it was read from the store. One that is older than what is known is ignored.
func (h *Hub) Publish(ctx context.Context, j job.Job) {
	var crashes []store.Attempt
	if j.CrashedEver > 0 && !h.knows(j.ID, j.Revision) {
		var err error
		if crashes, err = h.store.LastCrashes(ctx, j.ID, crashesShown); err != nil && ctx.Err() == nil {
			h.logger.Warn("read last crashes", "job_id", j.ID, "error", err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topic(j.ID)
	t.touched = time.Now()
	if t.knows(j.Revision) {
		return
	}
	rate, measured := t.meter.observe(&j, t.touched)
	t.latest = &Snapshot{Job: j, Rate: rate, ETA: eta(&j, rate, measured), Crashes: crashes, shared: new(shared)}
	close(t.changed)
	t.changed = make(chan struct{})
}

// Watchers returns how many subscriptions there are.
func (h *Hub) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, t := range h.topics {
		n += t.watchers
	}
	return n
}

func (h *Hub) knows(id, revision int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[id]
	return t != nil && t.knows(revision)
}

func (t *topic) knows(revision int64) bool {
	return t.latest != nil && t.latest.Job.Revision >= revision
}

func (h *Hub) topic(id int64) *topic {
	t := h.topics[id]
	if t == nil {
		t = &topic{changed: make(chan struct{}), reading: make(chan struct{}, 1)}
		h.topics[id] = t
	}
	return t
}

// Look returns the job as it is now. store.ErrNotFound.
func (h *Hub) Look(ctx context.Context, id int64) (*Snapshot, error) {
	j, err := h.store.GetJob(ctx, id)
	if err != nil {
		return nil, err
	}
	h.Publish(ctx, j)
	h.mu.Lock()
	defer h.mu.Unlock()
	latest := h.topics[id].latest
	if latest.Job.Revision == j.Revision {
		// What is not part of a revision, such as the state while a cancel has not been folded, is as just read.
		fresh := *latest
		fresh.Job, fresh.shared = j, new(shared)
		return &fresh, nil
	}
	return latest, nil
}

// Refresh reads a watched job anew because somebody said that it changed. A job that nobody watches is left alone.
func (h *Hub) Refresh(ctx context.Context, id int64) {
	h.mu.Lock()
	t := h.topics[id]
	watched := t != nil && t.watchers > 0
	h.mu.Unlock()
	if !watched {
		return
	}
	j, err := h.store.GetJob(ctx, id)
	switch {
	case err == nil:
		h.Publish(ctx, j)
	case errors.Is(err, store.ErrNotFound):
		h.Forget(id)
	case ctx.Err() == nil:
		h.logger.Warn("refresh watched job", "job_id", id, "error", err)
	}
}

// Forget ends the watching of a job that has been deleted. Elsewhere the next look at it says the same.
func (h *Hub) Forget(id int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[id]; t != nil {
		delete(h.topics, id)
		t.gone()
	}
}

// gone tells the watchers that there is no such job any more. The hub's lock must be held.
func (t *topic) gone() {
	t.err = store.ErrNotFound
	close(t.changed)
	t.changed = make(chan struct{})
}

// RefreshAll does so for all jobs that are watched.
func (h *Hub) RefreshAll(ctx context.Context) {
	for _, id := range h.quiet(0) {
		h.Refresh(ctx, id)
	}
}

// quiet returns the watched jobs that nothing was heard of for a while, and forgets those that nobody watches and that
// have not changed for a minute.
func (h *Hub) quiet(since time.Duration) []int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []int64
	now := time.Now()
	for id, t := range h.topics {
		switch {
		case t.watchers > 0 && now.Sub(t.touched) >= since:
			ids = append(ids, id)
		case t.watchers == 0 && now.Sub(t.touched) > time.Minute:
			delete(h.topics, id)
		}
	}
	return ids
}

// Run polls, until ctx ends, the watched jobs of which nothing was heard.
func (h *Hub) Run(ctx context.Context) {
	ticker := time.NewTicker(h.poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, id := range h.quiet(h.poll) {
				h.Refresh(ctx, id)
			}
		}
	}
}

// Subscription is one watcher of one job. It belongs to one goroutine.
type Subscription struct {
	hub   *Hub
	id    int64
	t     *topic
	last  int64
	sent  time.Time
	timer *time.Timer
}

// Subscribe starts watching a job, for snapshots with a revision above after. Close must be called. However many
// subscribe at once, one of them reads the job. store.ErrNotFound.
func (h *Hub) Subscribe(ctx context.Context, id, after int64) (*Subscription, error) {
	h.mu.Lock()
	t := h.topic(id)
	t.watchers++
	h.mu.Unlock()
	s := &Subscription{hub: h, id: id, t: t, last: after, timer: time.NewTimer(time.Hour)}
	if err := h.catchUp(ctx, t, id); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (h *Hub) catchUp(ctx context.Context, t *topic, id int64) error {
	select {
	case t.reading <- struct{}{}:
		defer func() { <-t.reading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	h.mu.Lock()
	// That a job ended is not believed without looking: it may have been retried at another coordinator.
	current := t.latest != nil && !t.latest.Job.State.Ended() && time.Since(t.touched) < h.poll
	h.mu.Unlock()
	if current {
		return nil
	}
	j, err := h.store.GetJob(ctx, id)
	if err != nil {
		return err
	}
	h.Publish(ctx, j)
	return nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.timer.Stop()
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.t.watchers--
	if s.t.watchers == 0 && s.t.latest == nil && s.hub.topics[s.id] == s.t {
		delete(s.hub.topics, s.id)
	}
}

// Next blocks until there is a snapshot above the last one, which it returns at the watcher's pace, nothing has come for
// some time, or ctx ends. ended means that the job has ended with a revision that the watcher has seen before. There is no
// snapshot, and no error, if nothing has come.
func (s *Subscription) Next(ctx context.Context, quiet time.Duration) (snapshot *Snapshot, ended bool, err error) {
	waited := time.Now()
	for {
		s.hub.mu.Lock()
		latest, changed, err := s.t.latest, s.t.changed, s.t.err
		pace := max(s.hub.pace, time.Duration(s.t.watchers)*tellTime)
		s.hub.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
		over := latest != nil && latest.Job.State.Ended()
		news := latest != nil && latest.Job.Revision > s.last
		wait := quiet - time.Since(waited)
		if news {
			wait, changed = pace-time.Since(s.sent), nil
		}
		switch {
		case news && (over || wait <= 0):
			s.last, s.sent = latest.Job.Revision, time.Now()
			return latest, false, nil
		case over:
			return nil, true, nil
		case wait <= 0:
			return nil, false, nil
		}
		s.timer.Reset(wait)
		select {
		case <-changed:
		case <-s.timer.C:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}
