package api

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

type workerService struct {
	pb.UnsafeWorkerServiceServer
	*Services
}

var _ pb.WorkerServiceServer = (*workerService)(nil)

// asSession: a session that is not there, or not any more, has ended.
func asSession(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return store.ErrSessionEnded
	}
	return err
}

func (s *workerService) RegisterWorker(ctx context.Context, r *pb.RegisterWorkerRequest) (*pb.RegisterWorkerResponse, error) {
	cluster, err := s.clusterID(ctx)
	if err != nil {
		return nil, err
	}
	w := store.Session{
		WorkerID: r.GetWorkerId(), Owner: access.By(ctx).Key, Host: r.GetHost(), PID: r.GetPid(), Version: r.GetVersion(), Kinds: r.GetKinds(),
		Slots: r.GetSlots(),
	}
	if w.WorkerID == "" {
		w.WorkerID = uuid.NewString()
	}
	id, ended, err := s.cfg.Store.RegisterSession(ctx, w)
	if err != nil {
		return nil, err
	}
	s.kinds.put(id, served{kinds: w.Clean().Kinds, owner: w.Clean().Owner})
	s.cfg.Dispatcher.Returned(ended)
	s.cfg.Logger.InfoContext(ctx, "worker registered", "worker_id", w.WorkerID, "session_id", id, "kinds", w.Kinds,
		"slots", w.Slots, "host", w.Host, "pid", w.PID)
	return &pb.RegisterWorkerResponse{
		SessionId: id, WorkerId: w.WorkerID, HeartbeatInterval: durationpb.New(s.cfg.Dispatcher.Interval()),
		LeaseDuration: durationpb.New(s.cfg.Dispatcher.Lease()), ClusterId: cluster,
	}, nil
}

// ownSession refuses a session that another caller registered, as one that has ended.
func (s *Services) ownSession(ctx context.Context, who access.Identity, session int64) error {
	of, err := s.served(ctx, session)
	if err == nil && of.owner != who.Key {
		return store.ErrSessionEnded
	}
	return err
}

// kindsOf returns the kinds that a session serves, which never change while it lives. Whether it lives is the claim's
// own condition.
func (s *workerService) kindsOf(ctx context.Context, session int64) ([]string, error) {
	of, err := s.served(ctx, session)
	return of.kinds, err
}

// served returns what of a session never changes.
func (s *Services) served(ctx context.Context, session int64) (served, error) {
	if of, ok := s.kinds.get(session); ok {
		return of, nil
	}
	w, err := s.cfg.Store.GetSession(ctx, session)
	if err != nil {
		return served{}, asSession(err)
	}
	of := served{kinds: w.Kinds, owner: w.Owner}
	s.kinds.put(session, of)
	return of, nil
}

// Bounds of a claim's wait: an answer must reach the caller before its deadline, and a caller without one does not
// wait for ever.
const (
	claimMargin = 200 * time.Millisecond
	claimMost   = time.Minute
)

// payloadMost bounds the payloads that ride along with a grant, in bytes.
const payloadMost = 3 << 20

func (s *workerService) ClaimBatches(ctx context.Context, r *pb.ClaimBatchesRequest) (*pb.ClaimBatchesResponse, error) {
	began := time.Now()
	kinds, err := s.kindsOf(ctx, r.GetSessionId())
	if err != nil {
		return nil, err
	}
	wait := claimMost
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)-claimMargin)
	}
	waiting, cancel := context.WithTimeout(ctx, max(wait, 0))
	defer cancel()
	waiting, done := s.draining(waiting)
	defer done()
	request := store.ClaimRequest{SessionID: r.GetSessionId(), RequestID: r.GetRequestId(), Max: int(r.GetMaxBatches())}
	grants, err := s.cfg.Dispatcher.Claim(waiting, request, kinds)
	if err != nil {
		s.kinds.forget(r.GetSessionId())
		return nil, asSession(err)
	}
	granted := time.Now()
	list, err := s.grants(ctx, grants)
	if err != nil {
		return nil, err
	}
	return &pb.ClaimBatchesResponse{Grants: list, Waited: durationpb.New(granted.Sub(began))}, nil
}

// grants returns what a caller is to be told of its grants. They are given back when it cannot be told.
func (s *workerService) grants(ctx context.Context, grants []store.Grant) ([]*pb.Grant, error) {
	list, err := s.describe(ctx, grants)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.giveBack(ctx, grants)
	}
	return list, err
}

func (s *workerService) describe(ctx context.Context, grants []store.Grant) ([]*pb.Grant, error) {
	if len(grants) == 0 {
		return nil, nil
	}
	frames, err := s.frames(ctx, grants)
	if err != nil {
		return nil, err
	}
	list := make([]*pb.Grant, 0, len(grants))
	for _, g := range grants {
		j, err := s.cfg.Dispatcher.Job(ctx, g.JobID, s.cfg.Store.GetJob)
		if err != nil {
			return nil, err
		}
		list = append(list, &pb.Grant{
			BatchId: g.BatchID, Attempt: g.Attempt, JobId: g.JobID, Kind: j.Kind, Project: j.Project, Mode: j.Mode,
			Parameters: j.Parameters, DefaultSourcedb: j.Policy.DefaultSourceDB,
			SourceidFromName: j.Policy.SourceIDFromName, ItemCount: g.ItemCount,
			DoneItems: g.DoneItems, Remaining: durationpb.New(g.Remaining), Payload: frames[g.BatchID],
			FirstItem: g.FirstItem, Ancestors: g.Ancestors, Solo: g.Solo,
		})
	}
	return list, nil
}

// frames returns the payloads that ride along with grants: those that came with them, and as many others as there is room for.
func (s *workerService) frames(ctx context.Context, grants []store.Grant) (map[int64][]byte, error) {
	frames, room := make(map[int64][]byte, len(grants)), int64(payloadMost)
	var missing []int64
	for _, g := range grants {
		switch size := int64(len(g.Frame)); {
		case size == 0:
			missing = append(missing, g.BatchID)
		case size <= room:
			frames[g.BatchID] = g.Frame
			room -= size
		}
	}
	if len(missing) == 0 {
		return frames, nil
	}
	more, err := s.cfg.Store.Payloads(ctx, missing, room)
	maps.Copy(frames, more)
	return frames, err
}

// giveBack releases grants whose caller is gone. If that fails, they are released when beats do not name them.
func (s *workerService) giveBack(parent context.Context, grants []store.Grant) {
	if len(grants) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), breakWait)
	defer cancel()
	ends := make([]store.Settlement, len(grants))
	for i, g := range grants {
		ends[i] = store.Settlement{Lease: g.Lease, End: job.End{
			Kind: job.EndReleased, Message: "the worker was gone before it got the grant", From: g.DoneItems}}
	}
	if _, err := s.cfg.Dispatcher.Settle(ctx, ends); err != nil {
		s.cfg.Logger.Warn("release grants whose caller is gone", "batches", len(ends), "error", err)
	}
}

// readChunk is the size of a piece of a payload.
const readChunk = 256 << 10

func (s *workerService) ReadBatch(r *pb.ReadBatchRequest, stream grpc.ServerStreamingServer[pb.ReadBatchResponse]) error {
	lease := job.Lease{BatchID: r.GetBatchId(), Attempt: r.GetAttempt(), SessionID: r.GetSessionId()}
	frame, err := s.cfg.Store.Frame(stream.Context(), lease)
	if errors.Is(err, store.ErrNotFound) {
		return leaseLost(lease)
	}
	if err != nil {
		return err
	}
	for len(frame) > 0 {
		n := min(len(frame), readChunk)
		if err := stream.Send(&pb.ReadBatchResponse{Data: frame[:n]}); err != nil {
			return err
		}
		frame = frame[n:]
	}
	return nil
}

func leaseLost(l job.Lease) error {
	return fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_LEASE_LOST,
		"attempt %d at batch %d is not session %d's any more", l.Attempt, l.BatchID, l.SessionID)
}

func (s *workerService) DeregisterWorker(
	ctx context.Context, r *pb.DeregisterWorkerRequest,
) (*pb.DeregisterWorkerResponse, error) {
	ended, err := s.cfg.Store.EndSession(ctx, r.GetSessionId(), r.GetReason())
	if err != nil && !errors.Is(err, store.ErrSessionEnded) && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	s.beating.leave(r.GetSessionId())
	s.kinds.forget(r.GetSessionId())
	s.cfg.Dispatcher.Returned(ended)
	s.cfg.Logger.InfoContext(ctx, "worker deregistered", "session_id", r.GetSessionId(), "reason", r.GetReason())
	return &pb.DeregisterWorkerResponse{}, nil
}
