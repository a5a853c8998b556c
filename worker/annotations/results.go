package annotations

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/tallyman-dev/tallyman/worker"
)

// Results has batches handled by another handler, and stores what that makes of an item when it is annotations: a
// Result.Value that is an object whose only key is "annotations", as in {"annotations":{"denotations":[…]}}. What is under
// the key is validated and stored as an item of kind annotations is, for the same item of the job. An object that names
// no document, having neither sourcedb nor sourceid, is about that of the item it was made of: it takes these from there,
// and its text unless it has one.
//
// The item is durable when its annotations are, in the order of the batch: the store works beside the handler, whose
// Report waits when the store is far behind. The item's outcome is the worse of the handler's and the store's, and its
// findings are those of both, with "annotations." before the paths of the store's. The value is not kept besides. All other
// results go on as they are, those of items that the handler rejects or skips too: nothing of these is stored.
//
// A handler that has one result for all items together gives an array of them under the key, which has an object, or null
// for nothing, for each item that is not done, in order.
type Results struct {
	handler worker.Handler
	store   *Handler // nil without a store
}

var (
	_ worker.Preparer  = (*Results)(nil)
	_ worker.Forgetter = (*Results)(nil)
	_ worker.AllAtOnce = (*Results)(nil)
)

// NewResults returns a handler that has batches handled by h and stores annotations by st; nil when there is no store. Without
// one, and in jobs without a project, a result that is annotations is an error which says so. Neither is closed.
func NewResults(h worker.Handler, st *Handler) *Results { return &Results{handler: h, store: st} }

// Prepare prepares the handler and the store.
func (r *Results) Prepare(ctx context.Context, clusterID string) error {
	if p, ok := r.handler.(worker.Preparer); ok {
		if err := p.Prepare(ctx, clusterID); err != nil {
			return err
		}
	}
	if r.store == nil {
		return nil
	}
	return r.store.Prepare(ctx, clusterID)
}

// Recorded implements [worker.Forgetter].
func (r *Results) Recorded(ctx context.Context, clusterID string, after int64, limit int) ([]int64, error) {
	if r.store == nil {
		return nil, nil
	}
	return r.store.Recorded(ctx, clusterID, after, limit)
}

// Forget implements [worker.Forgetter].
func (r *Results) Forget(ctx context.Context, clusterID string, jobs []int64) error {
	if r.store == nil {
		return nil
	}
	return r.store.Forget(ctx, clusterID, jobs)
}

// AllAtOnce implements [worker.AllAtOnce].
func (r *Results) AllAtOnce() bool {
	all, ok := r.handler.(worker.AllAtOnce)
	return ok && all.AllAtOnce()
}

// Handle has a batch handled. Its error is that of the handler or, when the store does not take what was made, that of
// [Handler.Handle]: what the handler says then, as that a process died, it will say again.
func (r *Results) Handle(ctx context.Context, b *worker.Batch) error {
	handling, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if r.store == nil || b.Project == "" {
		return r.refuse(handling, stop, b)
	}
	a, err := r.store.begin(ctx, b)
	if err != nil {
		return err
	}
	k := keeper{batch: b, attempt: a, stop: stop, next: b.Done, changed: make(chan struct{})}
	err = k.handle(handling, r.handler)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// refuse has a batch handled none of whose results can be stored.
func (r *Results) refuse(ctx context.Context, stop context.CancelCauseFunc, b *worker.Batch) error {
	next := b.Done
	var refused error
	handled := with(b, func(rest bool, results []worker.Result) {
		for _, result := range results {
			value, ok := annotationsOf(result)
			if ok && (value[0] == '{' || rest && value[0] == '[') {
				refused = cmp.Or(refused, refusal(b, next))
				stop(refused)
			}
			if refused != nil {
				return
			}
			if next++; rest {
				b.ReportRest(result)
			} else {
				b.Report(result)
			}
		}
	})
	err := r.handler.Handle(ctx, handled)
	return cmp.Or(refused, err)
}

// with returns a batch whose handler reports to somebody else than the worker.
func with(b *worker.Batch, report func(rest bool, results []worker.Result)) *worker.Batch {
	handled := *b
	handled.Attach(worker.Remote{Begin: b.Begin, Report: report, Deadline: b.Deadline, Overlaps: b.Overlaps})
	return &handled
}

var (
	errNoStore   = errors.New("the result is annotations, and this worker has no store to put them into (--store)")
	errNoProject = errors.New("the result is annotations, and the job has no project to store them for (--project)")
)

// refusal says why annotations cannot be stored: another worker may have a store, but nobody gives the job a project.
func refusal(b *worker.Batch, position int) error {
	err := errNoStore
	if b.Project == "" {
		err = worker.Permanent(errNoProject)
	}
	if position < len(b.Items) {
		it := &b.Items[position]
		err = fmt.Errorf("item %d (%s:%d): %w", it.Number, it.File, it.Line, err)
	}
	return err
}
