package reaper

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Store is what the reaper needs of the coordinator's store.
type Store interface {
	Reap(ctx context.Context, batches []int64, limit int) (store.Reaped, error)
	Now(ctx context.Context) (time.Time, error)
	AbandonUploads(ctx context.Context, idle time.Duration) ([]int64, error)
	JudgeWorkers(ctx context.Context) ([]store.DrainedWorker, error)
	EndSilentSessions(ctx context.Context, silent time.Duration) ([]store.Ended, error)
	CancellingJobs(ctx context.Context) ([]int64, error)
	SweepJob(ctx context.Context, id int64, limit int) (int, error)
	RetryingJobs(ctx context.Context) ([]int64, error)
	RetryStep(ctx context.Context, id int64, limit int) (moved int, more bool, err error)
	DeleteStep(ctx context.Context, limit int) (more bool, err error)
	DeleteEndedJobs(ctx context.Context, f store.EndedFilter, limit int) ([]job.Job, error)
	ForgetSessions(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Ledger knows which leases should have ended.
type Ledger interface {
	Due(limit int, again time.Duration) (batches []int64, next time.Duration)
}

// Events tells the rest of the coordinator what was ended. Its methods must not block.
type Events interface {
	// Returned says which attempts were ended.
	Returned(ended []store.Ended)
	// Changed says that a job's counters or state have changed; mayEnd that nothing of it seems to be left.
	Changed(jobID int64, mayEnd bool)
	// Reopened says that batches of a retried job are pending again.
	Reopened(jobID int64)
	// Condemned says which workers were drained since everything dies on them.
	Condemned(drained []store.DrainedWorker)
}

// Config of a Reaper. Zero values work, but for Store, Ledger and Events.
type Config struct {
	Store  Store
	Ledger Ledger
	Events Events
	Logger *slog.Logger

	Lease          time.Duration // default 30 s
	UploadTimeout  time.Duration // for which an interrupted upload waits to be resumed; default 1 h
	SessionTimeout time.Duration // of silence after which a session has ended; default 5 min, at least 3 leases
	StepRows       int           // most rows in one transaction; default 1,000

	Retention           time.Duration // for which jobs that succeeded are kept; 0 for ever
	RetentionWithErrors time.Duration // for which jobs that ended otherwise are kept; 0 for ever
}

func (c *Config) defaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Lease <= 0 {
		c.Lease = 30 * time.Second
	}
	if c.UploadTimeout <= 0 {
		c.UploadTimeout = time.Hour
	}
	if c.SessionTimeout <= 0 {
		c.SessionTimeout = 5 * time.Minute
	}
	c.SessionTimeout = max(c.SessionTimeout, 3*c.Lease)
	if c.StepRows <= 0 {
		c.StepRows = 1000
	}
}

// Reaper ends what nobody else ends, while its Run does.
type Reaper struct {
	cfg   Config
	guard guard
	scan  time.Duration // for which all had been well at the last full scan; 0 before the first
	stop  chan struct{}
	retry chan struct{}
	died  chan struct{}
}

// New returns a reaper.
func New(cfg Config) *Reaper {
	cfg.defaults()
	return &Reaper{
		cfg: cfg, guard: guard{lease: cfg.Lease},
		stop: make(chan struct{}, 1), retry: make(chan struct{}, 1), died: make(chan struct{}, 1),
	}
}

// Run works until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	every := func(interval time.Duration, wake <-chan struct{}, what string, once func(context.Context) error) {
		wg.Go(func() {
			for {
				timer := time.NewTimer(interval*9/10 + rand.N(interval/5+1))
				select {
				case <-ctx.Done():
					timer.Stop()
					return
				case <-wake:
					timer.Stop()
				case <-timer.C:
				}
				if err := once(ctx); err != nil && ctx.Err() == nil {
					r.cfg.Logger.Warn("upkeep failed", "what", what, "error", err)
				}
			}
		})
	}
	every(min(r.cfg.Lease/20, 250*time.Millisecond), nil, "end expired leases", r.ReapOnce)
	every(time.Second, r.stop, "cancel batches of stopped jobs", r.SweepOnce)
	every(time.Second, r.retry, "move batches of retried jobs", r.RetryOnce)
	every(min(time.Minute, r.cfg.UploadTimeout/2), nil, "end abandoned uploads and silent sessions", r.abandonOnce)
	every(5*time.Second, nil, "remove deleted jobs", r.DeleteOnce)
	every(retentionInterval, nil, "delete old jobs", r.RetainOnce)
	wg.Go(func() { r.judge(ctx) })
}

// Stopping says that a job is being stopped, so that its batches are cancelled at once. It does not block.
func (r *Reaper) Stopping() { poke(r.stop) }

// Retrying says that a job is retried, so that its batches are moved at once. It does not block.
func (r *Reaper) Retrying() { poke(r.retry) }

func poke(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// ReapOnce ends the leases that have run out: those the ledger names, and once a lease all there are. It reaps nothing
// for one lease when time was not what it seemed to be; see guard.
func (r *Reaper) ReapOnce(ctx context.Context) error {
	now, err := r.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	if why := r.guard.check(now); why != "" {
		r.cfg.Logger.Warn("no lease is ended for one lease", "reason", why, "lease", r.cfg.Lease)
	}
	if r.guard.resting() {
		return nil
	}
	// What other coordinators granted, or this one in an earlier life, gets one lease to be heard of first.
	if healthy := r.guard.healthy(); healthy-r.scan >= r.cfg.Lease {
		if err := r.reap(ctx, nil); err != nil {
			return err
		}
		r.scan = healthy
	}
	for {
		due, _ := r.cfg.Ledger.Due(r.cfg.StepRows, max(r.cfg.Lease/30, time.Millisecond))
		if len(due) == 0 {
			return nil
		}
		if err := r.reap(ctx, due); err != nil {
			return err
		}
	}
}

func (r *Reaper) reap(ctx context.Context, batches []int64) error {
	for {
		reaped, err := r.cfg.Store.Reap(ctx, batches, r.cfg.StepRows)
		if err != nil {
			return err
		}
		r.cfg.Events.Returned(reaped.Ended)
		if batches != nil || len(reaped.Ended) < r.cfg.StepRows {
			return nil
		}
	}
}

// SweepOnce cancels the pending batches of the jobs that are being stopped.
func (r *Reaper) SweepOnce(ctx context.Context) error {
	ids, err := r.cfg.Store.CancellingJobs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		swept := false
		for {
			// A step that took long is shorter than was asked for, so that only an empty one is the last.
			n, err := r.cfg.Store.SweepJob(ctx, id, r.cfg.StepRows)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			swept = true
			r.cfg.Events.Changed(id, false)
		}
		if swept {
			r.cfg.Events.Changed(id, true)
		}
	}
	return nil
}

// RetryOnce moves the batches that retries are about, in steps.
func (r *Reaper) RetryOnce(ctx context.Context) error {
	ids, err := r.cfg.Store.RetryingJobs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for more := true; more; {
			var moved int
			if moved, more, err = r.cfg.Store.RetryStep(ctx, id, r.cfg.StepRows); err != nil {
				return err
			}
			if moved > 0 {
				r.cfg.Events.Reopened(id)
			}
		}
		r.cfg.Events.Changed(id, true) // what was moved may have ended again before the last step
	}
	return nil
}

func (r *Reaper) abandonOnce(ctx context.Context) error {
	ids, err := r.cfg.Store.AbandonUploads(ctx, r.cfg.UploadTimeout)
	if err != nil {
		return err
	}
	for _, id := range ids {
		r.cfg.Logger.Warn("upload abandoned", "job_id", id, "timeout", r.cfg.UploadTimeout)
		r.cfg.Events.Changed(id, true)
		r.Stopping()
	}
	if r.guard.resting() {
		return nil
	}
	ended, err := r.cfg.Store.EndSilentSessions(ctx, r.cfg.SessionTimeout)
	if err != nil {
		return err
	}
	r.cfg.Events.Returned(ended)
	return nil
}

// DeleteOnce removes, step by step, what is left of deleted jobs.
func (r *Reaper) DeleteOnce(ctx context.Context) error {
	for {
		more, err := r.cfg.Store.DeleteStep(ctx, r.cfg.StepRows)
		if err != nil || !more {
			return err
		}
	}
}
