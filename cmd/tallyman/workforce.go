package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/tallyman-dev/tallyman/annotation/store/open"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
)

// workforce is a worker in this process.
type workforce struct {
	handlers handlers
	worker   *worker.Worker
	stop     context.CancelFunc
	ended    chan struct{}
	err      error // why it ended; to be read after that
}

// handlers are who handles batches, with what ends them.
type handlers struct {
	byKind map[string]worker.Handler
	close  func() error
}

// annotationHandlers returns the handler of annotations, on the store that the DSN names and with these sources.
func annotationHandlers(ctx context.Context, dsn string, s *sourcing) (handlers, error) {
	h, end, err := openAnnotations(ctx, dsn, s)
	if err != nil {
		return handlers{}, err
	}
	return handlers{byKind: map[string]worker.Handler{tallymanv1.KindAnnotations: h}, close: end}, nil
}

// openAnnotations opens the handler of annotations on the store that the DSN names, with these sources or, if s is nil,
// without; end closes all of it.
func openAnnotations(ctx context.Context, dsn string, s *sourcing) (h *annotations.Handler, end func() error, err error) {
	sources, endSources, err := s.open()
	if err != nil {
		return nil, nil, err
	}
	st, err := open.Open(ctx, dsn)
	if err != nil {
		return nil, nil, errors.Join(err, endSources())
	}
	h = annotations.New(st, sources)
	if s != nil {
		h.MinAlignment = float64(s.least)
	}
	ballast := make([]byte, ballastBytes)
	return h, func() error {
		runtime.KeepAlive(ballast)
		return errors.Join(h.Close(), st.Close(), endSources())
	}, nil
}

// ballastBytes is memory that a process which stores annotations asks for and never touches, so that the system does not
// give it. What such a process has in memory lasts for a batch, and is little beside the garbage that each item leaves. The
// collector runs when what is in use, which it takes this for, has doubled: without it, so often that it took more than
// a quarter of a worker's processor time.
const ballastBytes = 64 << 20

// checkSlots refuses a number of batches worked on at a time that no worker can have.
func checkSlots(flag string, n int) error {
	if n < 0 || n > tallymanv1.MaxSlots {
		return usageError("--%s %d: must be 0 to %d", flag, n, tallymanv1.MaxSlots)
	}
	return nil
}

// startWork begins to work, until it is closed or the end of ctx tells it to stop in order. It owns the handlers.
func startWork(ctx context.Context, h handlers, config worker.Config) (*workforce, error) {
	config.Handlers, config.Version = h.byKind, programVersion()
	w, err := worker.New(config)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	working, stop := context.WithCancel(ctx)
	f := &workforce{handlers: h, worker: w, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		f.err = w.Run(working)
	}()
	return f, nil
}

// drained reports whether the worker ended since an operator drained it.
func (f *workforce) drained() bool { return f.worker.Drained() }

// close tells the worker to stop in order, which its own timeouts bound, and closes the handlers.
func (f *workforce) close() error {
	f.stop()
	<-f.ended
	if err := errors.Join(f.err, f.handlers.close()); err != nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}
