package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// goesOn reports whether what ended with an error can be gone on with: it was interrupted, or lost the coordinator or its
// source, rather than refused.
func goesOn(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	refusal, ok := errors.AsType[*client.Error](err)
	return !ok || refusal.Code == codes.Unavailable || refusal.Code == codes.ResourceExhausted || refusal.Code == codes.Internal
}

// again returns the flags that handle the items as they were handled, with a space before each.
func (f *follower) again() string { return f.exec.again(f.verb.Flags()) + f.sources.again() }

// explain says, when it stops before the end, what is kept and how to go on. The job is as last seen, nil when it was not
// watched.
func (f *follower) explain(job *tallymanv1.Job, sent sending, u upload) {
	p, where := f.program, f.program.where(f.verb)
	submits := f.verb.Name() == submitName
	command := "tallyman " + f.verb.Name() + " " + u.arguments() +
		sameHeader(u.Project, u.Kind, u.Mode) + f.again()
	if submits && f.verb.Flags().Changed("watch") {
		command += " --watch"
	}
	jobID := sent.JobID
	if job != nil {
		jobID = job.GetJobId()
	}
	switch {
	case jobID == 0:
		fmt.Fprintf(p.stderr, "stopped before the upload began; to begin:\n  %s%s\n", command, where)
	case submits && (sent.complete || job.GetIngestDone()):
		fmt.Fprintf(p.stderr, "job %d goes on at the server%s; to follow it:\n  tallyman watch %d%s\n", jobID, soFar(job), jobID, where)
	default:
		switch {
		case job != nil:
			f.explainStopped(job)
		default:
			fmt.Fprintf(p.stderr, "stopped: job %d has %s items so far, which are worked on\n", jobID, display.Number(sent.Items))
		}
		again := ""
		if u.fromStdin() && !submits && job.GetIngestDone() { // what was piped in is not needed again
			fmt.Fprintf(p.stderr, "to go on:\n  tallyman run --job %d%s%s\n", jobID, f.again(), where)
			break
		}
		if u.fromStdin() {
			again = ", with the same bytes from their start on standard input"
		}
		if submits {
			again += ", within an hour unless the server's --upload-timeout says otherwise"
		}
		fmt.Fprintf(p.stderr, "to go on%s:\n  %s --resume %s%s\n", again, command, quoted(u.ID), where)
	}
	if jobID != 0 {
		fmt.Fprintf(p.stderr, "to give it up:\n  tallyman cancel %d%s\n", jobID, where)
	}
}

// soFar says how far a job was when it was last seen.
func soFar(job *tallymanv1.Job) string {
	if job == nil {
		return ""
	}
	return fmt.Sprintf(", where %s of %s items have ended so far", display.Number(job.GetProgress().GetItemsEnded()),
		display.Number(job.GetProgress().GetItemsTotal()))
}

// sameHeader returns the flags, with a space before each, without which a resumed upload would be another one.
func sameHeader(project, kind, mode string) string {
	var flags string
	if project != "" {
		flags += " --project " + quoted(project)
	}
	if kind != "" && kind != tallymanv1.KindAnnotations {
		flags += " --kind " + quoted(kind)
	}
	if mode != "" && mode != tallymanv1.ModeReplace {
		flags += " --mode " + quoted(mode)
	}
	return flags
}
