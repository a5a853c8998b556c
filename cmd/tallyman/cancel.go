package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
)

func (p *program) cancelVerb() *cobra.Command {
	var yes bool
	var reason string
	verb := &cobra.Command{
		Use:   "cancel ID...",
		Short: "Stop jobs: what is not done is not done any more",
		Long: `Stop jobs. What they have stored stays; items without an outcome end as cancelled. It asks on a terminal;
elsewhere it needs --yes.`,
		Example: `  tallyman cancel 3
  tallyman cancel 3 --reason 'wrong file' --yes`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			ids, err := parseIDs("job", args)
			if err != nil {
				return err
			}
			if err := p.confirm(yes, fmt.Sprintf("Cancel %s?", named("job", args))); err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				for _, id := range ids {
					job, err := c.Cancel(ctx, id, reason)
					if err != nil {
						return err
					}
					err = p.show(job, func() error {
						fmt.Fprintf(p.stdout, "job %d is %s\n", id, display.JobState(job.GetState()))
						return nil
					})
					if err != nil {
						return err
					}
					if !client.Ended(job.GetState()) {
						fmt.Fprintf(p.stderr, "it ends when its workers have stopped: tallyman watch %d%s\n", id, p.where(verb))
					}
				}
				return nil
			})
		},
	}
	verb.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	verb.Flags().StringVar(&reason, "reason", "", "why, for people")
	return verb
}
