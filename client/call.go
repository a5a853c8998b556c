package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
)

// call does a unary call until it is answered.
func call[Request, Response any](
	ctx context.Context, c *Client, operation string,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error), request *Request,
) (*Response, error) {
	retry := c.newRetry(operation)
	for {
		response, err := once(ctx, c, method, request)
		if err == nil {
			c.reached.Store(true)
			return response, nil
		}
		if err := retry.after(ctx, err); err != nil {
			return nil, err
		}
	}
}

func once[Request, Response any](
	ctx context.Context, c *Client,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error), request *Request,
) (*Response, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, c.config.CallTimeout, errNoAnswer)
	defer cancel()
	response, err := method(bounded, request, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return nil, blame(bounded, passed(ctx, bounded, err))
	}
	return response, nil
}

// errNoAnswer is the cause of contexts that end because the coordinator is silent, not because the caller wants it.
var errNoAnswer = errors.New("no answer in time")

// passed returns the error of a call whose own bound has passed as that of silence also when the coordinator, which
// knows the bound too, was the first to say so.
func passed(caller, bounded context.Context, err error) error {
	bound, _ := bounded.Deadline()
	deadline, has := caller.Deadline()
	if status.Code(err) == codes.DeadlineExceeded && caller.Err() == nil && (!has || bound.Before(deadline)) {
		return status.Error(codes.Unavailable, errNoAnswer.Error())
	}
	return err
}

// blame turns the end of a context because of errNoAnswer into what it means, and keeps every other error.
func blame(bounded context.Context, err error) error {
	code := status.Code(err)
	if (code == codes.DeadlineExceeded || code == codes.Canceled) && errors.Is(context.Cause(bounded), errNoAnswer) {
		return status.Error(codes.Unavailable, errNoAnswer.Error())
	}
	return err
}

// retry paces the repetitions of one operation.
type retry struct {
	client    *Client
	operation string
	since     time.Time // of the first failure without progress after it; zero when there is none
	pause     time.Duration
}

func (c *Client) newRetry(operation string) *retry { return &retry{client: c, operation: operation} }

// progressed forgets the failures so far.
func (r *retry) progressed() {
	r.client.reached.Store(true)
	r.since = time.Time{}
}

// after waits until the operation may be tried again, or returns the error that it ends with.
func (r *retry) after(ctx context.Context, err error) error {
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
	now := time.Now()
	if r.since.IsZero() {
		r.since, r.pause = now, firstPause
	}
	left := r.client.config.RetryFor - now.Sub(r.since)
	if left <= 0 {
		failure.TriedFor = now.Sub(r.since)
		return failure
	}
	// Half of the pause is jitter, so that clients which were cut off together do not return together.
	timer := time.NewTimer(min(left, r.pause/2+rand.N(r.pause/2)))
	defer timer.Stop()
	r.pause = min(2*r.pause, longPause)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", r.operation, context.Cause(ctx))
	}
}
