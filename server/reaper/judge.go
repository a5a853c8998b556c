package reaper

import (
	"context"
	"time"

	"github.com/tallyman-dev/tallyman/server/store"
)

// Workers are judged a moment after a death, and again and again, ever more seldom: that batches complete on other workers
// comes later, and may happen at other coordinators.
const (
	judgeFirst = 250 * time.Millisecond
	judgeLast  = 30 * time.Second
)

// Died says that an attempt died, so that the worker is judged. It does not block.
func (r *Reaper) Died() { poke(r.died) }

// judge runs JudgeOnce while deaths that it was told of are held against workers.
func (r *Reaper) judge(ctx context.Context) {
	var last time.Time // death
	wait := judgeLast
	timer := time.NewTimer(wait)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.died:
			last = time.Now()
			if wait > judgeFirst {
				wait = judgeFirst
				timer.Reset(wait)
			}
			continue
		case <-timer.C:
		}
		if err := r.JudgeOnce(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("upkeep failed", "what", "judge workers", "error", err)
		}
		wait = min(2*wait, judgeLast)
		if time.Since(last) < store.Judged {
			timer.Reset(wait)
		}
	}
}

// JudgeOnce drains the workers on which everything dies.
func (r *Reaper) JudgeOnce(ctx context.Context) error {
	drained, err := r.cfg.Store.JudgeWorkers(ctx)
	if err != nil || len(drained) == 0 {
		return err
	}
	r.cfg.Events.Condemned(drained)
	return nil
}
