package worker_test

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (c *coordinator) Heartbeat(stream grpc.BidiStreamingServer[pb.HeartbeatRequest, pb.HeartbeatResponse]) error {
	if _, err := c.enter("heartbeat"); err != nil {
		return err
	}
	beats := make(chan *pb.HeartbeatRequest)
	ended := make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case beats <- m:
			case <-stream.Context().Done():
			}
		}
	}()
	for {
		select {
		case err := <-ended:
			_ = err // however it ended, it is the worker's side that ended it
			return nil
		case m := <-c.push:
			if err := stream.Send(m); err != nil {
				return err
			}
		case m := <-beats:
			if err := m.Validate(); err != nil {
				c.t.Errorf("beat: %v", err)
			}
			if c.beaten != nil {
				c.beaten(m)
			}
			n, err := c.enter("beat")
			if err != nil {
				return err
			}
			if c.silent != nil && c.silent() {
				continue
			}
			if err := stream.Send(c.answer(m)); err != nil {
				return err
			}
			if err := c.leave("beat", n); err != nil {
				return err
			}
		}
	}
}

func (c *coordinator) answer(m *pb.HeartbeatRequest) *pb.HeartbeatResponse {
	c.mu.Lock()
	c.beats = append(c.beats, m)
	c.mu.Unlock()
	resp := &pb.HeartbeatResponse{Sequence: m.GetSequence(), NextInterval: durationpb.New(beatTime)}
	for _, l := range m.GetLeases() {
		a := &pb.LeaseAnswer{BatchId: l.GetBatchId(), Attempt: l.GetAttempt(), Verdict: pb.LeaseVerdict_LEASE_VERDICT_LOST}
		if b := c.find(l.GetBatchId(), l.GetAttempt()); b != nil {
			c.record(b, l)
			c.mu.Lock()
			b.expires = time.Now().Add(leaseTime)
			a.Verdict, a.AcknowledgedItems = pb.LeaseVerdict_LEASE_VERDICT_CONTINUE, int32(len(b.outcomes))
			if b.paused {
				a.Verdict = pb.LeaseVerdict_LEASE_VERDICT_RELEASE
			}
			if b.cancel {
				a.Verdict = pb.LeaseVerdict_LEASE_VERDICT_CANCEL
			}
			c.mu.Unlock()
		}
		if c.answers != nil {
			c.answers(a)
		}
		resp.Leases = append(resp.Leases, a)
	}
	return resp
}
