package client

import (
	"context"
	"fmt"

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
