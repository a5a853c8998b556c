package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/store"
)

// apiError is an error with its place in the protocol. What is not one is mapped by rewrite.
type apiError struct {
	code     codes.Code
	reason   pb.ErrorReason
	message  string
	metadata map[string]string
	details  []protoadapt.MessageV1
}

func (e *apiError) Error() string { return e.message }

func fail(code codes.Code, reason pb.ErrorReason, format string, args ...any) *apiError {
	return &apiError{code: code, reason: reason, message: fmt.Sprintf(format, args...)}
}

func jobNotFound(id int64) *apiError {
	return fail(codes.NotFound, pb.ErrorReason_ERROR_REASON_JOB_NOT_FOUND, "there is no job %d", id)
}

func batchNotFound(id int64) *apiError {
	return fail(codes.NotFound, pb.ErrorReason_ERROR_REASON_BATCH_NOT_FOUND, "there is no batch %d", id)
}

func uploadNotFound(id string) *apiError {
	return fail(codes.NotFound, pb.ErrorReason_ERROR_REASON_UPLOAD_NOT_FOUND, "there is no upload %q", id)
}

func invalid(field, format string, args ...any) error {
	description := fmt.Sprintf(format, args...)
	return &pb.ValidationError{Violations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}}}
}

func shuttingDown() *apiError {
	return fail(codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
		"the coordinator is shutting down; repeat the call")
}

// panicked is what recovery makes of a panic.
type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// violationsShown bounds the violations in a status.
const violationsShown = 20

// rewrite maps any error of a handler to the status that the client gets. It is the only place where that is decided,
// and where an unexpected error is logged.
func rewrite(ctx context.Context, logger *slog.Logger, method string, err error) error {
	if err == nil {
		return nil
	}
	var (
		api     *apiError
		bad     *pb.ValidationError
		crashed *panicked
	)
	switch {
	case errors.As(err, &api):
	case errors.As(err, &bad):
		// A request of thousands of parts may be wrong in each; a status is sent as a header, which is bounded.
		shown := &pb.ValidationError{Violations: bad.Violations[:min(len(bad.Violations), violationsShown)]}
		api = fail(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "%v", shown)
		api.details = append(api.details, &errdetails.BadRequest{FieldViolations: shown.Violations})
	case errors.Is(err, dispatch.ErrStopped), errors.Is(err, errDraining):
		api = shuttingDown()
	case errors.Is(err, store.ErrUnavailable):
		logger.WarnContext(ctx, "database unavailable", "method", method, "error", err)
		api = fail(codes.Unavailable, pb.ErrorReason_ERROR_REASON_DATABASE_UNAVAILABLE,
			"the coordinator cannot reach its database at the moment; repeat the call")
	case errors.Is(err, store.ErrFull):
		logger.ErrorContext(ctx, "database has no space left", "method", method, "error", err)
		api = fail(codes.Unavailable, pb.ErrorReason_ERROR_REASON_DATABASE_FULL,
			"the coordinator's database has no space left, and nothing can be changed in it; make room on its disk, then repeat the call")
	case errors.Is(err, store.ErrSessionEnded):
		api = fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SESSION_ENDED,
			"the session has ended; the worker process should exit")
	case errors.Is(err, store.ErrWorkerTaken):
		api = fail(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_WORKER_ID_TAKEN,
			"a live worker of somebody else has this worker id; choose another one")
	case errors.Is(err, store.ErrUploadFenced):
		api = fail(codes.Aborted, pb.ErrorReason_ERROR_REASON_UPLOAD_FENCED, "the upload was opened again by a newer stream")
	case errors.Is(err, store.ErrUploadMismatch):
		api = fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_UPLOAD_MISMATCH,
			"this upload_id belongs to an upload with another project, kind or mode; choose a new one")
	case errors.Is(err, store.ErrJobOpen):
		api = fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_JOB_OPEN, "the job has not ended; cancel it first")
	case errors.Is(err, store.ErrJobStopped):
		api = fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_JOB_STOPPED, "the job is being stopped or has ended")
	case errors.Is(err, store.ErrNothingToRetry):
		api = fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOTHING_TO_RETRY,
			"there is no batch to retry: none that failed, crashed or was cancelled, or none of those that were asked for")
	case errors.Is(err, context.Canceled) && ctx.Err() == nil:
		// The caller is still there, so what was cancelled was cancelled by this coordinator, which stops.
		api = shuttingDown()
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the call's deadline passed")
	case errors.As(err, &crashed):
		logger.ErrorContext(ctx, "handler panicked", "method", method, "panic", crashed.value, "stack", crashed.stack)
	default:
		// A status is what gRPC itself made, of a broken stream for example.
		if _, ok := status.FromError(err); ok {
			return err
		}
		logger.ErrorContext(ctx, "request failed", "method", method, "error", err)
	}
	if api == nil {
		api = fail(codes.Internal, pb.ErrorReason_ERROR_REASON_INTERNAL, "internal error; the coordinator's log says more")
	}
	return api.status().Err()
}

func (e *apiError) status() *status.Status {
	s := status.New(e.code, e.message)
	with, err := s.WithDetails(append([]protoadapt.MessageV1{e.reason.Info(e.metadata)}, e.details...)...)
	if err != nil {
		return s
	}
	return with
}
