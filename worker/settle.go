package worker

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tallyman-dev/tallyman/internal/retry"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const (
	settleBytes   = 1 << 20 // of a call; a settlement with more is first made smaller by beats
	settleTimeout = 15 * time.Second
	settleTries   = 5 // of a settlement that alone makes the coordinator fail
	maxReason     = 8 << 10
)

// conclude ends the attempt of a lease with what its handler returned, unless that is decided or the lease is lost. The
// lock must be held.
func (s *session) conclude(l *lease, err error) {
	if s.held[l.leaseKey] != l || l.settlement != nil {
		return
	}
	if !time.Now().Before(l.until()) {
		// The clock is about to ring: what the handler returned may come from just that.
		s.part(l)
		return
	}
	if l.progress != nil {
		l.progress.close()
	}
	l.settlement = settlement(l, err)
	s.forward(l)
}

// settlement says how an attempt ended, without outcomes.
func settlement(l *lease, err error) *pb.Settlement {
	m := &pb.Settlement{BatchId: l.batch, Attempt: l.attempt}
	cause := context.Cause(l.ctx)
	switch {
	case err == nil:
		m.End = pb.AttemptEnd_ATTEMPT_END_COMPLETED
		return m
	case errors.Is(cause, ErrJobCancelled):
		m.End = pb.AttemptEnd_ATTEMPT_END_CANCELLED
	case errors.Is(cause, ErrDraining), errors.Is(cause, ErrJobPaused), IsUnavailable(err):
		m.End = pb.AttemptEnd_ATTEMPT_END_RELEASED
	case crashOf(err) != nil:
		m.End = pb.AttemptEnd_ATTEMPT_END_DIED
		m.Crash = crashOf(err).wire(int(l.grant.GetDoneItems()), int(l.grant.GetItemCount()))
	default:
		m.End, m.Retryable = pb.AttemptEnd_ATTEMPT_END_FAILED, !IsPermanent(err)
	}
	m.Message = clean(err.Error(), maxReason)
	return m
}

// forward puts a concluded lease where it is settled from, or leaves it to the beats for as long as it is too large. The
// lock must be held.
func (s *session) forward(l *lease) {
	if l.progress != nil && l.progress.unacknowledged() > settleBytes-maxReason {
		l.stage = flushing
		poke(s.beat)
		return
	}
	l.stage = settling
	l.settlement.FromItem = l.grant.GetDoneItems()
	if l.progress != nil {
		// The coordinator knows a settlement that is repeated by its being the same: it does not change any more.
		e := l.progress.first(settleBytes)
		l.settlement.FromItem, l.settlement.Outcomes = e.from, e.outcomes
		l.settlement.Findings, l.settlement.Results = e.findings, e.results
	}
	s.queue = append(s.queue, l)
	poke(s.settle)
}

// refuse settles a lease as failed, without outcomes, since the coordinator does not take those it has. It is a defect
// of one of the two. The lock must be held.
func (s *session) refuse(l *lease) {
	l.progress, l.refused = nil, 0
	l.settlement = &pb.Settlement{BatchId: l.batch, Attempt: l.attempt, End: pb.AttemptEnd_ATTEMPT_END_FAILED,
		Message: "the coordinator does not accept the outcomes that the worker has for this batch"}
	s.forward(l)
}

// settleLoop settles what the queue holds until ctx ends: in one call whatever came while the call before was under way. With
// it goes a claim for the slots that are free by then.
func (s *session) settleLoop(ctx context.Context) {
	again := s.repeat("settle batches")
	most := pb.MaxSettlements
	for {
		runtime.Gosched() // so that handlers which are about to return go with the first of them
		group, request := s.group(most)
		if len(group) == 0 {
			select {
			case <-s.settle:
				continue
			case <-ctx.Done():
				return
			}
		}
		bounded, cancel := context.WithTimeoutCause(ctx, settleTimeout, retry.ErrSilent)
		sent := time.Now()
		resp, err := s.api.SettleBatches(bounded, request, grpc.MaxCallRecvMsgSize(maxMessage))
		err = retry.Blame(bounded, err)
		cancel()
		switch {
		case err == nil && len(resp.GetAnswers()) == len(group):
			again.worked()
			most = min(2*most, pb.MaxSettlements)
			s.settled(group, resp.GetAnswers())
			s.answered(ctx, request, resp, sent)
			continue
		case err == nil:
			err = errors.New("the coordinator did not answer for every settlement")
		}
		if !passing(err) {
			// One of them may be the reason: the others must not wait for it.
			most = max(len(group)/2, 1)
			s.blameSettlement(group)
		}
		s.requeue(group)
		s.unanswered()
		if !again.failed(ctx, err) {
			return
		}
	}
}

// group takes at most most leases from the queue, and as many as fit into a call.
func (s *session) group(most int) ([]*lease, *pb.SettleBatchesRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var group []*lease
	request := &pb.SettleBatchesRequest{SessionId: s.id}
	taken, bytes := 0, 0
	for _, l := range s.queue {
		if s.held[l.leaseKey] != l && l.stage != parting {
			taken++
			continue
		}
		bytes += proto.Size(l.settlement)
		if len(group) == most || (len(group) > 0 && bytes > settleBytes) {
			break
		}
		taken++
		group = append(group, l)
		request.Settlements = append(request.Settlements, l.settlement)
	}
	s.queue = slices.Delete(s.queue, 0, taken)
	if len(group) > 0 {
		s.ask(request)
	} else if taken > 0 {
		s.notify() // the claim loop need not wait for them
	}
	return group, request
}

// requeue puts leases back in front of the queue.
func (s *session) requeue(group []*lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(slices.Clone(group), s.queue...)
}

// settled follows the answers to a call.
func (s *session) settled(group []*lease, answers []*pb.SettleAnswer) {
	for i, l := range group {
		switch answers[i].GetStatus() {
		case pb.SettleStatus_SETTLE_STATUS_SETTLED:
			s.mu.Lock()
			s.drop(l, nil)
			s.mu.Unlock()
		case pb.SettleStatus_SETTLE_STATUS_OUTCOMES_INCOMPLETE:
			s.log.Error("outcomes refused", "job_id", l.grant.GetJobId(), "batch_id", l.batch, "attempt", l.attempt,
				"from_item", l.settlement.GetFromItem(), "item_count", l.grant.GetItemCount())
			s.mu.Lock()
			if s.held[l.leaseKey] == l && l.progress != nil {
				s.refuse(l)
			} else {
				s.drop(l, nil) // even without them: nothing more can be said
			}
			s.mu.Unlock()
		default:
			s.lose(l, "the coordinator says so")
		}
	}
}

// blameSettlement counts the failures of a settlement that was alone in its call, and gives it up after a few.
func (s *session) blameSettlement(group []*lease) {
	if len(group) != 1 {
		return
	}
	l := group[0]
	s.mu.Lock()
	l.refused++
	tries := l.refused
	s.mu.Unlock()
	if tries >= settleTries {
		s.lose(l, "the coordinator fails on its settlement")
		s.mu.Lock()
		l.stage = over
		s.mu.Unlock()
	}
}
