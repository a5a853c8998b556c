package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/open"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
)

// workforce is a worker in this process, on an annotation store of its own.
type workforce struct {
	store   store.Store
	handler *annotations.Handler
	worker  *worker.Worker
	stop    context.CancelFunc
	ended   chan struct{}
	err     error // why it ended; to be read after that
}

// checkSlots refuses a number of batches worked on at a time that no worker can have.
func checkSlots(flag string, n int) error {
	if n < 0 || n > tallymanv1.MaxSlots {
		return usageError("--%s %d: must be 0 to %d", flag, n, tallymanv1.MaxSlots)
	}
	return nil
}

// startWork opens the store that the DSN names and begins to work, until it is closed or the end of ctx tells it to stop
// in order.
func startWork(ctx context.Context, dsn string, config worker.Config) (*workforce, error) {
	st, err := open.Open(ctx, dsn)
	if err != nil {
		return nil, err
	}
	handler := annotations.New(st)
	config.Handlers = map[string]worker.Handler{tallymanv1.KindAnnotations: handler}
	config.Version = programVersion()
	w, err := worker.New(config)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	working, stop := context.WithCancel(ctx)
	f := &workforce{store: st, handler: handler, worker: w, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		f.err = w.Run(working)
	}()
	return f, nil
}

// drained reports whether the worker ended since an operator drained it.
func (f *workforce) drained() bool { return f.worker.Drained() }

// close tells the worker to stop in order, which its own timeouts bound, and closes the store.
func (f *workforce) close() error {
	f.stop()
	<-f.ended
	if err := errors.Join(f.err, f.handler.Close(), f.store.Close()); err != nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}
