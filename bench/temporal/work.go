package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const (
	queue = "noop"

	// fan is how many activities a workflow starts at once: the server takes no more than 2,000 that have not ended.
	fan = 500

	// pollers is how many calls wait for activities at the same time where there are many slots; 2 is the default.
	pollers = 16

	// warming is how many workflows come before those whose latency is taken.
	warming = 10
)

// fanOut runs so many activities, from a number on, at once.
func fanOut(ctx workflow.Context, from, n int) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Minute})
	var running []workflow.Future
	for i := range n {
		running = append(running, workflow.ExecuteActivity(ctx, queue, from+i))
	}
	for _, one := range running {
		if err := one.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// work starts a worker. The end of it is its caller's.
func (s *site) work(slots int, noop func(context.Context, int) error) (worker.Worker, error) {
	options := worker.Options{MaxConcurrentActivityExecutionSize: slots}
	if slots > 8 {
		options.MaxConcurrentActivityTaskPollers, options.MaxConcurrentWorkflowTaskPollers = pollers, pollers
	}
	w := worker.New(s.client, queue, options)
	w.RegisterWorkflow(fanOut)
	w.RegisterActivityWithOptions(noop, activity.RegisterOptions{Name: queue})
	if err := w.Start(); err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	return w, nil
}

func (s *site) begin(ctx context.Context, from, n int) (client.WorkflowRun, error) {
	run, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "bench-" + strconv.Itoa(from), TaskQueue: queue}, fanOut, from, n)
	if err != nil {
		return nil, fmt.Errorf("start a workflow: %w", err)
	}
	return run, nil
}

// drained is how long it took until all were done, and what of the database's log was written meanwhile.
type drained struct {
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"`
}

// drain has workflows fan out to so many activities.
func drain(ctx context.Context, at stores, slots, batches int) (d drained, err error) {
	s, err := open(ctx, at)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	w, err := s.work(slots, func(context.Context, int) error { return nil })
	if err != nil {
		return d, err
	}
	defer w.Stop()
	first, err := s.begin(ctx, -1, 1) // to warm up
	if err != nil {
		return d, err
	}
	if err := first.Get(ctx, nil); err != nil {
		return d, fmt.Errorf("warm up: %w", err)
	}
	before, err := s.written(ctx)
	if err != nil {
		return d, err
	}
	begun := time.Now()
	var runs []client.WorkflowRun
	for from := 0; from < batches; from += fan {
		one, err := s.begin(ctx, from, min(fan, batches-from))
		if err != nil {
			return d, err
		}
		runs = append(runs, one)
	}
	for _, one := range runs {
		if err := one.Get(ctx, nil); err != nil {
			return d, fmt.Errorf("wait for a workflow: %w", err)
		}
	}
	d.Seconds = time.Since(begun).Seconds()
	after, err := s.written(ctx)
	d.Bytes = after - before
	return d, err
}

// latencies are how long workflows took until their activities began.
type latencies struct {
	Milliseconds []float64 `json:"milliseconds"`
}

// latency starts workflows of one activity, one behind the other or at a steady rate, with the defaults.
func latency(ctx context.Context, at stores, jobs int, pause time.Duration, steady bool) (l latencies, err error) {
	s, err := open(ctx, at)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	began := &starts{at: map[int]time.Time{}, news: make(chan struct{}, 1)}
	w, err := s.work(8, began.note)
	if err != nil {
		return l, err
	}
	defer w.Stop()
	n := warming + jobs
	begun, failed := make([]time.Time, n), make([]error, n)
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	var wait sync.WaitGroup
	for i := range n {
		submit := func() {
			begun[i] = time.Now()
			_, failed[i] = s.begin(ctx, i, 1)
		}
		if steady {
			wait.Go(submit)
		} else {
			if submit(); failed[i] != nil {
				return l, failed[i]
			}
			if _, err := began.of(ctx, i); err != nil {
				return l, err
			}
			ticker.Reset(pause)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return l, context.Cause(ctx)
		}
	}
	wait.Wait()
	if err := errors.Join(failed...); err != nil {
		return l, err
	}
	for i := warming; i < n; i++ {
		at, err := began.of(ctx, i)
		if err != nil {
			return l, err
		}
		l.Milliseconds = append(l.Milliseconds, at.Sub(begun[i]).Seconds()*1e3)
	}
	return l, nil
}

// starts notes when activities began, by their numbers.
type starts struct {
	mu   sync.Mutex
	at   map[int]time.Time
	news chan struct{}
}

// note is the activity: it says that it begins. Again is nothing.
func (s *starts) note(_ context.Context, n int) error {
	s.mu.Lock()
	if _, again := s.at[n]; !again {
		s.at[n] = time.Now()
	}
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default: // somebody is told already
	}
	return nil
}

// of waits until one has begun, and returns when. One caller at a time.
func (s *starts) of(ctx context.Context, n int) (time.Time, error) {
	for {
		s.mu.Lock()
		at, ok := s.at[n]
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
