package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) workersVerb() *cobra.Command {
	var request tallymanv1.ListWorkersRequest
	var limit int
	verb := &cobra.Command{
		Use:         "workers [ID]",
		Short:       "List the workers that live, newest first, or show one",
		Annotations: lists,
		Long: `List the sessions of workers, one for each life of a process, the newest first. With an ID, show the newest session
of that worker: what it holds, and its last attempts that did not complete.`,
		Example: `  tallyman workers
  tallyman workers host-7
  tallyman workers --all -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if len(args) == 1 {
					worker, err := c.Worker(ctx, args[0])
					if err != nil {
						return err
					}
					return p.show(worker, func() error { return display.Worker(p.stdout, worker) })
				}
				columns := display.Workers
				if request.GetIncludeEnded() {
					columns = display.AllWorkers
				}
				return list(p, columns, c.Workers(ctx, &request), limit)
			})
		},
	}
	flags := verb.Flags()
	flags.BoolVar(&request.IncludeEnded, "all", false, "also sessions that have ended")
	flags.IntVar(&limit, "limit", 100, "most sessions to list; 0 for all")
	return verb
}
