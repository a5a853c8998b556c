package api

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Beating is the heartbeat streams that are open at this coordinator, one for a session. Safe for concurrent use.
type Beating struct {
	mu      sync.Mutex
	streams map[int64]*beatStream
	breaks  []streamBreak // those within the last grace, in their order
}

// beatStream is one of them: what is pushed is sent between the answers to beats.
type beatStream struct {
	epoch int64
	drain atomic.Bool // its session is being drained: every answer says so
	left  atomic.Bool // its session has ended in peace
	push  chan *pb.HeartbeatResponse

	trouble string        // that was noted of its session; for the stream's own goroutine
	over    chan struct{} // closed when a newer stream of the session took its place
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

// Drain tells the workers of sessions that beat here that they are being drained, at once and with every answer. It does
// not block.
func (b *Beating) Drain(sessions []int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range sessions {
		if s := b.streams[id]; s != nil && !s.drain.Swap(true) {
			select {
			case s.push <- &pb.HeartbeatResponse{Drain: true}:
			default:
			}
		}
	}
}

// leave notes that a session ended in peace, so that the end of its stream is no break.
func (b *Beating) leave(session int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.streams[session]; s != nil {
		s.left.Store(true)
	}
}

// streamBreak is a stream that the worker's side ended, or the network in between.
type streamBreak struct {
	store.Stream
	at time.Time // monotonic
}

// broke notes that a stream broke, and forgets those that did more than grace before.
func (b *Beating) broke(s store.Stream, grace time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.breaks = slices.DeleteFunc(b.breaks, func(x streamBreak) bool { return now.Sub(x.at) >= grace })
	b.breaks = append(b.breaks, streamBreak{s, now})
}

// excused returns the streams that broke within the last grace if that is the network's doing: at least two sessions and
// at least half of those that beat here.
func (b *Beating) excused() []store.Stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	broken := map[int64]bool{}
	streams := make([]store.Stream, len(b.breaks))
	for i, x := range b.breaks {
		broken[x.SessionID] = true
		streams[i] = x.Stream
	}
	all := len(broken)
	for id := range b.streams {
		if !broken[id] {
			all++
		}
	}
	if len(broken) < 2 || 2*len(broken) < all {
		return nil
	}
	return streams
}

// Cancel tells the workers that beat here to stop these leases, since their job is being stopped. It does not block.
func (b *Beating) Cancel(leases []job.Lease) {
	b.tell(leases, pb.LeaseVerdict_LEASE_VERDICT_CANCEL)
}

// Lose tells the workers that beat here that these leases are theirs no more. It does not block.
func (b *Beating) Lose(leases []job.Lease) {
	b.tell(leases, pb.LeaseVerdict_LEASE_VERDICT_LOST)
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
