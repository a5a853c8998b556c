package main

import (
	"context"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/bench"
)

const (
	// steadyPause is as in package bench: the time from one job to the next at a steady rate.
	steadyPause = 40 * time.Millisecond

	// idlePause is the time from the start of a job to the next when nothing else is to be done. River fetches at most
	// every 100 ms: what comes sooner finds it busy.
	idlePause = 120 * time.Millisecond

	// idleJobs bounds how many of these there are.
	idleJobs = 100

	// warming is how many jobs come before those whose latency is taken.
	warming = 10
)

// noop is a job without work.
type noop struct {
	N int `json:"n"`
}

// starts notes when jobs began, by their numbers.
type starts struct {
	mu   sync.Mutex
	at   []time.Time
	seen int
	news chan struct{}
	all  chan struct{} // closed once all have
}

func newStarts(jobs int) *starts {
	return &starts{at: make([]time.Time, jobs), news: make(chan struct{}, 1), all: make(chan struct{})}
}

// note says that a job begins; again is nothing.
func (s *starts) note(n int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at[n].IsZero() {
		return
	}
	s.at[n] = now
	select {
	case s.news <- struct{}{}:
	default: // somebody is told already
	}
	if s.seen++; s.seen == len(s.at) {
		close(s.all)
	}
}

// wait waits until all have begun.
func (s *starts) wait(ctx context.Context) error {
	select {
	case <-s.all:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// of waits until one has begun. One caller at a time.
func (s *starts) of(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		began := !s.at[n].IsZero()
		s.mu.Unlock()
		if began {
			return nil
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// latencies adds all jobs, one behind the other or at a steady rate, and returns how long each took to begin, but for
// those that warm up.
func (s *starts) latencies(ctx context.Context, steady bool, add func(n int) error) ([]time.Duration, error) {
	ticker := time.NewTicker(steadyPause)
	defer ticker.Stop()
	added := make([]time.Time, len(s.at))
	for n := range added {
		added[n] = time.Now()
		if err := add(n); err != nil {
			return nil, err
		}
		if !steady {
			if err := s.of(ctx, n); err != nil {
				return nil, err
			}
			ticker.Reset(idlePause)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	var took []time.Duration
	for n := warming; n < len(added); n++ {
		took = append(took, s.at[n].Sub(added[n]))
	}
	return took, nil
}

// measured is how many jobs' latency is taken.
func measured(c bench.Config, steady bool) int {
	if steady {
		return c.Jobs
	}
	return min(c.Jobs, idleJobs)
}

// paceOf names what latency is taken of, as package bench does.
func paceOf(steady bool) string {
	if steady {
		return "steady"
	}
	return "idle"
}

// until asks until the answer is yes.
func until(ctx context.Context, ready func() (bool, error)) error {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		if yes, err := ready(); yes || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
