package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
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
					if !c.live() && !client.Ended(job.GetState()) {
						if job, err = ended(ctx, c, job); err != nil {
							return err
						}
					}
					err = p.show(job, func() error {
						fmt.Fprintf(p.stdout, "job %d is %s\n", id, display.JobState(job.GetState()))
						return nil
					})
					if err != nil {
						return err
					}
					switch {
					case client.Ended(job.GetState()):
					case c.live():
						fmt.Fprintf(p.stderr, "it ends when its workers have stopped: tallyman watch %d%s\n", id, p.where(verb))
					default:
						fmt.Fprintln(p.stderr, "it waits for workers that may have been killed, and ends with the next "+
							"`tallyman run` or `tallyman serve` of this data folder")
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

// cancelWait is for how long a coordinator in this process is kept for a cancelled job to end.
const cancelWait = 5 * time.Second

// ended waits a little for the end of a job and returns it as last seen: with this process ends the coordinator, and
// nobody would end the job.
func ended(ctx context.Context, c *connection, job *tallymanv1.Job) (*tallymanv1.Job, error) {
	waiting, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	for seen, err := range c.Watch(waiting, job.GetJobId()) {
		switch {
		case err == nil:
			job = seen
		case ctx.Err() == nil && waiting.Err() != nil:
			return job, nil
		default:
			return job, err
		}
	}
	return job, nil
}
