package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) batchesVerb() *cobra.Command {
	var request tallymanv1.ListBatchesRequest
	var states []string
	var limit int
	var batch int64
	verb := &cobra.Command{
		Use:   "batches [ID]",
		Short: "List the batches of a job, or show one with its attempts",
		Long: `List the batches of a job, or show one with its attempts: who had it, for how long, how it ended and what was
decided.

A batch that dies with its worker is tried again and split, until the item is alone that kills workers. It is crashed
then and names that item, the culprit; a batch that was split counts by its parts, and each shows the whole family.`,
		Annotations: lists,
		Example: `  tallyman batches --job 3
  tallyman batches --job 3 --state failed,crashed
  tallyman batches --job 3 --state split
  tallyman batches --job 3 --slowest
  tallyman batches 117`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			parsed, err := display.ParseEnum[tallymanv1.BatchState]("state of a batch", "BATCH_STATE_",
				tallymanv1.BatchState_value, states)
			if err != nil {
				return usageError("--state: %w", err)
			}
			request.States = parsed
			if batch, err = namedBatch(args, batch, request.GetJobId()); err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if batch != 0 {
					response, err := c.Batch(ctx, batch)
					if client.ReasonOf(err) == tallymanv1.ErrorReason_ERROR_REASON_BATCH_NOT_FOUND {
						return fmt.Errorf("%w; the batches of job %[2]d: tallyman batches --job %[2]d%[3]s", err, batch, p.where(verb))
					}
					if err != nil {
						return err
					}
					return p.show(response, func() error { return showBatch(ctx, p.stdout, c.Client, response) })
				}
				if request.JobId, err = p.jobOrNewest(ctx, c, request.GetJobId()); err != nil {
					return err
				}
				return list(p, display.Batches, c.Batches(ctx, &request), limit)
			})
		},
	}
	flags := verb.Flags()
	flags.Int64Var(&request.JobId, "job", 0, "the job (default: the newest)")
	flags.Int64Var(&batch, "batch", 0, "the same as ID: one batch")
	flags.StringSliceVar(&states, "state", nil, "only batches in these states: pending, running, completed, failed, crashed, cancelled, split")
	flags.BoolVar(&request.Slowest, "slowest", false, "the slowest batches that ended, at most 20")
	flags.IntVar(&limit, "limit", 0, "most batches to list; 0 for all")
	return verb
}

// namedBatch returns the batch that an argument or --batch names, 0 when neither does. With a job it is not clear what is
// wanted.
func namedBatch(args []string, flag, job int64) (int64, error) {
	ids, err := parseIDs("batch", args)
	if err != nil {
		return 0, err
	}
	if len(ids) > 0 && flag != 0 && flag != ids[0] {
		return 0, usageError("batch %d and --batch %d: name one", ids[0], flag)
	}
	if len(ids) > 0 {
		flag = ids[0]
	}
	if flag != 0 && job != 0 {
		return 0, usageError("batch %d and --job %d: the number without a flag is that of a batch, which has a job already; "+
			"--job lists the batches of one", flag, job)
	}
	return flag, nil
}

// showBatch writes everything about one batch. A part that had no attempt of its own became what it is by those of the batch
// that was split.
func showBatch(ctx context.Context, w io.Writer, c *client.Client, response *tallymanv1.GetBatchResponse) error {
	var whole *tallymanv1.GetBatchResponse
	if parent := response.GetBatch().GetParentId(); parent != 0 && len(response.GetAttempts()) == 0 {
		var err error
		if whole, err = c.Batch(ctx, parent); err != nil {
			return err
		}
	}
	return display.Batch(w, response, whole)
}
