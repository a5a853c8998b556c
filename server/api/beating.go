package api

import (
	"sync"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
)

// Beating is the heartbeat streams that are open at this coordinator, one for a session. Safe for concurrent use.
type Beating struct {
	mu      sync.Mutex
	streams map[int64]*beatStream
}

// beatStream is one of them: what is pushed is sent between the answers to beats.
type beatStream struct {
	epoch int64
	push  chan *pb.HeartbeatResponse
	over  chan struct{} // closed when a newer stream of the session took its place
}

func newBeating() *Beating { return &Beating{streams: map[int64]*beatStream{}} }

// pushKept bounds what waits to be pushed to one worker. What finds no room is dropped: the next beat's answer says
// the same.
const pushKept = 64

func (b *Beating) open(session, epoch int64) *beatStream {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &beatStream{epoch: epoch, push: make(chan *pb.HeartbeatResponse, pushKept), over: make(chan struct{})}
	if old := b.streams[session]; old != nil {
		if old.epoch > epoch {
			close(s.over)
			return s
		}
		close(old.over)
	}
	b.streams[session] = s
	return s
}

func (b *Beating) close(session int64, s *beatStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streams[session] == s {
		delete(b.streams, session)
	}
}

// Cancel tells the workers that beat here to stop these leases, since their job is being stopped. It does not block.
func (b *Beating) Cancel(leases []job.Lease) {
	b.tell(leases, pb.LeaseVerdict_LEASE_VERDICT_CANCEL)
}

// Release tells the workers that beat here to give these leases back, since their job is paused. It does not block.
func (b *Beating) Release(leases []job.Lease) {
	b.tell(leases, pb.LeaseVerdict_LEASE_VERDICT_RELEASE)
}

func (b *Beating) tell(leases []job.Lease, verdict pb.LeaseVerdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	by := map[int64][]*pb.LeaseAnswer{}
	for _, l := range leases {
		by[l.SessionID] = append(by[l.SessionID], &pb.LeaseAnswer{
			BatchId: l.BatchID, Attempt: l.Attempt, Verdict: verdict,
		})
	}
	for session, answers := range by {
		if s := b.streams[session]; s != nil {
			select {
			case s.push <- &pb.HeartbeatResponse{Leases: answers}:
			default:
			}
		}
	}
}

// Len returns the number of open streams.
func (b *Beating) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.streams)
}
