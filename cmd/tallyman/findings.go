package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) findingsVerb() *cobra.Command {
	request := tallymanv1.ListFindingsRequest{PageSize: tallymanv1.MaxPageSize}
	var severity []string
	var limit int
	verb := &cobra.Command{
		Use:         "findings [JOB]",
		Short:       "List what was found wrong with the items of a job, each with its exact place",
		Annotations: lists,
		Example: `  tallyman findings 3
  tallyman findings --job 3 --severity error --code SPAN_OUT_OF_RANGE
  tallyman findings --batch 117
  tallyman findings --job 3 -o tsv > findings.tsv`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			parsed, err := display.ParseEnum[tallymanv1.Severity]("severity", "SEVERITY_", tallymanv1.Severity_value, severity)
			if err != nil {
				return usageError("--severity: %w", err)
			}
			if len(parsed) == 1 { // both are the same as none
				request.Severity = parsed[0]
			}
			if request.JobId, err = namedJob(args, request.GetJobId()); err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if request.JobId == 0 && request.GetBatchId() != 0 { // it says which job
					response, err := c.Batch(ctx, request.GetBatchId())
					if err != nil {
						return err
					}
					request.JobId = response.GetBatch().GetJobId()
				}
				if request.JobId, err = p.jobOrNewest(ctx, c, request.GetJobId()); err != nil {
					return err
				}
				err := list(p, display.Findings, c.Findings(ctx, &request), limit)
				if client.ReasonOf(err) == tallymanv1.ErrorReason_ERROR_REASON_JOB_NOT_FOUND && request.GetBatchId() == 0 {
					return fmt.Errorf("%w; the findings of batch %[2]d: tallyman findings --batch %[2]d%[3]s", err, request.GetJobId(), p.where(verb))
				}
				if err != nil {
					return err
				}
				job, err := c.Job(ctx, request.GetJobId())
				if n := display.Failed(job.GetProgress()); n > 0 && p.format() == display.Table {
					fmt.Fprintf(p.stderr, "%s failed with their batches, without findings of their own; why: tallyman batches --job %d --state failed%s\n",
						display.Plural(n, "item"), request.GetJobId(), p.where(verb))
				}
				return err
			})
		},
	}
	flags := verb.Flags()
	flags.Int64Var(&request.JobId, "job", 0, "the job (default: the newest)")
	flags.Int64Var(&request.BatchId, "batch", 0, "only those of this batch")
	flags.Int64Var(&request.Item, "item", 0, "only those of this item")
	flags.StringVar(&request.Code, "code", "", "only those with this code")
	flags.StringSliceVar(&severity, "severity", nil, "only those of this severity: error or warning")
	flags.IntVar(&limit, "limit", 0, "most findings to list; 0 for all")
	return verb
}
