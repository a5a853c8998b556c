package worker

import (
	"time"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Meter is told what a worker does, to be counted. Its methods must not block, and are called by many goroutines at once.
// worker/metrics has one for Prometheus.
type Meter interface {
	// Began says that a batch of a kind begins to be handled.
	Began(kind string)
	// Ended says that its handler has returned after so long, and how the attempt ends: completed, failed, died, released,
	// cancelled, or lost when its lease was.
	Ended(kind, end string, took time.Duration)
}

type unmetered struct{}

func (unmetered) Began(string)                        {}
func (unmetered) Ended(string, string, time.Duration) {}

// Ends are the ways in which an attempt may end, as a Meter is told.
func Ends() []string { return []string{"completed", "failed", "died", "released", "cancelled", "lost"} }

// metered returns the kind of a lease as it is counted: of those that are served, as all should be.
func (s *session) metered(l *lease) string {
	if kind := l.grant.GetKind(); s.config.Handlers[kind] != nil {
		return kind
	}
	return ""
}

// endOf says how the attempt of a lease ends whose handler has returned.
func (s *session) endOf(l *lease) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch l.settlement.GetEnd() {
	case pb.AttemptEnd_ATTEMPT_END_COMPLETED:
		return "completed"
	case pb.AttemptEnd_ATTEMPT_END_FAILED:
		return "failed"
	case pb.AttemptEnd_ATTEMPT_END_DIED:
		return "died"
	case pb.AttemptEnd_ATTEMPT_END_RELEASED:
		return "released"
	case pb.AttemptEnd_ATTEMPT_END_CANCELLED:
		return "cancelled"
	default:
		return "lost"
	}
}
