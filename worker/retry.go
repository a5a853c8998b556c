package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	longPause  = 3 * time.Second
)

// retry paces the repetitions of an operation that fails, and logs each outage once. It is for one goroutine.
type retry struct {
	log       *slog.Logger
	operation string
	since     time.Time // of the first failure without success after it; zero when there is none
	pause     time.Duration
}

// failed waits until the operation may be tried again. It returns false when ctx has ended.
func (r *retry) failed(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if r.since.IsZero() {
		r.since, r.pause = time.Now(), firstPause
		r.log.Warn("coordinator not reached, trying again", "operation", r.operation, "error", err)
	}
	// Half of the pause is jitter, so that workers which were cut off together do not return together.
	timer := time.NewTimer(r.pause/2 + rand.N(r.pause/2))
	defer timer.Stop()
	r.pause = min(2*r.pause, longPause)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// worked forgets the failures so far.
func (r *retry) worked() {
	if r.since.IsZero() {
		return
	}
	r.log.Info("coordinator reached again", "operation", r.operation, "outage", time.Since(r.since).Round(time.Millisecond))
	r.since = time.Time{}
}
