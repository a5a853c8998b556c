package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tallyman-dev/tallyman/internal/retry"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Pause stops the claiming of a job's batches, has those that run given back, and returns the job as it is right after.
// JOB_NOT_FOUND, JOB_STOPPED.
func (c *Client) Pause(ctx context.Context, jobID int64) (*tallymanv1.Job, error) {
	response, err := call(ctx, c, fmt.Sprintf("pause job %d", jobID), c.jobs.PauseJob,
		&tallymanv1.PauseJobRequest{JobId: jobID})
	return response.GetJob(), err
}

// Resume lets a paused job go on and returns it as it is right after. JOB_NOT_FOUND, JOB_STOPPED.
func (c *Client) Resume(ctx context.Context, jobID int64) (*tallymanv1.Job, error) {
	response, err := call(ctx, c, fmt.Sprintf("resume job %d", jobID), c.jobs.ResumeJob,
		&tallymanv1.ResumeJobRequest{JobId: jobID})
	return response.GetJob(), err
}

// Retry begins a job's next run and returns it as it is right after; Watch tells when it has ended. The request's id makes
// it one retry, however often it is sent: a request that is made again needs a new one. JOB_NOT_FOUND, JOB_OPEN,
// NOTHING_TO_RETRY.
func (c *Client) Retry(ctx context.Context, request *tallymanv1.RetryJobRequest) (*tallymanv1.Job, error) {
	response, err := call(ctx, c, fmt.Sprintf("retry job %d", request.GetJobId()), c.jobs.RetryJob, request)
	return response.GetJob(), err
}

// Items returns the items of a job with some outcomes as they were uploaded, in the order of the upload, from the one
// after the request's after_item on. A cut connection is made anew, and the items go on where they were. An error is the
// last thing returned. The request is not changed. JOB_NOT_FOUND.
func (c *Client) Items(ctx context.Context, request *tallymanv1.ExportItemsRequest) iter.Seq2[*tallymanv1.ExportedItem, error] {
	return func(yield func(*tallymanv1.ExportedItem, error) bool) {
		again := c.repeat(fmt.Sprintf("export items of job %d", request.GetJobId()))
		next := proto.CloneOf(request)
		for {
			done, err := c.items(ctx, next, again, yield)
			if done {
				return
			}
			if err := again.after(ctx, err); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// items yields the items of one stream and notes in the request how far it came. done says that there are no more, or
// that nobody wants them.
func (c *Client) items(
	ctx context.Context, next *tallymanv1.ExportItemsRequest, again *repetition, yield func(*tallymanv1.ExportedItem, error) bool,
) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(exportSilence, func() { cancel(retry.ErrSilent) })
	defer watchdog.Stop()
	// A single item may be as large as the coordinator's limit.
	stream, err := c.jobs.ExportItems(ctx, next, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return false, retry.Blame(ctx, err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, retry.Blame(ctx, err)
		}
		again.progressed()
		watchdog.Stop() // the caller may take its time
		for _, it := range response.GetItems() {
			next.AfterItem = it.GetItem()
			if !yield(it, nil) {
				return true, nil
			}
		}
		watchdog.Reset(exportSilence)
	}
}

// exportSilence is how long an export may be without a message: few items among very many are looked for in silence.
const exportSilence = 5 * time.Minute
