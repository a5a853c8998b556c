package worker

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/internal/retry"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const (
	beatBytes = 1 << 20     // of outcomes, findings and results in a beat
	beatPause = time.Second // between beats, at least, for the sake of new reports alone

	// refusedBeats is how many beats in a row may bring outcomes of a lease without having any acknowledged.
	refusedBeats = 5
)

// beatLoop keeps the session's leases alive until ctx ends or the session fails.
func (s *session) beatLoop(ctx context.Context) {
	again := s.repeat("heartbeat")
	var sequence int64
	for {
		err := s.beatStream(ctx, &sequence, again.worked)
		if ctx.Err() != nil {
			return
		}
		if err := final(again.operation, err); err != nil {
			s.fail(err)
			return
		}
		if errors.Is(err, retry.ErrSilent) {
			s.renew() // the keepalive may take longer than leases do
		}
		if !again.failed(ctx, err) {
			return
		}
	}
}

// beatStream beats on one stream until it breaks, or is silent for half a lease.
func (s *session) beatStream(parent context.Context, sequence *int64, answered func()) error {
	ctx, cancel := context.WithCancelCause(parent)
	watchdog := time.AfterFunc(s.lease/2, func() { cancel(retry.ErrSilent) })
	defer watchdog.Stop()
	stream, err := s.api.Heartbeat(ctx)
	if err != nil {
		cancel(nil)
		return retry.Blame(ctx, err)
	}
	answers := make(chan *pb.HeartbeatResponse)
	ended := make(chan error, 1)
	received := make(chan struct{})
	go func() {
		defer close(received)
		receive(ctx, stream, answers, ended)
	}()
	defer func() {
		cancel(nil)
		<-received
	}()

	timer := time.NewTimer(0) // the first beat goes out at once
	defer timer.Stop()
	var sent time.Time // of the last beat
	waiting := false   // for its answer
	for {
		select {
		case <-timer.C:
			if s.nothingNew(sent) {
				break
			}
			*sequence++
			sent, waiting = time.Now(), true
			watchdog.Reset(s.lease / 2)
			if err := stream.Send(s.makeBeat(*sequence)); err != nil {
				return retry.Blame(ctx, ending(answers, ended))
			}
		case m := <-answers:
			s.setInterval(m.GetNextInterval().AsDuration())
			if m.GetDrain() {
				s.drainOnce.Do(func() { close(s.drained) })
			}
			if waiting && m.GetSequence() == *sequence {
				waiting = false
				watchdog.Stop()
				answered()
				s.renewed(m.GetLeases(), sent)
			} else {
				s.told(m.GetLeases())
			}
		case <-s.beat:
		case err := <-ended:
			return retry.Blame(ctx, err)
		}
		if waiting {
			timer.Stop()
		} else {
			timer.Reset(s.nextBeat(sent))
		}
	}
}

// receive hands on what comes from a stream until it ends, and says how.
func receive(
	ctx context.Context, stream grpc.BidiStreamingClient[pb.HeartbeatRequest, pb.HeartbeatResponse],
	answers chan<- *pb.HeartbeatResponse, ended chan<- error,
) {
	for {
		m, err := stream.Recv()
		if err != nil {
			ended <- err
			return
		}
		select {
		case answers <- m:
		case <-ctx.Done():
			// The next Recv says how the stream ended.
		}
	}
}

// ending returns how a stream ended, which an error of its Send only announces.
func ending(answers <-chan *pb.HeartbeatResponse, ended <-chan error) error {
	for {
		select {
		case <-answers:
		case err := <-ended:
			return err
		}
	}
}

// nextBeat returns the time until the next beat when the last one went out at sent and has been answered.
func (s *session) nextBeat(sent time.Time) time.Duration {
	due := time.Duration(s.interval.Load())
	if s.reported.Load() {
		due = min(due, beatPause)
	}
	if s.flushing() {
		due = 0
	}
	return max(time.Until(sent.Add(due)), 0)
}

// hasNews has the next beat go out soon.
func (s *session) hasNews() {
	if !s.reported.Swap(true) {
		poke(s.beat)
	}
}

// nothingNew reports whether a beat after the one at sent would come early for nothing: what was reported in between has
// been settled.
func (s *session) nothingNew(sent time.Time) bool {
	if time.Since(sent) >= time.Duration(s.interval.Load()) {
		return false
	}
	s.reported.Store(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rest.trouble() != s.trouble {
		return false
	}
	for _, l := range s.held {
		if l.stage != settling && l.progress != nil && l.progress.unacknowledged() > 0 {
			return false
		}
	}
	return true
}

// flushing reports whether beats bring something on that should not wait: a batch that cannot be settled before, or more of
// what was reported of one than fits into a beat.
func (s *session) flushing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.held {
		if !l.stalled && (l.stage == flushing || l.stage == handling && l.progress != nil && l.progress.unacknowledged() > beatBytes) {
			return true
		}
	}
	return false
}

// makeBeat names every lease, with as much of what was reported as fits.
func (s *session) makeBeat(sequence int64) *pb.HeartbeatRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported.Store(false)
	s.trouble = s.rest.trouble()
	beat := &pb.HeartbeatRequest{SessionId: s.id, Sequence: sequence, Leases: make([]*pb.LeaseBeat, 0, len(s.held)),
		Trouble: s.trouble}
	room := beatBytes
	// A map has no order, so that everybody's turn comes.
	for _, l := range s.held {
		m := &pb.LeaseBeat{BatchId: l.batch, Attempt: l.attempt, FromItem: l.grant.GetDoneItems(), FinishedItems: -1,
			Opaque: l.opaque}
		if l.progress != nil {
			finished, _ := l.progress.standing()
			m.FinishedItems = int32(finished)
		}
		if l.progress != nil && l.stage != settling {
			e := l.progress.first(room)
			room -= e.bytes
			m.FromItem, m.Outcomes, m.Findings, m.Results = e.from, e.outcomes, e.findings, e.results
			if l.progress.unacknowledged() > e.bytes {
				s.reported.Store(true) // the rest goes with the next beat
			}
		}
		beat.Leases = append(beat.Leases, m)
		l.carried = len(m.Outcomes) > 0
	}
	return beat
}

// renewed follows the answer to a beat that was sent at that time.
func (s *session) renewed(answers []*pb.LeaseAnswer, sent time.Time) {
	s.mu.Lock()
	for _, a := range answers {
		l := s.held[leaseKey{a.GetBatchId(), a.GetAttempt()}]
		if l == nil {
			continue
		}
		l.stalled = l.carried
		switch a.GetVerdict() {
		case pb.LeaseVerdict_LEASE_VERDICT_CONTINUE, pb.LeaseVerdict_LEASE_VERDICT_CANCEL,
			pb.LeaseVerdict_LEASE_VERDICT_RELEASE:
			l.renew(sent.Add(s.lease))
			s.acknowledged(l, a.GetAcknowledgedItems())
		default: // it is not renewed
		}
	}
	s.mu.Unlock()
	s.told(answers)
}

// acknowledged takes note of the outcomes that the coordinator has recorded. The lock must be held.
func (s *session) acknowledged(l *lease, items int32) {
	if l.progress == nil || l.stage == settling {
		return
	}
	switch {
	case l.progress.acknowledge(items):
		l.refused, l.stalled = 0, false
	case l.carried:
		l.refused++
	}
	if l.stage != flushing {
		return
	}
	if l.refused >= refusedBeats {
		s.refuse(l)
		return
	}
	s.forward(l)
}

// told follows verdicts.
func (s *session) told(answers []*pb.LeaseAnswer) {
	var lost []*lease
	s.mu.Lock()
	for _, a := range answers {
		l := s.held[leaseKey{a.GetBatchId(), a.GetAttempt()}]
		switch {
		case l == nil:
		case a.GetVerdict() == pb.LeaseVerdict_LEASE_VERDICT_CANCEL && l.stage == handling:
			s.interrupt(l, ErrJobCancelled)
		case a.GetVerdict() == pb.LeaseVerdict_LEASE_VERDICT_RELEASE && l.stage == handling:
			s.interrupt(l, ErrJobPaused)
		case a.GetVerdict() == pb.LeaseVerdict_LEASE_VERDICT_LOST && l.stage != settling:
			// One that is being settled may be gone because it is settled: the answer to that says.
			lost = append(lost, l)
		}
	}
	s.mu.Unlock()
	for _, l := range lost {
		s.lose(l, "the coordinator says so")
	}
}
