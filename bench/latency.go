package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/worker"
)

const (
	// steadyPause is the time from one submission to the next at a steady rate.
	steadyPause = 40 * time.Millisecond

	// idlePause is the time from the start of a job's handler to the next submission when nothing else is to be done.
	idlePause = 20 * time.Millisecond
)

// latency submits jobs of one item to a coordinator with one idle worker, which is in this process so that one clock
// takes both times.
func latency(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	r.Settings = map[string]string{"jobs": strconv.Itoa(c.Jobs), "slots": "8", "every": steadyPause.String()}
	s, err := open(ctx, c, engine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	starts := &starts{at: map[int64]time.Time{}, news: make(chan struct{}, 1)}
	dismiss, err := s.employ(ctx, noopKind, 8, starts)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, dismiss()) }()
	const warming = 10 // of connections and statements
	if _, err := s.latencies(ctx, starts, warming, false); err != nil {
		return r, err
	}
	for _, how := range []struct {
		name   string
		steady bool
	}{{"idle", false}, {"steady", true}} {
		took, err := s.latencies(ctx, starts, c.Jobs, how.steady)
		if err != nil {
			return r, err
		}
		r.Distribution(how.name, took)
	}
	return r, nil
}

// latencies submits n jobs, one behind the other or at a steady rate, and returns how long each took to start.
func (s *site) latencies(ctx context.Context, starts *starts, n int, steady bool) ([]time.Duration, error) {
	submitted := make([]time.Time, n)
	jobs := make([]int64, n)
	failed := make([]error, n)
	var wait sync.WaitGroup
	submit := func(i int) {
		submitted[i] = time.Now()
		up, err := s.client.Upload(ctx, strings.NewReader("{}\n"), client.Upload{Kind: noopKind})
		jobs[i], failed[i] = up.JobID, err
	}
	ticker := time.NewTicker(steadyPause)
	defer ticker.Stop()
	for i := range n {
		if !steady {
			submit(i)
			if failed[i] != nil {
				return nil, failed[i]
			}
			if _, err := starts.of(ctx, jobs[i]); err != nil {
				return nil, err
			}
			ticker.Reset(idlePause)
		} else {
			wait.Go(func() { submit(i) })
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	wait.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	took := make([]time.Duration, n)
	for i, job := range jobs {
		at, err := starts.of(ctx, job)
		if err != nil {
			return nil, err
		}
		took[i] = at.Sub(submitted[i])
	}
	return took, nil
}

// starts is a handler that notes when it is called for a job, and does nothing else.
type starts struct {
	mu   sync.Mutex
	at   map[int64]time.Time
	news chan struct{}
}

// Handle implements worker.Handler.
func (s *starts) Handle(_ context.Context, b *worker.Batch) error {
	s.mu.Lock()
	s.at[b.JobID] = time.Now()
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default: // somebody is told already
	}
	return finish(b)
}

// of waits until a job has started, and returns when. One caller at a time.
func (s *starts) of(ctx context.Context, job int64) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("job %d did not start within %v", job, startTimeout))
	defer cancel()
	for {
		s.mu.Lock()
		at, ok := s.at[job]
		s.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}
