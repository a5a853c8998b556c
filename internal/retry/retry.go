// Package retry is what the libraries of submitters and of workers share about calls that fail: how long to wait before
// the next try, and how the silence of a coordinator is told from the end of the caller's own context. Which failures may
// pass each of them knows for itself.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// First is the pause after the first failure, before its jitter.
const First = 100 * time.Millisecond

// Pacer paces the tries of one operation. It is for one goroutine. The zero value of everything but Longest is that of an
// operation that has not failed.
type Pacer struct {
	Longest time.Duration // that the growing pause between two tries gets

	since time.Time     // of the first failure without progress after it; zero when there is none
	stood time.Time     // since when a try has been answered; zero when none is
	pause time.Duration // before the next try
}

// Failed notes that a try has failed, and returns for how long tries have been failing without progress: 0 for the first.
func (p *Pacer) Failed() time.Duration {
	now := time.Now()
	if p.since.IsZero() {
		p.since, p.pause = now, First
	}
	if !p.stood.IsZero() {
		stood := now.Sub(p.stood)
		p.since, p.stood = p.since.Add(stood), time.Time{}
		if stood > p.Longest {
			p.pause = First
		}
	}
	return now.Sub(p.since)
}

// Answered notes that a try is under way with a coordinator that answers. It is no progress yet, but no outage either: the
// time from here to the next failure does not count as failing.
func (p *Pacer) Answered() {
	if !p.since.IsZero() && p.stood.IsZero() {
		p.stood = time.Now()
	}
}

// Progressed forgets the failures so far, and returns for how long tries had been failing: 0 when they had not.
func (p *Pacer) Progressed() time.Duration {
	if p.since.IsZero() {
		return 0
	}
	failing := max(time.Since(p.since), 1)
	p.since, p.stood = time.Time{}, time.Time{}
	return failing
}

// Wait waits for the next pause, and for no longer than most. It returns false when ctx has ended.
func (p *Pacer) Wait(ctx context.Context, most time.Duration) bool {
	// Half of the pause is jitter, so that callers which were cut off together do not return together.
	timer := time.NewTimer(min(most, p.pause/2+rand.N(p.pause/2)))
	defer timer.Stop()
	p.pause = min(2*p.pause, p.Longest)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ErrSilent is the cause of contexts that end because a coordinator does not answer, not because the caller wants it. As
// the error of a call it has the status UNAVAILABLE.
var ErrSilent error = silent{}

type silent struct{}

func (silent) Error() string { return "the coordinator does not answer" }

// GRPCStatus is what package status looks for.
func (s silent) GRPCStatus() *status.Status { return status.New(codes.Unavailable, s.Error()) }

// Blame turns the end of a call because of ErrSilent into that, and keeps every other error. Bounded is the context of the
// call.
func Blame(bounded context.Context, err error) error {
	code := status.Code(err)
	if (code == codes.DeadlineExceeded || code == codes.Canceled) && errors.Is(context.Cause(bounded), ErrSilent) {
		return ErrSilent
	}
	return err
}
