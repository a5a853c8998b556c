package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// watchPause is the time from one batch's end to the next while a job is watched.
const watchPause = 50 * time.Millisecond

// watching has many clients watch a job of which one batch after another ends, and takes the time from the end of a
// batch's handler until each of them has been told. That includes the settlement.
func watching(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	r.Settings = map[string]string{"watchers": strconv.Itoa(c.Watchers), "for": c.Watched.String()}
	s, err := open(ctx, c, engine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	batches := max(1, int64(c.Watched/watchPause))
	job, err := s.upload(ctx, batches, &tallymanv1.Policy{BatchItems: 1})
	if err != nil {
		return r, err
	}
	if _, err := s.client.Pause(ctx, job); err != nil {
		return r, err
	}
	crowd := &crowd{site: s, job: job, pacer: &pacer{}, first: make(chan struct{}, c.Watchers)}
	dismiss, err := s.employ(ctx, noopKind, 1, crowd.pacer)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, dismiss()) }()
	took, used, err := crowd.watch(ctx, c.Watchers)
	if err != nil {
		return r, err
	}
	r.Distribution("told after", took)
	r.add("processor time, coordinator", used.server.Seconds()*1e3/float64(batches), "ms/batch")
	r.add("processor time, database", used.database.Seconds()*1e3/float64(batches), "ms/batch")
	return r, nil
}

// crowd is who watches a job.
type crowd struct {
	site  *site
	job   int64
	pacer *pacer
	first chan struct{} // a word of each that has seen the job once

	mu   sync.Mutex
	took []time.Duration
	errs []error
}

// watch watches the job, which it resumes once all see it, to its end.
func (w *crowd) watch(ctx context.Context, watchers int) ([]time.Duration, usage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	for range watchers {
		wait.Go(func() {
			if err := w.one(ctx); err != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.errs = append(w.errs, err)
				cancel()
			}
		})
	}
	resume := func() (usage, error) {
		for range watchers {
			select {
			case <-w.first:
			case <-ctx.Done():
				return usage{}, context.Cause(ctx)
			}
		}
		before, err := w.site.usage(ctx)
		if err == nil {
			_, err = w.site.client.Resume(ctx, w.job)
		}
		return before, err
	}
	before, err := resume()
	if err != nil {
		cancel()
	}
	wait.Wait()
	if err := errors.Join(append(w.errs, err)...); err != nil {
		return nil, usage{}, err
	}
	after, err := w.site.usage(ctx)
	return w.took, after.since(before), err
}

// one watches the job to its end.
func (w *crowd) one(ctx context.Context) error {
	var took []time.Duration
	told, began := 0, false
	for seen, err := range w.site.client.Watch(ctx, w.job) {
		if err != nil {
			return fmt.Errorf("watch job %d: %w", w.job, err)
		}
		if !began {
			began = true
			w.first <- struct{}{}
		}
		now := time.Now()
		for _, ended := range w.pacer.ended(told, int(seen.GetProgress().GetItemsEnded())) {
			took = append(took, now.Sub(ended))
			told++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = append(w.took, took...)
	return nil
}

// pacer is a handler that ends one batch at a time, and notes when.
type pacer struct {
	mu sync.Mutex
	at []time.Time
}

// Handle implements worker.Handler.
func (p *pacer) Handle(ctx context.Context, b *worker.Batch) error {
	select {
	case <-time.After(watchPause):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = append(p.at, time.Now())
	return finish(b)
}

// ended returns when batches ended, from one number to another.
func (p *pacer) ended(from, to int) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[min(from, len(p.at)):min(to, len(p.at))]
}
