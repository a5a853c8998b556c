package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// claimLoop claims batches for free slots until ctx ends, the session fails, or there is nothing to do. Handlers run
// under working.
func (s *session) claimLoop(ctx, working context.Context) {
	if !s.prepare(ctx) {
		return
	}
	again := s.repeat("claim batches")
	for {
		free, ok := s.awaitFree(ctx)
		if !ok {
			return
		}
		quiet := s.quiet()
		// The same request until it is answered: the grant of an answer that was lost is in the next one.
		request := &pb.ClaimBatchesRequest{SessionId: s.id, RequestId: uuid.NewString(), MaxBatches: int32(free)}
		resp, sent, ok := s.claim(ctx, request, again)
		if !ok {
			return
		}
		received := time.Now()
		start := sent.Add(max(resp.GetWaited().AsDuration(), 0))
		if start.After(received) {
			start = received
		}
		for _, g := range resp.GetGrants() {
			s.hold(working, g, start)
		}
		if s.config.ExitWhenIdle && quiet && len(resp.GetGrants()) == 0 {
			s.log.Info("nothing to do")
			return
		}
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

// awaitFree waits for a free slot, and for the end of a rest, and returns how many slots there are. It returns false when
// ctx ends.
func (s *session) awaitFree(ctx context.Context) (int, bool) {
	rested := time.NewTimer(0)
	defer rested.Stop()
	for {
		s.mu.Lock()
		free, left, changed := s.free(), time.Until(s.rest.until), s.changed
		s.mu.Unlock()
		if ctx.Err() != nil {
			return 0, false
		}
		if free > 0 && left <= 0 {
			return free, true
		}
		rested.Reset(left)
		if left <= 0 {
			rested.Stop()
		}
		select {
		case <-changed:
		case <-rested.C:
		case <-ctx.Done():
			return 0, false
		}
	}
}

// free returns the number of batches that may be claimed. Handled batches that wait to be settled take no slot, but
// their number is bounded too. The lock must be held.
func (s *session) free() int {
	return min(s.config.Slots-len(s.running), 2*s.config.Slots-len(s.held), pb.MaxClaim)
}

// quiet reports whether nothing is held and no handler works.
func (s *session) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held) == 0 && len(s.running) == 0
}
