package watch

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// StatesReader is what maps need of the store.
type StatesReader interface {
	BatchStates(ctx context.Context, jobID int64) ([]job.BatchState, error)
}

// mapPace is the least time between two readings of the states of a job's batches. mapShare bounds the part of the time
// that they take, where they take long.
const (
	mapPace  = 500 * time.Millisecond
	mapShare = 10
)

// Maps reads the states of the batches of jobs for all who watch them: once for a revision, whoever comes first, and not at
// all when nobody does. Safe for concurrent use.
type Maps struct {
	store StatesReader
	hub   *Hub

	mu     sync.Mutex
	charts map[int64]*chart
}

// chart is one job's.
type chart struct {
	watchers int
	reading  chan struct{} // held by the watcher that reads for all of them

	latest *picture
	next   time.Time // not read again before
}

// picture is the states at one revision. It does not change.
type picture struct {
	revision int64
	states   []job.BatchState
	before   int64  // the revision of the one that was read before; 0 for the first
	changes  string // since then

	once  sync.Once
	whole string
}

// NewMaps returns maps that nobody watches.
func NewMaps(s StatesReader, hub *Hub) *Maps {
	return &Maps{store: s, hub: hub, charts: map[int64]*chart{}}
}

// Chart is one watcher of one map. It belongs to one goroutine.
type Chart struct {
	maps *Maps
	id   int64
	c    *chart
	sub  *Subscription
	seen *picture
	want int64 // the revision that is known of the job
	over bool  // it has ended with that
}

// Chart starts watching the map of a job. Close must be called. store.ErrNotFound.
func (m *Maps) Chart(ctx context.Context, id int64) (*Chart, error) {
	sub, err := m.hub.Subscribe(ctx, id, 0)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.charts[id]
	if c == nil {
		c = &chart{reading: make(chan struct{}, 1)}
		m.charts[id] = c
	}
	c.watchers++
	return &Chart{maps: m, id: id, c: c, sub: sub}, nil
}

// Close ends the watching.
func (w *Chart) Close() {
	w.sub.Close()
	w.maps.mu.Lock()
	defer w.maps.mu.Unlock()
	if w.c.watchers--; w.c.watchers == 0 {
		delete(w.maps.charts, w.id)
	}
}

// View is what a watcher is told: all states at first, then what has changed.
type View struct {
	Revision int64
	Batches  int
	States   string // runs, as the protocol has them
}

// Next blocks until the map has changed, nothing has come for some time, in which case there is no view, or ctx ends. ended
// means that the job has ended and all of its map was told.
func (w *Chart) Next(ctx context.Context, quiet time.Duration) (view *View, ended bool, err error) {
	began := time.Now()
	for {
		wait := quiet - time.Since(began)
		if w.behind() {
			p, when, err := w.read(ctx)
			switch {
			case err != nil:
				return nil, false, err
			case p != nil:
				return w.show(p), false, nil
			}
			wait = min(wait, time.Until(when))
		} else if w.over {
			return nil, true, nil
		}
		if wait <= 0 && time.Since(began) >= quiet && quiet > 0 {
			return nil, false, nil
		}
		snapshot, ended, err := w.sub.Next(ctx, max(wait, 0))
		switch {
		case err != nil:
			return nil, false, err
		case snapshot != nil:
			w.want, w.over = snapshot.Job.Revision, snapshot.Job.State.Ended()
		case ended:
			w.over = true
		}
	}
}

// behind says whether the job is known to be at a later revision than what was told.
func (w *Chart) behind() bool { return w.want > 0 && (w.seen == nil || w.seen.revision < w.want) }

// read returns a picture that is newer than the one seen: the latest, if another watcher has read it, or else one that it
// reads. When it is not time for that yet there is none, and when says when it is.
func (w *Chart) read(ctx context.Context) (p *picture, when time.Time, err error) {
	select {
	case w.c.reading <- struct{}{}:
		defer func() { <-w.c.reading }()
	case <-ctx.Done():
		return nil, when, context.Cause(ctx)
	}
	if p = w.c.latest; p != nil && (w.seen == nil || p.revision > w.seen.revision) && (!w.over || p.revision >= w.want) {
		return p, when, nil
	}
	began := time.Now()
	if began.Before(w.c.next) && !w.over {
		return nil, w.c.next, nil
	}
	states, err := w.maps.store.BatchStates(ctx, w.id)
	if err != nil {
		return nil, when, err
	}
	now := time.Now()
	w.c.next = now.Add(max(mapPace, mapShare*now.Sub(began)))
	p = &picture{revision: w.want, states: states}
	if last := w.c.latest; last != nil {
		p.before, p.changes = last.revision, Runs(last.states, states)
	}
	w.c.latest = p
	return p, when, nil
}

// show makes a view of a picture for who has seen another, or none. What most need is made once.
func (w *Chart) show(p *picture) *View {
	v := &View{Revision: p.revision, Batches: len(p.states)}
	switch seen := w.seen; {
	case seen == nil:
		p.once.Do(func() { p.whole = Runs(nil, p.states) })
		v.States = p.whole
	case seen.revision == p.before:
		v.States = p.changes
	default:
		v.States = Runs(seen.states, p.states)
	}
	w.seen = p
	return v
}

// letters of states, by job.BatchState.
const letters = "prcfxks"

// Runs writes states as the protocol has them, for a reader who has those before.
func Runs(before, states []job.BatchState) string {
	var text []byte
	letter := func(i int) byte {
		if i < len(before) && before[i] == states[i] {
			return '='
		}
		return letters[states[i]]
	}
	for i := 0; i < len(states); {
		l, first := letter(i), i
		for i++; i < len(states) && letter(i) == l; i++ {
		}
		if text = append(text, l); i-first > 1 {
			text = strconv.AppendInt(text, int64(i-first), 10)
		}
	}
	return string(text)
}
