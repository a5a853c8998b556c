package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

type adminService struct {
	pb.UnsafeAdminServiceServer
	*Services
}

var _ pb.AdminServiceServer = (*adminService)(nil)

func (s *adminService) GetStatistics(ctx context.Context, r *pb.GetStatisticsRequest) (*pb.GetStatisticsResponse, error) {
	window := r.GetWindow().AsDuration()
	if window == 0 {
		window = time.Hour
	}
	st, err := s.cfg.Store.GetStatistics(ctx, store.StatisticsFilter{
		Window: window, JobID: r.GetJobId(), Project: r.GetProject(),
	})
	if err != nil {
		return nil, asJob(r.GetJobId(), err)
	}
	resp := &pb.GetStatisticsResponse{
		BatchesByState: toBatchCounts(st.Ended[:]), BatchesCrashed: st.Crashed,
		DurationMean: durationpb.New(st.Durations.Mean()),
		DurationP50:  durationpb.New(st.Durations.Quantile(0.5)),
		DurationP99:  durationpb.New(st.Durations.Quantile(0.99)),
		Slowest:      toBatches(st.Slowest),
	}
	for _, n := range st.Ended {
		resp.Batches += n
	}
	if resp.Batches > 0 {
		resp.CrashRate = float64(resp.BatchesCrashed) / float64(resp.Batches)
	}
	for _, f := range st.Failures {
		resp.Failures = append(resp.Failures, &pb.FailureGroup{
			Message: f.Message, End: attemptEnds[f.Kind], Attempts: f.Count, ExampleBatchId: f.Example,
			LastAt: timestamp(f.LastAt),
		})
	}
	return resp, nil
}

func (s *adminService) ListWorkers(ctx context.Context, r *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
	const list = "workers"
	p, err := page(list, r.GetPageSize(), 100, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	sessions, err := s.cfg.Store.ListSessions(ctx, r.GetIncludeEnded(), p)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListWorkersResponse{}
	for i := range sessions {
		resp.Workers = append(resp.Workers, toWorker(&sessions[i]))
		resp.NextPageToken = nextPage(list, p, len(sessions), sessions[i].ID)
	}
	return resp, nil
}
