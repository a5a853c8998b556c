package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// Kind implements river.JobArgs.
func (noop) Kind() string { return "noop" }

// riverWorker notes jobs and does nothing else.
type riverWorker struct {
	river.WorkerDefaults[noop]
	jobs *starts
}

// Work implements river.Worker.
func (w *riverWorker) Work(_ context.Context, job *river.Job[noop]) error {
	w.jobs.note(job.Args.N)
	return nil
}

// riverSite is River on a database of its own.
type riverSite struct {
	db     *postgres.Database
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

func openRiver(ctx context.Context, dsn string, jobs *starts, config river.Config) (_ *riverSite, err error) {
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
	river.AddWorker(config.Workers, &riverWorker{jobs: jobs})
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
	jobs := newStarts(c.Batches)
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
	if err := jobs.wait(ctx); err != nil {
		return r, err
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
	for _, steady := range []bool{false, true} {
		took, err := riverLatencies(ctx, c, steady)
		if err != nil {
			return r, err
		}
		r.Distribution(paceOf(steady), took)
	}
	return r, nil
}

func riverLatencies(ctx context.Context, c bench.Config, steady bool) (_ []time.Duration, err error) {
	jobs := newStarts(warming + measured(c, steady))
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
	return jobs.latencies(ctx, steady, func(n int) error {
		if _, err := s.client.Insert(ctx, noop{n}, nil); err != nil {
			return fmt.Errorf("insert a job: %w", err)
		}
		return nil
	})
}
