package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/retry"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// call does a unary call until it is answered.
func call[Request, Response any](
	ctx context.Context, c *Client, operation string,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error), request *Request,
) (*Response, error) {
	again := c.repeat(operation)
	for {
		response, err := once(ctx, c, method, request)
		if err == nil {
			c.reached.Store(true)
			return response, nil
		}
		if tallymanv1.ReasonOf(err) == tallymanv1.ErrorReason_ERROR_REASON_DATABASE_FULL {
			c.reached.Store(true)
			return nil, newError(operation, c.config.Address, err) // nobody makes room while somebody waits for an answer
		}
		if err := again.after(ctx, err); err != nil {
			return nil, err
		}
	}
}

func once[Request, Response any](
	ctx context.Context, c *Client,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error), request *Request,
) (*Response, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, c.config.CallTimeout, retry.ErrSilent)
	defer cancel()
	response, err := method(bounded, request, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return nil, retry.Blame(bounded, passed(ctx, bounded, err))
	}
	return response, nil
}

// passed returns the error of a call whose own bound has passed as that of silence also when the coordinator, which
// knows the bound too, was the first to say so.
func passed(caller, bounded context.Context, err error) error {
	bound, _ := bounded.Deadline()
	deadline, has := caller.Deadline()
	if status.Code(err) == codes.DeadlineExceeded && caller.Err() == nil && (!has || bound.Before(deadline)) {
		return retry.ErrSilent
	}
	return err
}

// longPause is the longest between two tries.
const longPause = 5 * time.Second

// repetition is one operation that is repeated until it succeeds.
type repetition struct {
	client    *Client
	operation string
	pacer     retry.Pacer
}

func (c *Client) repeat(operation string) *repetition {
	return &repetition{client: c, operation: operation, pacer: retry.Pacer{Longest: longPause}}
}

// answered notes that a try was answered, although it has not got anywhere yet.
func (r *repetition) answered() {
	r.client.reached.Store(true)
	r.pacer.Answered()
}

// progressed forgets the failures so far.
func (r *repetition) progressed() {
	r.client.reached.Store(true)
	r.pacer.Progressed()
}

// after waits until the operation may be tried again, or returns the error that it ends with.
func (r *repetition) after(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", r.operation, context.Cause(ctx))
	}
	failure := newError(r.operation, r.client.config.Address, err)
	if failure.answered() {
		r.client.reached.Store(true)
	}
	if !failure.temporary() || !r.client.reached.Load() {
		return failure
	}
	failing := r.pacer.Failed()
	left := r.client.config.RetryFor - failing
	if left <= 0 {
		failure.TriedFor = failing
		return failure
	}
	if !r.pacer.Wait(ctx, left) {
		return fmt.Errorf("%s: %w", r.operation, context.Cause(ctx))
	}
	return nil
}
