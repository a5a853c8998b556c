package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// cleanupPage is how many jobs are listed or deleted in one call.
const cleanupPage = 200

func (p *program) cleanupVerb() *cobra.Command {
	request := tallymanv1.CleanupJobsRequest{PageSize: cleanupPage}
	var age time.Duration
	var states []string
	var yes bool
	verb := &cobra.Command{
		Use:         "cleanup --older-than DURATION",
		Short:       "Delete jobs that ended long ago",
		Annotations: lists,
		Long: `Delete jobs that ended longer ago than --older-than, with their batches and findings, and list them. The annotations
they stored stay. It asks on a terminal; elsewhere it needs --yes. A job that is open, or open again since it was
retried, is never among them.

A server does the same by itself: see --retention of ` + "`tallyman serve`" + `. The jobs are gone at once; what they held in the
database goes in small steps afterwards. Without a server the data folder is opened in this process, which ends when
all of it is gone.`,
		Example: `  tallyman cleanup --older-than 7d --dry-run
  tallyman cleanup --older-than 30d --state failed,cancelled --yes
  tallyman cleanup --older-than 12h --yes -o tsv`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			if !verb.Flags().Changed("older-than") {
				return usageError("--older-than is needed: for how long jobs that ended are to be kept, such as 7d")
			}
			request.OlderThan = durationpb.New(age)
			var err error
			request.States, err = display.ParseEnum[tallymanv1.JobState]("state of a job", "JOB_STATE_", tallymanv1.JobState_value, states)
			if err != nil {
				return usageError("--state: %w", err)
			}
			if !request.GetDryRun() && !yes && !isTerminal(p.stdin) {
				return p.confirm(false, "")
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if !request.GetDryRun() && !yes {
					if err := p.confirmCleanup(ctx, c, &request, age); err != nil {
						return err
					}
				}
				var n int64
				if err := list(p, display.EndedJobs, counted(c.Cleanup(ctx, &request), &n), 0); err != nil {
					return err
				}
				if request.GetDryRun() || n == 0 {
					return nil
				}
				fmt.Fprintf(p.stderr, "%s deleted\n", display.Plural(n, "job"))
				return c.removeDeleted(ctx)
			})
		},
	}
	flags := verb.Flags()
	spanVar(flags, &age, "older-than", 0, "delete jobs that ended longer ago than this, such as 7d or 12h; 0s for all that ended")
	flags.StringSliceVar(&states, "state", nil, "only jobs that ended in these states")
	flags.BoolVar(&request.DryRun, "dry-run", false, "only list the jobs that would be deleted")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return verb
}

// confirmCleanup says how many jobs would go, and asks.
func (p *program) confirmCleanup(ctx context.Context, c *connection, request *tallymanv1.CleanupJobsRequest, age time.Duration) error {
	look := &tallymanv1.CleanupJobsRequest{
		OlderThan: request.GetOlderThan(), States: request.GetStates(), PageSize: request.GetPageSize(), DryRun: true,
	}
	var n int64
	for _, err := range c.Cleanup(ctx, look) {
		if err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return nil // which the list says
	}
	return p.confirm(false, fmt.Sprintf("Delete %s that ended more than %s ago, with all that is known of them?",
		display.Plural(n, "job"), display.Span(age)))
}

// counted counts what is taken of a list.
func counted[T any](entries iter.Seq2[T, error], n *int64) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for entry, err := range entries {
			if err == nil {
				*n++
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

// removeDeleted waits, when the coordinator ends with this process, until what deleted jobs held is gone. It would
// otherwise stay until the next server of the data folder.
func (c *connection) removeDeleted(ctx context.Context) error {
	if c.embed == nil {
		return nil
	}
	return c.embed.server.RemoveDeleted(ctx)
}
