package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) jobsVerb() *cobra.Command {
	var request tallymanv1.ListJobsRequest
	var states []string
	var limit int
	verb := &cobra.Command{
		Use:         "jobs [ID]",
		Short:       "List jobs, newest first, or show one",
		Annotations: lists,
		Example: `  tallyman jobs
  tallyman jobs 3
  tallyman jobs --state running,completed_with_errors --limit 0 -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			parsed, err := display.ParseEnum[tallymanv1.JobState]("state of a job", "JOB_STATE_",
				tallymanv1.JobState_value, states)
			if err != nil {
				return usageError("--state: %w", err)
			}
			request.States = parsed
			ids, err := parseIDs("job", args)
			if err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if len(ids) == 0 {
					return list(p, display.Jobs, c.Jobs(ctx, &request), limit)
				}
				job, err := c.Job(ctx, ids[0])
				if err != nil {
					return err
				}
				return p.show(job, func() error {
					if err := display.Job(p.stdout, job); err != nil {
						return err
					}
					p.explainResume(verb, c, job)
					p.explainStanding(verb, c, job)
					return nil
				})
			})
		},
	}
	flags := verb.Flags()
	flags.StringVar(&request.Project, "project", "", "only jobs of this project")
	flags.StringVar(&request.Kind, "kind", "", "only jobs of this kind")
	flags.StringSliceVar(&states, "state", nil, "only jobs in these states")
	flags.IntVar(&limit, "limit", 50, "most jobs to list; 0 for all")
	verb.AddCommand(p.jobsDeleteVerb())
	return verb
}

// explainStanding says that a job stands still since nobody serves the data folder, and how to go on with it.
func (p *program) explainStanding(verb *cobra.Command, c *connection, job *tallymanv1.Job) {
	if c.live() || !job.GetIngestDone() || job.GetState() != tallymanv1.JobState_JOB_STATE_RUNNING {
		return
	}
	fmt.Fprintf(p.stdout, "\nnobody serves this data folder, so that the job stands still; to go on with it\n  %s%s\n", goOnCommand(job), p.where(verb))
}

// explainResume says how to go on with an upload that is not complete.
func (p *program) explainResume(verb *cobra.Command, c *connection, job *tallymanv1.Job) {
	if job.GetIngestDone() || job.GetState() != tallymanv1.JobState_JOB_STATE_RUNNING {
		return
	}
	name := "run"
	if c.live() {
		name = submitName
	}
	command := resumeCommand(name, job)
	if !c.live() {
		command = goOnCommand(job)
	}
	fmt.Fprintf(p.stdout, "\nthe upload is not complete; if it was interrupted, resume with\n  %s%s\n", command, p.where(verb))
}

func (p *program) jobsDeleteVerb() *cobra.Command {
	var yes bool
	verb := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete jobs that have ended, with all that is known of them",
		Long: `Delete jobs that have ended, with their batches and findings. The annotations they stored stay. A job that has not
ended is to be cancelled first. It asks on a terminal; elsewhere it needs --yes. What the jobs held in the database
goes in small steps afterwards; without a server this command waits until it is gone.`,
		Example: `  tallyman jobs delete 3
  tallyman jobs delete 3 4 5 --yes`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			ids, err := parseIDs("job", args)
			if err != nil {
				return err
			}
			if err := p.confirm(yes, fmt.Sprintf("Delete %s with all that is known of them?", named("job", args))); err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				var problems []error
				for _, id := range ids {
					if err := c.Delete(ctx, id); err != nil {
						problems = append(problems, explainOpen(err, id, p.where(verb)))
						continue
					}
					fmt.Fprintf(p.stderr, "job %d deleted\n", id)
				}
				if len(problems) < len(ids) {
					problems = append(problems, c.removeDeleted(ctx))
				}
				return errors.Join(problems...)
			})
		},
	}
	verb.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return verb
}

// explainOpen says what to do about a job that is not deleted since it has not ended.
func explainOpen(err error, jobID int64, where string) error {
	if client.ReasonOf(err) != tallymanv1.ErrorReason_ERROR_REASON_JOB_OPEN {
		return err
	}
	return fmt.Errorf("%w: tallyman cancel %d%s", err, jobID, where)
}
