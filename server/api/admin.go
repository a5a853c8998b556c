package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
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
	if r.GetJobId() != 0 {
		if _, err := s.cfg.Store.GetJob(ctx, r.GetJobId()); err != nil {
			return nil, asJob(r.GetJobId(), err)
		}
	}
	var st store.Statistics
	var err error
	if who := access.By(ctx); r.GetProject() == "" || who.Sees(r.GetProject()) {
		st, err = s.cfg.Store.GetStatistics(ctx, store.StatisticsFilter{
			Window: window, JobID: r.GetJobId(), Project: r.GetProject(), Projects: who.Projects,
		})
	}
	if err != nil {
		return nil, err
	}
	resp := &pb.GetStatisticsResponse{
		BatchesByState: toBatchCounts(st.Ended[:]), BatchesCrashed: st.Crashed,
		DurationMean: durationpb.New(st.Durations.Mean()),
		DurationP50:  durationpb.New(st.Durations.Quantile(0.5)),
		DurationP99:  durationpb.New(st.Durations.Quantile(0.99)),
		Slowest:      toBatches(st.Slowest), CrashRate: st.CrashRate(),
	}
	for _, n := range st.Ended {
		resp.Batches += n
	}
	for _, f := range st.Failures {
		resp.Failures = append(resp.Failures, &pb.FailureGroup{
			Message: f.Message, End: attemptEnds[f.Kind], Attempts: f.Count, ExampleBatchId: f.Example,
			LastAt: timestamp(f.LastAt),
		})
	}
	for _, g := range st.Crashes {
		resp.Crashes = append(resp.Crashes, &pb.CrashGroup{
			Fingerprint: g.Fingerprint, Signal: g.Signal, ExitCode: g.ExitCode, Attempts: g.Count, Batches: g.Batches,
			ExampleBatchId: g.Example, LastAt: timestamp(g.LastAt), StderrLine: g.Stderr,
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
		resp.Workers = append(resp.Workers, s.worker(&sessions[i]))
		resp.NextPageToken = nextPage(list, p, len(sessions), sessions[i].ID, 0)
	}
	return resp, nil
}

// worker says of a session whether it is silent, too. A beat is noted a little after it came.
func (s *adminService) worker(w *store.Session) *pb.Worker {
	out := toWorker(w)
	out.Silent = w.EndedAt.IsZero() && time.Since(w.BeatAt) > s.cfg.Dispatcher.Lease()+s.cfg.Dispatcher.Interval()
	return out
}

// Bounds of what is shown of a worker.
const (
	heldShown     = 100
	attemptsShown = 20
)

func (s *adminService) GetWorker(ctx context.Context, r *pb.GetWorkerRequest) (*pb.GetWorkerResponse, error) {
	w, err := s.cfg.Store.GetWorker(ctx, r.GetWorkerId(), heldShown, attemptsShown)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fail(codes.NotFound, pb.ErrorReason_ERROR_REASON_WORKER_NOT_FOUND, "there is no worker %s", r.GetWorkerId())
	}
	if err != nil {
		return nil, err
	}
	if w.Held, err = s.seen(ctx, w.Held); err != nil {
		return nil, err
	}
	if w.Attempts, err = s.seenAttempts(ctx, w.Attempts); err != nil {
		return nil, err
	}
	return &pb.GetWorkerResponse{Worker: s.worker(&w.Session), Batches: toBatches(w.Held), Attempts: toAttempts(w.Attempts)}, nil
}

func (s *adminService) DrainWorker(ctx context.Context, r *pb.DrainWorkerRequest) (*pb.DrainWorkerResponse, error) {
	w, err := s.cfg.Store.DrainSession(ctx, r.GetWorkerId())
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrSessionEnded) {
		return nil, fail(codes.NotFound, pb.ErrorReason_ERROR_REASON_WORKER_NOT_FOUND,
			"there is no worker %q, or its session has ended", r.GetWorkerId())
	}
	if err != nil {
		return nil, err
	}
	s.cfg.Logger.InfoContext(ctx, "worker is drained", "worker_id", w.WorkerID, "session_id", w.ID)
	s.cfg.Events.Draining([]int64{w.ID})
	return &pb.DrainWorkerResponse{Worker: s.worker(&w)}, nil
}
