package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// checkJobs refuses a command line that says neither files nor jobs, or both.
func checkJobs(jobs []int64, files []string, resume string) error {
	switch {
	case len(jobs) == 0 && len(files) == 0:
		return usageError("name the FILE to take in, - for standard input, or with --job an open job of the data folder to finish")
	case len(jobs) > 0 && (len(files) > 0 || resume != ""):
		return usageError("--job finishes jobs that are there, and takes no FILE and no --resume")
	case slices.Min(append(jobs, 1)) < 1:
		return usageError("--job %d: no number of a job", slices.Min(jobs))
	}
	return nil
}

// check looks at what run has before it: the jobs it was told to finish must be there to be finished, by what handles
// batches in this process, and that must not get its hands on jobs that are meant for something else.
func (f *follower) check(ctx context.Context, c *client.Client) error {
	for i, id := range f.jobs {
		job, err := c.Job(ctx, id)
		if err != nil {
			return err
		}
		if err := f.canFinish(job, i > 0 || f.verb.Flags().Changed("kind")); err != nil {
			return err
		}
		f.submission.kind = job.GetKind()
	}
	if !f.exec.chosen() {
		return nil // annotations are handled alike, whosever they are
	}
	return f.onlyOwn(ctx, c)
}

// canFinish refuses a job that cannot be finished as it is. With ofKind it must be of the kind that is chosen.
func (f *follower) canFinish(job *tallymanv1.Job, ofKind bool) error {
	id, where := job.GetJobId(), f.program.where(f.verb)
	switch {
	case client.Ended(job.GetState()):
		return fmt.Errorf("job %d has ended, %s; what failed, crashed or was cancelled of it is tried again after tallyman retry %d%s",
			id, spaced(display.JobState(job.GetState())), id, where)
	case job.GetState() != tallymanv1.JobState_JOB_STATE_RUNNING:
		return fmt.Errorf("job %d is %s; to let it go on: tallyman resume %d%s", id, display.JobState(job.GetState()), id, where)
	case !job.GetIngestDone():
		return fmt.Errorf("the upload of job %d is not complete, and needs its file: %s", id, resumeCommand("run", job)+f.again()+where)
	}
	switch kind := job.GetKind(); {
	case f.exec.chosen() && kind == tallymanv1.KindAnnotations:
		return usageError("job %d is of the kind %s, which has its own handler: leave --%s out", id, kind, execFlag)
	case !f.exec.chosen() && kind != tallymanv1.KindAnnotations:
		return usageError("job %d is of the kind %s: name the command that handles its items with --%s", id, display.Clean(kind), execFlag)
	case ofKind && kind != f.submission.kind:
		return usageError("job %d is of the kind %s, not of %s", id, display.Clean(kind), display.Clean(f.submission.kind))
	}
	return nil
}

// onlyOwn refuses to begin while other jobs of the kind are open, which may be meant for another command: workers of this
// process would take their batches.
func (f *follower) onlyOwn(ctx context.Context, c *client.Client) error {
	own := slices.Clone(f.jobs)
	if f.submission.resume != "" {
		upload, err := c.UploadStatus(ctx, f.submission.resume)
		if err != nil && client.ReasonOf(err) != tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_NOT_FOUND {
			return err
		}
		own = append(own, upload.GetJobId())
	}
	where := f.program.where(f.verb)
	running := &tallymanv1.ListJobsRequest{
		Kind: f.submission.kind, States: []tallymanv1.JobState{tallymanv1.JobState_JOB_STATE_RUNNING},
	}
	for job, err := range c.Jobs(ctx, running) {
		if err != nil {
			return err
		}
		if id := job.GetJobId(); !slices.Contains(own, id) {
			return fmt.Errorf("job %[1]d (%[2]s) of this data folder has not ended, and this command would handle its items, too, since they "+
				"are of the same kind, %[3]s; finish it:\n  %[4]s\ngive it up:\n  tallyman cancel %[1]d%[5]s\nor give what is new a kind of "+
				"its own: --kind NAME", id, display.Clean(job.GetFileName()), display.Clean(job.GetKind()), goOnCommand(job)+where, where)
		}
	}
	return nil
}

// finish follows the jobs to their ends that were named, without sending anything.
func (f *follower) finish(ctx context.Context, c *client.Client) error {
	code := exitOK
	for i, id := range f.jobs {
		job, err := f.watch(ctx, c, id)
		f.progress.Close()
		if err != nil {
			if goesOn(ctx, err) {
				f.explainFinish(job, f.jobs[i:])
			}
			return err
		}
		if err := f.conclude(ctx, c, job); err != nil {
			return err
		}
		code = worse(code, jobExit(job.GetState()))
	}
	return exitWith(code)
}

// explainFinish says, when it stops before the end of the first of these jobs, how to go on.
func (f *follower) explainFinish(job *tallymanv1.Job, left []int64) {
	p, where := f.program, f.program.where(f.verb)
	if job != nil {
		f.explainStopped(job)
	}
	names := make([]string, len(left))
	for i, id := range left {
		names[i] = strconv.FormatInt(id, 10)
	}
	fmt.Fprintf(p.stderr, "to go on:\n  tallyman run --job %s%s%s\n", strings.Join(names, ","), f.again(), where)
}

// explainStopped says what is kept of a job.
func (f *follower) explainStopped(job *tallymanv1.Job) {
	fmt.Fprintf(f.program.stderr, "stopped: %s of %s items of job %d have ended and stay so\n",
		display.Number(job.GetProgress().GetItemsEnded()), display.Number(job.GetProgress().GetItemsTotal()), job.GetJobId())
}

// goOnCommand returns the command, but for where, that goes on with an open job of a data folder that nobody serves.
func goOnCommand(job *tallymanv1.Job) string {
	command := resumeCommand("run", job)
	if job.GetIngestDone() {
		command = fmt.Sprintf("tallyman run --job %d", job.GetJobId())
	}
	if job.GetKind() != tallymanv1.KindAnnotations {
		command += " --exec COMMAND"
	}
	return command
}

// resumeCommand returns the command, but for where, that goes on with an upload.
func resumeCommand(verb string, job *tallymanv1.Job) string {
	return fmt.Sprintf("tallyman %s FILE%s --resume %s", verb,
		sameHeader(job.GetProject(), display.Clean(job.GetKind()), display.Clean(job.GetMode())), quoted(display.Clean(job.GetUploadId())))
}

// spaced makes the name of a state one for a sentence.
func spaced(name string) string { return strings.ReplaceAll(name, "_", " ") }
