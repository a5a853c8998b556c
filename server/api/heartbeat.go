package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

type heartbeatStream = grpc.BidiStreamingServer[pb.HeartbeatRequest, pb.HeartbeatResponse]

// breakWait bounds noting in the database that a stream broke. If it fails, the leases end by their own time.
const breakWait = 10 * time.Second

func (s *workerService) Heartbeat(stream heartbeatStream) error {
	ctx, done := s.draining(stream.Context())
	defer done()
	first, err := recv(ctx, stream.Recv)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	session := first.GetSessionId()
	epoch, err := s.cfg.Store.OpenStream(ctx, session)
	if err != nil {
		return asSession(err)
	}
	b := s.beating.open(session, epoch)
	defer s.beating.close(session, b)
	// Asked after it was opened, so that whoever drains it either finds the stream or is found.
	w, err := s.cfg.Store.GetSession(ctx, session)
	if err != nil {
		return asSession(err)
	}
	b.drain.Store(!w.DrainedAt.IsZero())
	b.trouble = w.Trouble
	err = s.beat(ctx, stream, session, b, first)
	if errors.Is(err, errBroken) && s.drain.Err() == nil && !b.left.Load() {
		s.broken(stream.Context(), session, epoch)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// errBroken says that it was the worker's side that ended its stream, or the network in between.
var errBroken = errors.New("the heartbeat stream broke")

func brokenBy(err error) error { return fmt.Errorf("%w: %w", errBroken, err) }

// broken notes that the worker's side ended its stream. The coordinator's own end, or its database's, shortens nothing, nor
// does a connection that this side gave up; but for telling the network's doing from workers', that is a break, too. When
// many break within one grace it is the network, and nobody is accused. What is noted of the others is looked at
// after this break is: so whichever is noted last excuses all of them. Leases outlive the grace by a little, so that this is
// done when the first of them end.
func (s *workerService) broken(parent context.Context, session, epoch int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), breakWait)
	defer cancel()
	s.beating.broke(store.Stream{SessionID: session, Epoch: epoch}, s.cfg.Grace)
	if grace := s.cfg.Grace + min(s.cfg.Grace/10, graceMargin); !silent(parent) {
		if err := s.cfg.Store.BreakStream(ctx, session, epoch, grace); err != nil {
			s.cfg.Logger.Warn("note broken heartbeat stream", "session_id", session, "error", err)
			return
		}
		s.cfg.Dispatcher.Ledger().Shorten(session, grace)
	}
	excused := s.beating.excused()
	if len(excused) == 0 {
		return
	}
	if err := s.cfg.Store.ExcuseStreams(ctx, excused); err != nil {
		s.cfg.Logger.Warn("excuse broken heartbeat streams", "streams", len(excused), "error", err)
		return
	}
	s.cfg.Logger.Warn("many heartbeat streams broke at once: it is taken for the network, and no worker for dead",
		"streams", len(excused), "grace", s.cfg.Grace)
}

// graceMargin is the most by which the leases of a broken stream outlive the grace.
const graceMargin = 500 * time.Millisecond

// beat answers the beats of a stream until it ends: with nil when a newer stream took its place, and with errBroken and
// io.EOF when the worker closed it.
func (s *workerService) beat(
	ctx context.Context, stream heartbeatStream, session int64, b *beatStream, first *pb.HeartbeatRequest,
) error {
	beats := make(chan *pb.HeartbeatRequest, 1)
	var ended error // why beats was closed
	beats <- first
	// The goroutine ends with the stream, which is when the call returns.
	go func() {
		defer close(beats)
		for {
			var m *pb.HeartbeatRequest
			if m, ended = stream.Recv(); ended != nil {
				return
			}
			select {
			case beats <- m:
			case <-ctx.Done():
				ended = context.Cause(ctx)
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			if s.drain.Err() != nil {
				return errDraining
			}
			if errors.Is(context.Cause(ctx), errGone) { // nobody has died
				return errGone
			}
			return brokenBy(context.Cause(ctx))
		case <-b.over:
			return nil
		case push := <-b.push:
			if err := stream.Send(push); err != nil {
				return brokenBy(err)
			}
		case m, open := <-beats:
			if !open && ctx.Err() != nil {
				beats = nil // which of them ended it is decided in one place
				continue
			}
			if !open { // every beat before the end has been answered
				return brokenBy(ended)
			}
			answer, err := s.answer(ctx, session, b, m)
			if err != nil && ctx.Err() != nil {
				continue // which of them ended it is decided in one place
			}
			if err != nil {
				return err
			}
			if err := stream.Send(answer); err != nil {
				return brokenBy(err)
			}
		}
	}
}

func (s *workerService) answer(
	ctx context.Context, session int64, b *beatStream, m *pb.HeartbeatRequest,
) (*pb.HeartbeatResponse, error) {
	if m.GetSessionId() != session {
		return nil, invalid("session_id", "must be %d in every beat of this stream", session)
	}
	beats, standings := make([]store.Beat, len(m.GetLeases())), make([]dispatch.Standing, len(m.GetLeases()))
	for i, l := range m.GetLeases() {
		results, err := fromResults(l.GetResults())
		if err != nil {
			return nil, err
		}
		standings[i] = dispatch.Standing{Finished: l.GetFinishedItems(), Opaque: l.GetOpaque()}
		beats[i] = store.Beat{
			Lease: job.Lease{BatchID: l.GetBatchId(), Attempt: l.GetAttempt(), SessionID: session},
			From:  l.GetFromItem(), Outcomes: fromRuns(l.GetOutcomes()), Findings: fromFindings(l.GetBatchId(), l.GetFindings()),
			Results: results,
			Waiting: l.GetFinishedItems() < 0,
		}
	}
	answers, err := s.cfg.Dispatcher.Beat(ctx, session, beats, standings)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, err
	}
	s.noteTrouble(ctx, session, b, m.GetTrouble())
	resp := &pb.HeartbeatResponse{
		Sequence: m.GetSequence(), NextInterval: durationpb.New(s.nextInterval()), Drain: b.drain.Load(),
	}
	for i, l := range m.GetLeases() {
		a := &pb.LeaseAnswer{BatchId: l.GetBatchId(), Attempt: l.GetAttempt(), Verdict: pb.LeaseVerdict_LEASE_VERDICT_CONTINUE}
		switch {
		case err != nil || answers[i].Unknown:
			// With the database away nobody's lease is known to be lost, and nobody is accused.
			a.Verdict = pb.LeaseVerdict_LEASE_VERDICT_UNKNOWN
			a.AcknowledgedItems = l.GetFromItem()
		case answers[i].Lost:
			a.Verdict = pb.LeaseVerdict_LEASE_VERDICT_LOST
		default:
			a.AcknowledgedItems = answers[i].Acknowledged
			switch {
			case answers[i].Cancelled:
				a.Verdict = pb.LeaseVerdict_LEASE_VERDICT_CANCEL
			case answers[i].Paused:
				a.Verdict = pb.LeaseVerdict_LEASE_VERDICT_RELEASE
			}
		}
		resp.Leases = append(resp.Leases, a)
	}
	return resp, nil
}

// noteTrouble notes what keeps a worker from working when that has changed. What cannot be noted is with the next beat.
func (s *workerService) noteTrouble(ctx context.Context, session int64, b *beatStream, trouble string) {
	if trouble == b.trouble {
		return
	}
	if err := s.cfg.Store.NoteTrouble(ctx, session, trouble); err != nil {
		return
	}
	b.trouble = trouble
	if trouble != "" {
		s.cfg.Logger.WarnContext(ctx, "worker lacks what it needs", "session_id", session, "reason", trouble)
	} else {
		s.cfg.Logger.WarnContext(ctx, "worker has again what it needs", "session_id", session)
	}
}

// nextInterval is the time between beats, give or take a tenth, so that workers that started together do not go on so.
func (s *workerService) nextInterval() time.Duration {
	i := s.cfg.Dispatcher.Interval()
	return i*9/10 + rand.N(i/5+1)
}
