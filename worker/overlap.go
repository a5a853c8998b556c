package worker

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/retry"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Overlaps reports whether another job had not ended when this batch's job was submitted, so that items of both may be
// handled at the same time. It asks the coordinator, for as long as it takes; its error is the cause of ctx, or one that
// makes the batch fail. A job that is not known any more had ended.
func (b *Batch) Overlaps(ctx context.Context, job int64) (bool, error) {
	if b.remote != nil {
		return b.remote.Overlaps(ctx, job)
	}
	if b.job == nil {
		return false, nil
	}
	mine, err := b.job(ctx, b.JobID)
	if err != nil || mine == nil {
		return false, err
	}
	other, err := b.job(ctx, job)
	if err != nil || other == nil {
		return false, err
	}
	return other.GetEndedAt() == nil || other.GetEndedAt().AsTime().After(mine.GetSubmittedAt().AsTime()), nil
}

// job returns what the coordinator knows of a job, nil if it knows none.
func (s *session) job(ctx context.Context, id int64) (*pb.Job, error) {
	again := s.repeat("look up job")
	for {
		bounded, cancel := context.WithTimeoutCause(ctx, registerTimeout, retry.ErrSilent)
		resp, err := s.jobs.GetJob(bounded, &pb.GetJobRequest{JobId: id})
		err = retry.Blame(bounded, err)
		cancel()
		switch {
		case err == nil:
			again.worked()
			return resp.GetJob(), nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case status.Code(err) == codes.NotFound:
			return nil, nil //nolint:nilnil // that there is none is an answer
		}
		if err := final(again.operation, err); err != nil {
			return nil, err
		}
		if errors.Is(err, retry.ErrSilent) {
			s.renew()
		}
		if !again.failed(ctx, err) {
			return nil, context.Cause(ctx)
		}
	}
}
