package api

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
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
	batches, err := s.leaves(ctx, r.GetBatchIds())
	if err != nil {
		return nil, err
	}
	j, err := s.cfg.Store.RetryJob(ctx, r.GetJobId(), store.Retry{
		RequestID: r.GetRequestId(), States: fromBatchStates(r.GetStates()), Batches: batches,
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

// leaves returns batches, with the parts of those that were split instead of them: these have the items.
func (s *jobService) leaves(ctx context.Context, ids []int64) ([]int64, error) {
	var leaves []int64
	for _, id := range ids {
		b, _, err := s.cfg.Store.GetBatch(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err != nil || b.State != job.BatchSplit {
			leaves = append(leaves, id)
			continue
		}
		family, err := s.family(ctx, &b)
		if err != nil {
			return nil, err
		}
		below := map[int64]bool{id: true}
		for _, x := range family { // parents come before their parts
			if below[x.ParentID] {
				below[x.ID] = true
				leaves = append(leaves, x.ID)
			}
		}
	}
	return leaves, nil
}
