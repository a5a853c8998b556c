package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/bench"
)

const (
	asynqTask  = "noop"
	asynqQueue = "default"

	// asynqEnqueuers is how many enqueue at the same time: there is no call for many tasks.
	asynqEnqueuers = 64

	// asynqBatches bounds how many are drained, since each is enqueued by a call of its own that is flushed.
	asynqBatches = 30_000

	// asynqIdle bounds how many tasks are enqueued one behind the other: each may wait for a second.
	asynqIdle = 40
)

// asynqSite is asynq on a Redis of its own that writes every change to the disk before it answers, as the others do.
type asynqSite struct {
	dir    string
	redis  *exec.Cmd
	at     asynq.RedisClientOpt
	client *asynq.Client
	server *asynq.Server
	ask    *asynq.Inspector
	jobs   *starts
}

func openAsynq(ctx context.Context, c bench.Config, jobs int, config asynq.Config) (_ *asynqSite, err error) {
	dir, err := os.MkdirTemp(c.Dir, "tallyman-peers-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	s := &asynqSite{dir: dir, jobs: newStarts(jobs)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	socket := filepath.Join(dir, "redis")
	s.redis = exec.CommandContext(ctx, "redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "")
	s.redis.Cancel = func() error { return s.redis.Process.Signal(syscall.SIGTERM) }
	s.redis.WaitDelay = 10 * time.Second
	if err := s.redis.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s.at = asynq.RedisClientOpt{Network: "unix", Addr: socket}
	s.client, s.ask = asynq.NewClient(s.at), asynq.NewInspector(s.at)
	if err := s.answers(ctx); err != nil {
		return nil, err
	}
	config.LogLevel = asynq.FatalLevel
	s.server = asynq.NewServer(s.at, config)
	return s, nil
}

// answers waits until Redis does.
func (s *asynqSite) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return until(ctx, func() (bool, error) { return s.client.Ping() == nil, nil })
}

func (s *asynqSite) close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close(), s.ask.Close())
	}
	if s.redis != nil && s.redis.Process != nil {
		errs = append(errs, s.redis.Process.Signal(syscall.SIGTERM), s.redis.Wait())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func (s *asynqSite) enqueue(n int) error {
	payload, err := json.Marshal(noop{n})
	if err != nil {
		return fmt.Errorf("encode a task: %w", err)
	}
	if _, err := s.client.Enqueue(asynq.NewTask(asynqTask, payload)); err != nil {
		return fmt.Errorf("enqueue a task: %w", err)
	}
	return nil
}

func (s *asynqSite) start() error {
	err := s.server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		var job noop
		if err := json.Unmarshal(task.Payload(), &job); err != nil {
			return err
		}
		s.jobs.note(job.N)
		return nil
	}))
	if err != nil {
		return fmt.Errorf("start asynq: %w", err)
	}
	return nil
}

// asynqDrain works a full queue off in this process.
func asynqDrain(ctx context.Context, c bench.Config, slots int) (r bench.Result, err error) {
	c.Batches = min(c.Batches, asynqBatches)
	s, err := openAsynq(ctx, c, c.Batches, asynq.Config{Concurrency: slots})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var group errgroup.Group
	group.SetLimit(asynqEnqueuers)
	for n := range c.Batches {
		group.Go(func() error { return s.enqueue(n) })
	}
	if err := group.Wait(); err != nil {
		return r, err
	}
	written, err := s.written()
	if err != nil {
		return r, err
	}
	begun := time.Now()
	if err := s.start(); err != nil {
		return r, err
	}
	defer s.server.Shutdown()
	if err := s.jobs.wait(ctx); err != nil {
		return r, err
	}
	// The handlers have returned; what they did is said to be done a moment later.
	err = until(ctx, func() (bool, error) {
		info, err := s.ask.GetQueueInfo(asynqQueue)
		return err == nil && info.Active+info.Pending == 0, err
	})
	if err != nil {
		return r, fmt.Errorf("look at the queue: %w", err)
	}
	took := time.Since(begun)
	after, err := s.written()
	if err != nil {
		return r, err
	}
	r.Metrics = []bench.Metric{
		{Name: "drained", Value: float64(c.Batches) / took.Seconds(), Unit: "batches/s"},
		{Name: "log written", Value: float64(after-written) / float64(c.Batches), Unit: "B/batch"},
	}
	return r, nil
}

// written returns the size of the log, in bytes.
func (s *asynqSite) written() (size int64, err error) {
	err = filepath.WalkDir(filepath.Join(s.dir, "appendonlydir"), func(_ string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look at the log: %w", err)
	}
	return size, nil
}

// asynqLatency enqueues tasks one behind the other, then at a steady rate, with asynq's defaults.
func asynqLatency(ctx context.Context, c bench.Config) (r bench.Result, err error) {
	for _, steady := range []bool{false, true} {
		n := measured(c, steady)
		if !steady {
			n = min(n, asynqIdle)
		}
		took, err := asynqLatencies(ctx, c, n, steady)
		if err != nil {
			return r, err
		}
		r.Distribution(paceOf(steady), took)
	}
	return r, nil
}

func asynqLatencies(ctx context.Context, c bench.Config, n int, steady bool) (_ []time.Duration, err error) {
	s, err := openAsynq(ctx, c, warming+n, asynq.Config{Concurrency: 8})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.start(); err != nil {
		return nil, err
	}
	defer s.server.Shutdown()
	return s.jobs.latencies(ctx, steady, s.enqueue)
}

// redisVersion returns what redis-server says that it is.
func redisVersion(ctx context.Context) (string, error) {
	said, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("look for redis-server: %w", err)
	}
	for field := range strings.FieldsSeq(string(said)) {
		if version, ok := strings.CutPrefix(field, "v="); ok {
			return version, nil
		}
	}
	return "", errors.New("redis-server does not say its version")
}
