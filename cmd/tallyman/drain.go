package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) drainVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "drain WORKER...",
		Short: "Have workers finish what they hold and end",
		Long: `Tell workers to take no more, to finish what they have in hand or give it back, and to end, as SIGTERM on their hosts
does. It returns at once; "tallyman workers" shows them as draining until they have ended. A worker is named by its id,
as in that list. A coordinator whose own workers are drained goes on without them.`,
		Example: `  tallyman drain host-7
  tallyman workers | awk '$4 == "host-7" { print $1 }' | xargs tallyman drain`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				for _, id := range args {
					worker, err := c.DrainWorker(ctx, id)
					if err != nil {
						return err
					}
					err = p.show(worker, func() error {
						fmt.Fprintf(p.stdout, "worker %s is draining, with %d batches in hand\n", id, worker.GetRunning())
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}
