package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) workersVerb() *cobra.Command {
	var request tallymanv1.ListWorkersRequest
	var limit int
	verb := &cobra.Command{
		Use:         "workers [ID]",
		Short:       "List the sessions of workers, newest first",
		Annotations: lists,
		Example: `  tallyman workers
  tallyman workers --all -o json
  tallyman workers host-7 --all`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				workers := c.Workers(ctx, &request)
				if len(args) == 1 {
					workers = sessionsOf(args[0], workers)
				}
				return list(p, display.Workers, workers, limit)
			})
		},
	}
	flags := verb.Flags()
	flags.BoolVar(&request.IncludeEnded, "all", false, "also sessions that have ended")
	flags.IntVar(&limit, "limit", 100, "most sessions to list; 0 for all")
	return verb
}

// sessionsOf keeps the sessions of one worker.
func sessionsOf(workerID string, workers iter.Seq2[*tallymanv1.Worker, error]) iter.Seq2[*tallymanv1.Worker, error] {
	return func(yield func(*tallymanv1.Worker, error) bool) {
		for w, err := range workers {
			if err == nil && w.GetWorkerId() != workerID {
				continue
			}
			if !yield(w, err) {
				return
			}
		}
	}
}
