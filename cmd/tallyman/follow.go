package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// follower shows how jobs go on and what became of them.
type follower struct {
	program    *program
	verb       *cobra.Command
	submission *submission // nil when it submits nothing
	progress   display.Progress
	otherStore bool // the annotations are not in the data folder
	exec       execution
	jobs       []int64 // to be finished, in the place of files to be submitted
	sources    sourcing
	log        *slog.Logger // of what commands do
}

// submit makes an upload and follows its job to its end. Its error has the exit code of the job.
func (f *follower) submit(ctx context.Context, c *client.Client, u upload) error {
	if err := f.mustResume(ctx, c); err != nil {
		return err
	}
	f.program.announceProject(f.submission, u)
	job, sent, err := f.watchUpload(ctx, c, u)
	f.progress.Close()
	if err != nil {
		if goesOn(ctx, err) {
			f.explain(job, sent, u)
		}
		return err
	}
	if err := f.conclude(ctx, c, job); err != nil {
		return err
	}
	return exitWith(jobExit(job.GetState()))
}

// mustResume refuses to go on with an upload that is not there: under its id a new one would begin.
func (f *follower) mustResume(ctx context.Context, c *client.Client) error {
	id := f.submission.resume
	if id == "" {
		return nil
	}
	_, err := c.UploadStatus(ctx, id)
	if client.ReasonOf(err) == tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_NOT_FOUND {
		return noUpload(id)
	}
	return err
}

func noUpload(id string) error {
	return fmt.Errorf("there is no upload %s here: check --resume, --data and --server, or leave --resume out to begin anew", id)
}

// watchUpload makes an upload and shows its job until that has ended, while the upload goes on and after it. With an error
// the job is as last seen, nil when none is known.
func (f *follower) watchUpload(ctx context.Context, c *client.Client, u upload) (*tallymanv1.Job, sending, error) {
	made := make(chan int64, 1)
	u.Progress = func(at client.UploadProgress) {
		select {
		case made <- at.JobID:
		default: // it is known already
		}
	}
	var job *tallymanv1.Job
	var sent sending
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var err error
		sent, err = f.program.upload(ctx, c, u)
		return err
	})
	group.Go(func() error {
		var err error
		select {
		case id := <-made:
			job, err = f.watch(ctx, c, id)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		return err
	})
	err := group.Wait()
	return job, sent, err
}

// watch shows a job until it has ended and returns it as last seen.
func (f *follower) watch(ctx context.Context, c *client.Client, jobID int64) (*tallymanv1.Job, error) {
	var latest atomic.Pointer[tallymanv1.Job]
	var explaining sync.WaitGroup
	defer explaining.Wait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	explaining.Go(func() { f.explainIdle(watching, c, &latest) })
	for job, err := range c.Watch(ctx, jobID) {
		if err != nil {
			return latest.Load(), err
		}
		latest.Store(job)
		f.progress.Update(job)
	}
	return latest.Load(), nil
}

// conclude says what became of a job that has ended, and what to look at next.
func (f *follower) conclude(ctx context.Context, c *client.Client, job *tallymanv1.Job) error {
	p := f.program
	if p.format() != display.Table {
		return p.show(job, nil)
	}
	findings, err := display.GroupFindings(c.Findings(ctx,
		&tallymanv1.ListFindingsRequest{JobId: job.GetJobId(), PageSize: tallymanv1.MaxPageSize}))
	if err != nil {
		return err
	}
	failures, err := failuresOf(ctx, c, job)
	if err != nil {
		return err
	}
	if err := display.Summary(p.stdout, job, findings, failures); err != nil {
		return err
	}
	where := p.where(f.verb)
	next := []string{fmt.Sprintf("tallyman findings --job %d%s", job.GetJobId(), where)}
	if bad := badOutcomes(job); len(bad) > 0 {
		// Not to a file that may be the uploaded one.
		next = append(next, fmt.Sprintf("tallyman items --job %[1]d --outcome %[2]s%[3]s > job-%[1]d-items.jsonl", job.GetJobId(),
			strings.Join(bad, ","), where))
	}
	if endedBadly(job) {
		next = append(next, fmt.Sprintf("tallyman retry %d%s", job.GetJobId(), where))
	}
	if job.GetKind() != tallymanv1.KindAnnotations {
		next = append(next, fmt.Sprintf("tallyman results --job %[1]d%[2]s > job-%[1]d-results.jsonl", job.GetJobId(), where))
	}
	if job.GetProject() != "" {
		store := where
		if f.otherStore || p.server != "" || !folder.Exists(p.data) {
			store = " --store STORE" // its name may hold a password, or only the workers know it
		}
		next = append(next, fmt.Sprintf("tallyman export --project %s%s", job.GetProject(), store))
	}
	if len(findings.Culprits) > 0 { // its attempts, last words and family
		next = append(next, fmt.Sprintf("tallyman batches %d%s", findings.Culprits[0].GetBatchId(), where))
	} else {
		next = append(next, fmt.Sprintf("tallyman batches --job %d --slowest%s", job.GetJobId(), where))
	}
	fmt.Fprintf(p.stdout, "next:\n  %s\n", strings.Join(next, "\n  "))
	return nil
}

// badOutcomes names the outcomes of a job's items that were not stored and might be.
func badOutcomes(job *tallymanv1.Job) []string {
	var names []string
	for _, n := range job.GetProgress().GetItemsByOutcome() {
		switch n.GetOutcome() {
		case tallymanv1.Outcome_OUTCOME_REJECTED, tallymanv1.Outcome_OUTCOME_DOCUMENT_MISSING, tallymanv1.Outcome_OUTCOME_FAILED,
			tallymanv1.Outcome_OUTCOME_CRASHED, tallymanv1.Outcome_OUTCOME_CANCELLED:
			names = append(names, display.Outcome(n.GetOutcome()))
		default: // nothing is to be done about it
		}
	}
	return names
}

// endedBadly reports whether a job has batches that can be tried again.
func endedBadly(job *tallymanv1.Job) bool {
	return hasBatches(job, tallymanv1.BatchState_BATCH_STATE_FAILED, tallymanv1.BatchState_BATCH_STATE_CRASHED,
		tallymanv1.BatchState_BATCH_STATE_CANCELLED)
}

func hasBatches(job *tallymanv1.Job, states ...tallymanv1.BatchState) bool {
	return slices.ContainsFunc(job.GetProgress().GetBatchesByState(), func(n *tallymanv1.BatchStateCount) bool {
		return slices.Contains(states, n.GetState())
	})
}

// failuresOf returns why attempts at a job's batches failed, if any batch ended badly.
func failuresOf(ctx context.Context, c *client.Client, job *tallymanv1.Job) ([]*tallymanv1.FailureGroup, error) {
	if !hasBatches(job, tallymanv1.BatchState_BATCH_STATE_FAILED, tallymanv1.BatchState_BATCH_STATE_CRASHED) {
		return nil, nil
	}
	window := min(time.Since(job.GetSubmittedAt().AsTime())+time.Minute, maxWindow)
	statistics, err := c.Statistics(ctx, &tallymanv1.GetStatisticsRequest{
		JobId: job.GetJobId(), Window: durationpb.New(max(window, time.Minute)),
	})
	return statistics.GetFailures(), err
}

// maxWindow is the longest that statistics look back.
const maxWindow = 366 * 24 * time.Hour

// exitWith returns the error that ends the program with a code and says nothing more; nil for success.
func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}
