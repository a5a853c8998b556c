package api

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (s *jobService) PauseJob(ctx context.Context, r *pb.PauseJobRequest) (*pb.PauseJobResponse, error) {
	j, err := s.cfg.Store.PauseJob(ctx, r.GetJobId())
	if err != nil {
		return nil, asJob(r.GetJobId(), err)
	}
	s.cfg.Events.Paused(j.ID)
	s.cfg.Hub.Publish(ctx, j)
	return &pb.PauseJobResponse{Job: toJob(&j)}, nil
}

func (s *jobService) ResumeJob(ctx context.Context, r *pb.ResumeJobRequest) (*pb.ResumeJobResponse, error) {
	j, err := s.cfg.Store.ResumeJob(ctx, r.GetJobId())
	if err != nil {
		return nil, asJob(r.GetJobId(), err)
	}
	s.cfg.Events.Resumed(j.ID)
	s.cfg.Hub.Publish(ctx, j)
	return &pb.ResumeJobResponse{Job: toJob(&j)}, nil
}

func (s *jobService) RetryJob(ctx context.Context, r *pb.RetryJobRequest) (*pb.RetryJobResponse, error) {
	j, err := s.cfg.Store.RetryJob(ctx, r.GetJobId(), store.Retry{
		RequestID: r.GetRequestId(), States: fromBatchStates(r.GetStates()), Batches: r.GetBatchIds(),
	})
	if errors.Is(err, store.ErrJobOpen) {
		err = fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_JOB_OPEN,
			"the job is being stopped; retry it when it has ended")
	}
	if err != nil {
		return nil, asJob(r.GetJobId(), err)
	}
	s.cfg.Events.Retried(j.ID)
	s.cfg.Hub.Publish(ctx, j)
	return &pb.RetryJobResponse{Job: toJob(&j)}, nil
}
