package api

import (
	"context"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
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
