package worker_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
)

// countWords handles a batch. What it prints stands for an effect that is committed before it is reported.
func countWords(_ context.Context, b *worker.Batch) error {
	for _, item := range b.Open() {
		fmt.Printf("item %d: %d bytes\n", item.Number, item.Length)
		b.Report(worker.Result{Outcome: worker.Stored})
	}
	return nil
}

// A whole worker: it claims batches of kind "words" until it is interrupted.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	w, err := worker.New(worker.Config{
		Address:  "127.0.0.1:7650",
		Handlers: map[string]worker.Handler{"words": worker.HandlerFunc(countWords)},
	})
	if err == nil {
		err = w.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// A handler is tried without a coordinator.
func ExampleTry() {
	results, err := worker.Try(context.Background(), worker.HandlerFunc(countWords), worker.Batch{
		Items: []payload.Item{{Number: 1, Length: 11, Data: []byte(`"two words"`)}},
	})
	fmt.Println(results[0].Outcome, err)
	// Output:
	// item 1: 11 bytes
	// stored <nil>
}
