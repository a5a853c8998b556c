package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/tallyman-dev/tallyman/internal/coordinators"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// maxMessage bounds what is received at once, in bytes: payloads of 3 MiB beside the parameters of 1000 jobs.
const maxMessage = 32 << 20

// Worker claims batches and has them handled. It works once.
type Worker struct {
	config  Config
	started atomic.Bool
	drained atomic.Bool
	hurry   chan struct{} // closed by StopNow
	once    sync.Once
}

// New returns a worker. It does not connect yet.
func New(config Config) (*Worker, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure worker: %w", err)
	}
	if config.WorkerID == "" {
		// Drawn here rather than by the coordinator, so that a registration which is repeated because its answer was lost
		// ends the session that nobody uses.
		config.WorkerID = uuid.NewString()
	}
	return &Worker{config: config.withDefaults(), hurry: make(chan struct{})}, nil
}

// ID returns the worker's id, given or drawn.
func (w *Worker) ID() string { return w.config.WorkerID }

// StopNow shortens a stop: handlers are interrupted at once rather than after Config.DrainTimeout. It does not begin
// one. It does not block, may be called from any goroutine, and more than once.
func (w *Worker) StopNow() { w.once.Do(func() { close(w.hurry) }) }

// Drained reports whether Run has ended, or is ending, because the worker was drained by DrainWorker, an operator's call.
func (w *Worker) Drained() bool { return w.drained.Load() }

// Run registers the worker and works until ctx ends, until the worker is drained or, with Config.ExitWhenIdle, until there
// is nothing to do; then it returns nil. It waits for as long as no coordinator can be reached.
//
// When ctx ends, or the worker is drained, it claims no more and lets handlers go on for Config.DrainTimeout; then it interrupts them with
// ErrDraining, gives back what is not done, and deregisters. That takes at most Config.DrainTimeout, twice
// Config.StopTimeout and ten seconds more.
//
// Run returns an error that wraps ErrSessionEnded when the coordinator ends the session, and others when it is refused
// for good, when a Preparer fails, or when handlers do not return though their contexts have ended; these still run, and
// the process should end. It may be called once.
func (w *Worker) Run(ctx context.Context) error {
	if w.started.Swap(true) {
		return errors.New("run worker: it has been run before")
	}
	conn, renew := w.config.Conn, func() {}
	if conn == nil {
		secure, err := coordinators.Secure(w.config.Address, w.config.TLS, w.config.Token, w.config.TokenInClear)
		if err != nil {
			return fmt.Errorf("run worker: %w", err)
		}
		made, err := coordinators.Open(w.config.Address, append(secure, w.config.Dial...)...)
		if err != nil {
			return fmt.Errorf("run worker: %w", err)
		}
		// Closing it can only say that it was closed before, which nobody else does.
		defer made.Close()
		conn, renew = made, made.Renew
	}
	s, err := register(ctx, w.config, pb.NewWorkerServiceClient(conn), renew)
	if errors.Is(err, errStopped) {
		return nil
	}
	if err != nil {
		return err
	}
	s.jobs = pb.NewJobServiceClient(conn)
	err = s.run(ctx, w.hurry)
	w.drained.Store(s.wasDrained())
	return err
}
