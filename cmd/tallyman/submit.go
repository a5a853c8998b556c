package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const submitName = "submit"

func (p *program) submitVerb() *cobra.Command {
	var s submission
	var watch bool
	verb := &cobra.Command{
		Use:   submitName + " FILE...",
		Short: "Send files to a server, as one job",
		Long: `Send files to a server, as one job. An upload survives cut connections and restarts of the server;
--resume goes on with one that was interrupted; what comes from standard input is then piped in again, from its start.
Without --watch it ends when all is sent. Ctrl-C leaves a job whose file is sent to the server, and says how to follow
or to resume it.
` + filesHelp + modesHelp,
		Example: `  tallyman submit collection.jsonl --project my-corpus --watch
  tallyman submit more.jsonl --project my-corpus --mode add
  tallyman submit corpus/ extra.tgz --server 10.0.0.5:7650
  tallyman submit items.jsonl --kind ner --param model=large`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			in, err := p.input(args)
			if err != nil {
				return err
			}
			u, err := s.upload(in)
			if err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if !c.live() {
					return &exitError{code: exitUnreachable, err: fmt.Errorf("no server serves the data folder %s: start one with "+
						"`tallyman serve --workers 2`, or use `tallyman run`, which needs none", p.data)}
				}
				f := p.newFollower(verb, &s)
				if watch {
					return f.submit(ctx, c.Client, u)
				}
				return f.send(ctx, c.Client, u)
			})
		},
	}
	s.flags(verb.Flags())
	verb.Flags().StringVar(&s.kind, "kind", "", "which handler the jobs need (default annotations)")
	verb.Flags().BoolVarP(&watch, "watch", "w", false, "follow the jobs to their end")
	return verb
}

// rejected returns how many items of a job are rejected so far.
func rejected(job *tallymanv1.Job) int64 {
	for _, n := range job.GetProgress().GetItemsByOutcome() {
		if n.GetOutcome() == tallymanv1.Outcome_OUTCOME_REJECTED {
			return n.GetItems()
		}
	}
	return 0
}

// wrongKind says what may be the reason when nobody chose a kind and all items are rejected.
func (f *follower) wrongKind(job *tallymanv1.Job, rejected int64) string {
	if f.submission.kind != "" || rejected < job.GetProgress().GetItemsTotal() {
		return ""
	}
	return ", which is all of them: without --kind they must be annotations"
}

// send makes an upload and says which job it became.
func (f *follower) send(ctx context.Context, c *client.Client, u upload) error {
	p := f.program
	if err := f.mustResume(ctx, c); err != nil {
		return err
	}
	p.announceProject(f.submission, u)
	sent, err := p.upload(ctx, c, u)
	if err != nil {
		if goesOn(ctx, err) {
			f.explain(nil, sent, u)
		}
		return err
	}
	job, err := c.Job(ctx, sent.JobID)
	if err != nil {
		return err
	}
	err = p.show(job, func() error {
		fmt.Fprintf(p.stdout, "job %d: %s, %s items in %s batches\n", sent.JobID, display.Clean(u.title()),
			display.Number(sent.Items), display.Number(sent.Batches))
		if n := rejected(job); n > 0 {
			fmt.Fprintf(p.stdout, "  %s rejected as it was read%s; why: tallyman findings --job %d%s\n", display.Plural(n, "item"),
				f.wrongKind(job, n), sent.JobID, p.where(f.verb))
		}
		if job.GetReason() != "" {
			fmt.Fprintf(p.stdout, "  %s: %s\n", display.JobState(job.GetState()), display.Clean(job.GetReason()))
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "to follow it: tallyman watch %d%s\n", sent.JobID, p.where(f.verb))
	if sent.Stopped {
		return exitWith(jobExit(job.GetState()))
	}
	return nil
}
