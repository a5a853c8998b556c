package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/tallyman-dev/tallyman/bench"
	"github.com/tallyman-dev/tallyman/bench/postgres"
)

// riverAtOnce is how many jobs are inserted in one call.
const riverAtOnce = 5000

// noop is a job without work.
type noop struct {
	N int `json:"n"`
}

// Kind implements river.JobArgs.
func (noop) Kind() string { return "noop" }

// counter counts jobs, and tells when the last has come.
type counter struct {
	river.WorkerDefaults[noop]
	mu   sync.Mutex
	at   []time.Time // when each began, by its number
	seen int
	all  chan struct{}
}

func newCounter(n int) *counter { return &counter{at: make([]time.Time, n), all: make(chan struct{})} }

// Work implements river.Worker.
func (c *counter) Work(_ context.Context, job *river.Job[noop]) error {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at[job.Args.N].IsZero() {
		return nil // again
	}
	c.at[job.Args.N] = now
	if c.seen++; c.seen == len(c.at) {
		close(c.all)
	}
	return nil
}

// riverSite is River on a database of its own.
type riverSite struct {
	db     *postgres.Database
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

func openRiver(ctx context.Context, dsn string, jobs *counter, config river.Config) (_ *riverSite, err error) {
	s := &riverSite{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if s.db, err = postgres.Create(ctx, dsn); err != nil {
		return nil, err
	}
	if s.pool, err = pgxpool.New(ctx, s.db.DSN); err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	driver := riverpgxv5.New(s.pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	config.Workers = river.NewWorkers()
	river.AddWorker(config.Workers, jobs)
	config.Logger = slog.New(slog.DiscardHandler)
	s.client, err = river.NewClient(driver, &config)
	return s, err
}

func (s *riverSite) close(ctx context.Context) error {
	if s.pool != nil {
		s.pool.Close()
	}
	if s.db == nil {
		return nil
	}
	return s.db.Drop(ctx)
}

func (s *riverSite) insert(ctx context.Context, n int) error {
	for from := 0; from < n; from += riverAtOnce {
		var params []river.InsertManyParams
		for i := from; i < min(n, from+riverAtOnce); i++ {
			params = append(params, river.InsertManyParams{Args: noop{i}})
		}
		if _, err := s.client.InsertManyFast(ctx, params); err != nil {
			return fmt.Errorf("insert jobs: %w", err)
		}
	}
	return nil
}

// riverDrain works a full queue off in this process, with the settings of River's own bench.
func riverDrain(ctx context.Context, c bench.Config, slots int) (r bench.Result, err error) {
	jobs := newCounter(c.Batches)
	s, err := openRiver(ctx, c.Database, jobs, river.Config{
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: slots}},
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	if err := s.insert(ctx, c.Batches); err != nil {
		return r, err
	}
	before, err := s.db.Writes(ctx)
	if err != nil {
		return r, err
	}
	begun := time.Now()
	if err := s.client.Start(ctx); err != nil {
		return r, fmt.Errorf("start: %w", err)
	}
	select {
	case <-jobs.all:
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
	// What was worked is completed in groups a moment later: the end of the client waits for them.
	if err := s.client.Stop(ctx); err != nil {
		return r, fmt.Errorf("stop: %w", err)
	}
	took := time.Since(begun)
	after, err := s.db.Writes(ctx)
	if err != nil {
		return r, err
	}
	r.Metrics = []bench.Metric{
		{Name: "drained", Value: float64(c.Batches) / took.Seconds(), Unit: "batches/s"},
		{Name: "log written", Value: float64(after.Since(before).Bytes) / float64(c.Batches), Unit: "B/batch"},
	}
	return r, nil
}

// riverLatency inserts jobs one behind the other, then at a steady rate, with River's defaults.
func riverLatency(ctx context.Context, c bench.Config) (r bench.Result, err error) {
	const steady = 40 * time.Millisecond // as in package bench
	for _, how := range []struct {
		name   string
		steady bool
	}{{"idle", false}, {"steady", true}} {
		took, err := riverLatencies(ctx, c, how.steady, steady)
		if err != nil {
			return r, err
		}
		r.Distribution(how.name, took)
	}
	return r, nil
}

func riverLatencies(ctx context.Context, c bench.Config, steady bool, pause time.Duration) (_ []time.Duration, err error) {
	const warming = 10
	jobs := newCounter(warming + c.Jobs)
	s, err := openRiver(ctx, c.Database, jobs, river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 8}},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	if err := s.client.Start(ctx); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, s.client.Stop(context.WithoutCancel(ctx))) }()
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	inserted := make([]time.Time, len(jobs.at))
	for i := range inserted {
		inserted[i] = time.Now()
		if _, err := s.client.Insert(ctx, noop{i}, nil); err != nil {
			return nil, fmt.Errorf("insert a job: %w", err)
		}
		for !steady && jobs.began(i).IsZero() {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case <-jobs.all:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	var took []time.Duration
	for i := warming; i < len(inserted); i++ {
		took = append(took, jobs.at[i].Sub(inserted[i]))
	}
	return took, nil
}

func (c *counter) began(n int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[n]
}
