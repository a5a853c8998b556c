package worker

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// claimLoop claims batches for free slots until ctx ends, the session fails, or there is nothing to do. Handlers run
// under working.
func (s *session) claimLoop(ctx, working context.Context) {
	if !s.prepare(ctx) {
		return
	}
	s.mayClaim(true)
	defer s.mayClaim(false)
	again := s.repeat("claim batches")
	for {
		next, ok := s.awaitFree(ctx)
		if !ok {
			return
		}
		quiet := s.quiet()
		// The same request until it is answered: the grant of an answer that was lost is in the next one.
		request := &pb.ClaimBatchesRequest{SessionId: s.id, RequestId: next.GetRequestId(), MaxBatches: next.GetMaxBatches()}
		resp, sent, ok := s.claim(ctx, request, again)
		if !ok {
			return
		}
		s.take(working, resp, sent)
		s.mu.Lock()
		s.polling = 0
		s.mu.Unlock()
		if s.config.ExitWhenIdle && quiet && len(resp.GetGrants()) == 0 {
			s.log.Info("nothing to do")
			return
		}
	}
}

// mayClaim says whether batches may be taken.
func (s *session) mayClaim(may bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claiming = may
}

// granting is an answer that carries leases.
type granting interface {
	GetGrants() []*pb.Grant
	GetWaited() *durationpb.Duration
}

// take holds what a call that was sent at that time has been granted.
func (s *session) take(working context.Context, m granting, sent time.Time) {
	received := time.Now()
	start := sent.Add(max(m.GetWaited().AsDuration(), 0))
	if start.After(received) {
		start = received
	}
	for _, g := range m.GetGrants() {
		s.hold(working, g, start)
	}
}

// prepare has the handlers make themselves ready.
func (s *session) prepare(ctx context.Context) bool {
	for kind, h := range s.config.Handlers {
		p, ok := h.(Preparer)
		if !ok {
			continue
		}
		if err := p.Prepare(ctx, s.cluster); err != nil {
			if ctx.Err() == nil {
				s.fail(fmt.Errorf("prepare the handler of kind %s: %w", kind, err))
			}
			return false
		}
	}
	return true
}

// claim repeats a request until it is answered. Sent is when the request that was answered was sent.
func (s *session) claim(ctx context.Context, request *pb.ClaimBatchesRequest, again *repetition) (
	resp *pb.ClaimBatchesResponse, sent time.Time, ok bool,
) {
	for {
		sent = time.Now()
		// The coordinator waits until shortly before the deadline.
		bounded, cancel := context.WithTimeout(ctx, s.config.ClaimWait)
		resp, err := s.api.ClaimBatches(bounded, request, grpc.MaxCallRecvMsgSize(maxMessage))
		// The other side knows the deadline too, and may be the first to say that it has passed.
		deadline, _ := bounded.Deadline()
		late := bounded.Err() != nil || !time.Now().Before(deadline)
		cancel()
		if err == nil {
			again.reached(sent) // an answer to this one may have been due much later
			return resp, sent, true
		}
		if ctx.Err() != nil {
			return nil, sent, false
		}
		if late {
			continue // its answer came too late; the beats tell an outage from that
		}
		if err := final(again.operation, err); err != nil {
			s.fail(err)
			return nil, sent, false
		}
		if !again.failed(ctx, err) {
			return nil, sent, false
		}
	}
}

// awaitFree waits for a free slot that no settlement asks for, and for the end of a rest, and returns what to claim. It
// returns false when ctx ends.
func (s *session) awaitFree(ctx context.Context) (*pb.NextClaim, bool) {
	rested := time.NewTimer(0)
	defer rested.Stop()
	for {
		s.mu.Lock()
		next, left, changed := s.poll(), time.Until(s.rest.until), s.changed
		s.mu.Unlock()
		if ctx.Err() != nil {
			return nil, false
		}
		if next != nil {
			return next, true
		}
		rested.Reset(left)
		if left <= 0 {
			rested.Stop()
		}
		select {
		case <-changed:
		case <-rested.C:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// poll returns what the claim loop should ask for now, nil for nothing. The lock must be held.
func (s *session) poll() *pb.NextClaim {
	if time.Until(s.rest.until) > 0 || s.next != nil || len(s.queue) > 0 && s.asks() {
		return nil
	}
	next := s.unsure
	if free := s.free(); next == nil && free > 0 {
		next = &pb.NextClaim{RequestId: uuid.NewString(), MaxBatches: int32(free)}
	}
	s.unsure, s.polling = nil, int(next.GetMaxBatches())
	return next
}

// free returns the number of batches that may be claimed. Handled batches that wait to be settled take no slot, but
// their number is bounded too. The lock must be held.
func (s *session) free() int {
	return min(s.config.Slots-len(s.running), 2*s.config.Slots-len(s.held), pb.MaxClaim)
}

// asks says whether settlements may ask for more batches. The lock must be held.
func (s *session) asks() bool {
	now := time.Now()
	return s.claiming && !s.failing && !now.Before(s.rest.until) && !now.Before(s.plain)
}

// ask adds to settlements that are about to be made a claim for the free slots. The lock must be held.
func (s *session) ask(request *pb.SettleBatchesRequest) {
	if free := s.free() - s.polling; free > 0 && s.unsure == nil && s.asks() {
		s.next = &pb.NextClaim{RequestId: uuid.NewString(), MaxBatches: int32(free)}
		request.Claim = s.next
	}
}

// unanswered leaves to the claim loop what failed settlements asked for: it may have been granted.
func (s *session) unanswered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = true
	s.unsure, s.next = cmp.Or(s.next, s.unsure), nil
	s.notify()
}

// plainTime is how long settlements do not ask for batches once a coordinator has shown that it does not know of that.
const plainTime = time.Minute

// answered takes what came with the answer to settlements that were sent at that time.
func (s *session) answered(working context.Context, request *pb.SettleBatchesRequest, resp *pb.SettleBatchesResponse, sent time.Time) {
	s.take(working, resp, sent)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = false
	if request.GetClaim() == nil {
		return
	}
	if resp.GetWaited() == nil {
		s.plain = time.Now().Add(plainTime)
	}
	s.next = nil
	s.notify()
}

// quiet reports whether nothing is held and no handler works.
func (s *session) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held) == 0 && len(s.running) == 0
}
