package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/retry"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// silence is how long a watch may be without a message; the coordinator gives a sign of life every 15 s.
const silence = 45 * time.Second

// Watch returns the snapshots of a job: the current one at once, then each change as it is told, each of a higher
// revision than the one before. What changes while the caller is busy is merged. It ends after the snapshot of a job
// that has ended, or with an error, which is the last thing returned: the context's, or JOB_NOT_FOUND, also when the
// job is deleted meanwhile. A cut connection is made anew.
func (c *Client) Watch(ctx context.Context, jobID int64) iter.Seq2[*tallymanv1.Job, error] {
	return func(yield func(*tallymanv1.Job, error) bool) {
		w := &watcher{client: c, again: c.repeat(fmt.Sprintf("watch job %d", jobID)), jobID: jobID}
		for !w.done {
			err := w.stream(ctx, yield)
			if w.done {
				return
			}
			if err := w.again.after(ctx, err); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// Ended reports whether a job is in a state that nothing leaves.
func Ended(state tallymanv1.JobState) bool {
	switch state {
	case tallymanv1.JobState_JOB_STATE_SUCCEEDED, tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS,
		tallymanv1.JobState_JOB_STATE_FAILED, tallymanv1.JobState_JOB_STATE_CANCELLED:
		return true
	default:
		return false
	}
}

type watcher struct {
	client   *Client
	again    *repetition
	jobID    int64
	revision int64 // of the last snapshot that was yielded
	done     bool  // the job has ended, or nobody wants more
}

// stream yields the snapshots of one stream and returns what ended it.
func (w *watcher) stream(ctx context.Context, yield func(*tallymanv1.Job, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(retry.ErrSilent) })
	defer watchdog.Stop()
	stream, err := w.client.jobs.WatchJob(ctx,
		&tallymanv1.WatchJobRequest{JobId: w.jobID, AfterRevision: w.revision}, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return retry.Blame(ctx, err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Unavailable, "the watch ended before the job")
		}
		if err != nil {
			return retry.Blame(ctx, err)
		}
		w.again.progressed()
		watchdog.Stop() // the caller may take its time
		if job := response.GetJob(); job != nil && job.GetRevision() > w.revision {
			w.revision = job.GetRevision()
			if !yield(job, nil) || Ended(job.GetState()) {
				w.done = true
				return nil
			}
		}
		watchdog.Reset(silence)
	}
}
