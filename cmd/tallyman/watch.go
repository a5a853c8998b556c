package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
)

func (p *program) watchVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a job to its end, and say what became of every item",
		Long: `Follow a job to its end, and say what became of every item. It survives cut connections and restarts of the
server. The exit code tells how the job ended; Ctrl-C leaves the job alone.`,
		Example: `  tallyman watch 3
  tallyman watch 3 --server 10.0.0.5:7650 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			ids, err := parseIDs("job", args)
			if err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if err := p.mustMove(ctx, c, ids[0]); err != nil {
					return err
				}
				f := p.newFollower(verb, nil)
				job, err := f.watch(ctx, c.Client, ids[0])
				f.progress.Close()
				if err != nil {
					if goesOn(ctx, err) && c.live() {
						fmt.Fprintf(p.stderr, "job %d goes on; to follow it again:\n  tallyman watch %d%s\n", ids[0], ids[0], p.where(verb))
					}
					return err
				}
				if err := f.conclude(ctx, c.Client, job); err != nil {
					return err
				}
				return exitWith(jobExit(job.GetState()))
			})
		},
	}
}

// mustMove refuses to watch a job that nobody works on: without a server it would stand still for ever.
func (p *program) mustMove(ctx context.Context, c *connection, jobID int64) error {
	if c.live() {
		return nil
	}
	job, err := c.Job(ctx, jobID)
	if err != nil || client.Ended(job.GetState()) {
		return err
	}
	return &exitError{code: exitUnreachable, err: fmt.Errorf("job %d has not ended, and no server serves the data folder %s "+
		"to go on with it: start one with `tallyman serve --workers 2`", jobID, p.data)}
}
