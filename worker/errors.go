package worker

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Why the context of a handler ended, to be asked for by errors.Is(context.Cause(ctx), …).
var (
	// ErrLeaseLost means that the batch is not this attempt's any more. Nothing it still does counts.
	ErrLeaseLost = errors.New("the lease is lost")
	// ErrJobCancelled means that the job is being stopped. What was reported counts.
	ErrJobCancelled = errors.New("the job is being stopped")
	// ErrJobPaused means that the job is paused. What was reported counts; the rest is given back.
	ErrJobPaused = errors.New("the job is paused")
	// ErrDraining means that the worker is shutting down. What was reported counts; the rest is given back.
	ErrDraining = errors.New("the worker is shutting down")
)

// interrupted reports whether the context of a handler has ended for one of these reasons.
func interrupted(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrLeaseLost) || errors.Is(cause, ErrJobCancelled) ||
		errors.Is(cause, ErrJobPaused) || errors.Is(cause, ErrDraining)
}

// ErrSessionEnded is returned by Run when the coordinator has ended the session: the worker's id was registered by
// another process, or nothing was heard of this one for too long. The process should exit, not register again.
var ErrSessionEnded = errors.New("the coordinator has ended this worker's session")

// permanentError marks a failure that no other attempt would mend.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks an error of Handle: the batch is not tried again, and what was not reported of it ends as failed.
// Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether an error is marked by Permanent.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanentError](err)
	return ok
}

// unavailableError marks a failure that is nobody's fault.
type unavailableError struct{ err error }

func (e *unavailableError) Error() string { return e.err.Error() }
func (e *unavailableError) Unwrap() error { return e.err }

// Unavailable marks an error of Handle that says nothing about the batch: what the handler needs, such as a database,
// does not answer or is full. What was reported counts, the rest is given back without being counted as an attempt that
// failed, and this worker claims nothing for a while, which grows from a second to a minute for as long as this goes on.
// Unavailable(nil) is nil.
func Unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &unavailableError{err}
}

// IsUnavailable reports whether an error is marked by Unavailable.
func IsUnavailable(err error) bool {
	_, ok := errors.AsType[*unavailableError](err)
	return ok
}

// passing reports whether the way to the coordinator, or its load, made a call fail: it says nothing about the call.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.ResourceExhausted:
		return true
	default:
		return false
	}
}

// final returns the error with which a worker ends because a call will never succeed, or nil if it may.
func final(operation string, err error) error {
	code := status.Code(err)
	switch {
	case passing(err):
		return nil
	case code == codes.Internal, code == codes.Unknown, code == codes.DataLoss:
		return nil // a defect of the coordinator, which may be mended while this worker waits
	case pb.ReasonOf(err) == pb.ErrorReason_ERROR_REASON_SESSION_ENDED:
		return fmt.Errorf("%s: %w", operation, ErrSessionEnded)
	default:
		return fmt.Errorf("%s: %w", operation, err)
	}
}
