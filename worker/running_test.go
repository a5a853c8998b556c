package worker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
)

func TestMain(m *testing.M) {
	// The compressors that package payload shares are made at first use, which must not be inside a bubble of one test.
	var e payload.Encoder
	frame, err := e.Finish()
	if err == nil {
		_, err = payload.Decode(frame, 0)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// running is a worker at work.
type running struct {
	*worker.Worker
	stop func()
	log  *bytes.Buffer // to be read when it has ended
	err  chan error
}

// start runs a worker with one handler. It must end before the test does.
func start(t *testing.T, conn grpc.ClientConnInterface, h worker.Handler, config worker.Config) *running {
	t.Helper()
	r := &running{log: &bytes.Buffer{}, err: make(chan error, 1)}
	config.Conn, config.Handlers = conn, map[string]worker.Handler{kind: h}
	config.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w, err := worker.New(config)
	if err != nil {
		t.Fatal(err)
	}
	r.Worker = w
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.err <- w.Run(ctx) }()
	return r
}

// wait returns how Run ended.
func (r *running) wait() error {
	defer r.stop()
	return <-r.err
}

// storing reports every open item as stored, one by one.
func storing(_ context.Context, b *worker.Batch) error {
	for range b.Open() {
		b.Report(worker.Result{Outcome: worker.Stored})
	}
	return nil
}

// untilEnd waits for the end of its context and returns the cause.
func untilEnd(ctx context.Context, _ *worker.Batch) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

var errBroken = errors.New("the model is not loaded")
