package annotations

import (
	"context"
	"slices"
	"time"
)

// Recorded implements [worker.Forgetter].
func (h *Handler) Recorded(ctx context.Context, clusterID string, after int64, limit int) ([]int64, error) {
	w, err := h.writerFor(ctx, clusterID)
	if err != nil {
		return nil, err
	}
	return w.Jobs(ctx, after, limit)
}

const (
	jobsAtOnce = 32 // each is looked for in every step

	firstStep = 16   // rows removed at a time, with the changes to annotations that this takes
	longStep  = 1000 // the most
	stepTime  = 20 * time.Millisecond
	stepRest  = 4 // times the time of a step that batches have the store for themselves afterwards
)

// Forget implements [worker.Forgetter]. It goes on in steps of about stepTime, so that no transaction of a batch waits for
// long, and leaves the store alone most of the time. On an SQLite file a step has the file to itself.
func (h *Handler) Forget(ctx context.Context, clusterID string, jobs []int64) error {
	w, err := h.writerFor(ctx, clusterID)
	if err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	limit := firstStep
	for some := range slices.Chunk(jobs, jobsAtOnce) {
		for more := true; more; {
			select {
			case <-timer.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			began := time.Now()
			if more, err = w.Forget(ctx, some, limit); err != nil {
				return err
			}
			took := time.Since(began)
			switch {
			case took > stepTime:
				limit = max(limit/2, 1)
			case took < stepTime/2:
				limit = min(2*limit, longStep)
			}
			timer.Reset(stepRest * took)
		}
	}
	return nil
}
