package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) statsVerb() *cobra.Command {
	var request tallymanv1.GetStatisticsRequest
	var window time.Duration
	verb := &cobra.Command{
		Use:   "stats",
		Short: "Totals and percentages of what ended lately, the slowest batches, the most common failures and crashes",
		Example: `  tallyman stats
  tallyman stats --window 24h --project my-corpus
  tallyman stats --job 3 --window 7d -o json`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			request.Window = durationpb.New(window)
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				statistics, err := c.Statistics(ctx, &request)
				if err != nil {
					return err
				}
				return p.show(statistics, func() error { return display.Statistics(p.stdout, window, statistics) })
			})
		},
	}
	flags := verb.Flags()
	spanVar(flags, &window, "window", time.Hour, "how far back from now, such as 24h or 7d")
	flags.Int64Var(&request.JobId, "job", 0, "only this job")
	flags.StringVar(&request.Project, "project", "", "only jobs of this project")
	return verb
}
