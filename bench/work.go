package bench

import (
	"context"
	"log/slog"

	"github.com/tallyman-dev/tallyman/worker"
)

// Work is the worker of a measurement: it takes what the coordinator at an address has and does nothing with it, or holds
// it and does not end with it, until ctx ends.
func Work(ctx context.Context, address string, slots int, hold bool, logger *slog.Logger) error {
	w, err := worker.New(worker.Config{Address: address, Slots: slots, Logger: logger, Handlers: map[string]worker.Handler{
		noopKind: worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			if hold {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return finish(b)
		}),
	}})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// employ has a handler of this process handle batches of a kind, until the worker is dismissed.
func (s *site) employ(ctx context.Context, kind string, slots int, h worker.Handler) (dismiss func() error, err error) {
	w, err := worker.New(worker.Config{Address: s.address, Slots: slots, Handlers: map[string]worker.Handler{kind: h}})
	if err != nil {
		return nil, err
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	return func() error {
		stop()
		return <-ended
	}, nil
}

// finish says that all of a batch is stored.
func finish(b *worker.Batch) error {
	b.ReportRest(worker.Result{Outcome: worker.Stored})
	return nil
}
