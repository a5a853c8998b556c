package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) pauseVerb() *cobra.Command {
	return p.controlVerb(&cobra.Command{
		Use:   "pause ID...",
		Short: "Pause jobs: workers give their batches back, and nothing of them is done until they are resumed",
		Long: `Pause jobs. No batch of them is given out, and what runs is stopped and given back at once; items that are done
stay done. The upload of a paused job goes on. It does not ask: tallyman resume undoes it.`,
		Example: `  tallyman pause 3
  tallyman resume 3`,
	}, (*client.Client).Pause)
}

func (p *program) resumeVerb() *cobra.Command {
	return p.controlVerb(&cobra.Command{
		Use:   "resume ID...",
		Short: "Let paused jobs go on",
		Long: `Let paused jobs go on where they were. An upload that was interrupted is resumed by its own command, tallyman run or
submit with --resume, not by this one.`,
		Example: `  tallyman resume 3`,
	}, (*client.Client).Resume)
}

// controlVerb completes a verb that does the same to each job.
func (p *program) controlVerb(
	verb *cobra.Command, do func(*client.Client, context.Context, int64) (*tallymanv1.Job, error),
) *cobra.Command {
	verb.Args = cobra.MinimumNArgs(1)
	verb.RunE = func(verb *cobra.Command, args []string) error {
		ids, err := parseIDs("job", args)
		if err != nil {
			return err
		}
		return p.withConnection(verb, func(ctx context.Context, c *connection) error {
			for _, id := range ids {
				job, err := do(c.Client, ctx, id)
				if err != nil {
					return err
				}
				if err := p.showState(job); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return verb
}

// showState says what a job is doing now.
func (p *program) showState(job *tallymanv1.Job) error {
	return p.show(job, func() error {
		fmt.Fprintf(p.stdout, "job %d is %s\n", job.GetJobId(), display.JobState(job.GetState()))
		return nil
	})
}

func (p *program) retryVerb() *cobra.Command {
	var states []string
	var request tallymanv1.RetryJobRequest
	verb := &cobra.Command{
		Use:   "retry JOB",
		Short: "Try again what failed, crashed or was cancelled of a job",
		Long: `Try again what failed, crashed or was cancelled of a job, all of it or some, as the job's next run. Batches get all
their attempts again, and culprits are tried without suspicion; items that were stored, rejected or skipped stay so. The job may have ended, or not; one that is
being stopped must have ended first. If its upload was not finished it can be resumed, too.`,
		Example: `  tallyman retry 3
  tallyman retry 3 --state failed,crashed
  tallyman retry 3 --batch 117,118`,
		Args: cobra.ExactArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			ids, err := parseIDs("job", args)
			if err != nil {
				return err
			}
			request.JobId, request.RequestId = ids[0], uuid.NewString()
			request.States, err = display.ParseEnum[tallymanv1.BatchState]("state of a batch", "BATCH_STATE_",
				tallymanv1.BatchState_value, states)
			if err != nil {
				return usageError("--state: %w", err)
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				job, err := c.Retry(ctx, &request)
				if err != nil {
					return err
				}
				if p.format() != display.Table {
					return p.show(job, nil)
				}
				fmt.Fprintf(p.stdout, "job %d is %s, in run %d\n", job.GetJobId(), display.JobState(job.GetState()), job.GetRun())
				switch {
				case job.GetState() == tallymanv1.JobState_JOB_STATE_PAUSED:
					fmt.Fprintf(p.stderr, "to let it go on:\n  tallyman resume %d%s\n", job.GetJobId(), p.where(verb))
				case c.live():
					fmt.Fprintf(p.stderr, "to follow it:\n  tallyman watch %d%s\n", job.GetJobId(), p.where(verb))
				case !job.GetIngestDone(): // said below
				default:
					fmt.Fprintf(p.stderr, "to go on with it:\n  %s%s\n", goOnCommand(job), p.where(verb))
				}
				p.explainResume(verb, c, job)
				return nil
			})
		},
	}
	verb.Flags().StringSliceVar(&states, "state", nil, "only batches in these states: failed, crashed, cancelled (default: all three)")
	verb.Flags().Int64SliceVar(&request.BatchIds, "batch", nil, "only these batches of the job")
	return verb
}
