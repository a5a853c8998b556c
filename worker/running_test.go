package worker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
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
	log  *journal
	err  chan error
}

// journal is a log, which a handler that does not stop goes on with after the worker has ended.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// start runs a worker with one handler. It must end before the test does.
func start(t *testing.T, conn grpc.ClientConnInterface, h worker.Handler, config worker.Config) *running {
	t.Helper()
	r := &running{log: &journal{}, err: make(chan error, 1)}
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
