package write

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/align"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// Writer is a [store.Writer] on an engine.
type Writer struct {
	engine Engine
	pace   pace
	closed atomic.Bool
}

var _ store.Writer = (*Writer)(nil)

// New returns a writer. Closing it leaves the engine open.
func New(engine Engine) *Writer { return &Writer{engine: engine, pace: newPace()} }

var errClosed = errors.New("the writer is closed")

// Begin implements [store.Writer].
func (w *Writer) Begin(ctx context.Context, lease store.Lease) error {
	if err := checkLease(lease); err != nil {
		return err
	}
	err := w.retry(ctx, lease, func(ctx context.Context) error { return w.engine.Raise(ctx, lease) })
	if err != nil {
		return fmt.Errorf("begin attempt %d of batch %d: %w", lease.Attempt, lease.Batch, err)
	}
	return nil
}

// Store implements [store.Writer].
func (w *Writer) Store(ctx context.Context, lease store.Lease, job store.Job, entries []store.Entry, durable func([]store.Result)) error {
	if err := check(lease, job, entries); err != nil {
		return fmt.Errorf("store items of batch %d: %w", lease.Batch, err)
	}
	if durable == nil {
		durable = func([]store.Result) {}
	}
	s := storing{w, lease, job, durable, make(map[int64]bool), newAlignments(job.MinAlignment)}
	for len(entries) > 0 {
		n := w.pace.take(entries)
		if err := s.all(ctx, entries[:n]); err != nil {
			return fmt.Errorf("store items %d to %d of job %d, batch %d: %w",
				entries[0].Number, entries[n-1].Number, job.ID, lease.Batch, err)
		}
		entries = entries[n:]
	}
	return nil
}

// Close implements [store.Writer].
func (w *Writer) Close() error {
	if w.closed.Swap(true) {
		return errClosed
	}
	return nil
}

func checkLease(lease store.Lease) error {
	if lease.Deadline == nil || lease.Batch <= 0 || lease.Attempt <= 0 || lease.Job <= 0 {
		return fmt.Errorf("batch %d, attempt %d: not a lease", lease.Batch, lease.Attempt)
	}
	return nil
}

func check(lease store.Lease, job store.Job, entries []store.Entry) error {
	if err := checkLease(lease); err != nil {
		return err
	}
	if job.ID <= 0 || job.Project == "" {
		return fmt.Errorf("job %d of project %q: not a job", job.ID, job.Project)
	}
	if job.ID != lease.Job {
		return fmt.Errorf("the lease is of job %d, not of job %d", lease.Job, job.ID)
	}
	if !slices.Contains(store.Modes(), job.Mode) {
		return fmt.Errorf("mode %q is unknown", job.Mode)
	}
	if job.MinAlignment < 0 || job.MinAlignment > 1 {
		return fmt.Errorf("at least %v of an item must align: not a share", job.MinAlignment)
	}
	before := int64(0)
	for _, e := range entries {
		if g := e.Given; g != nil && ((g.Text == "") != (g.Missing.Severity == annotation.Error) || (g.Text == "") != (g.Length == 0) ||
			len(g.Text) > store.MaxDocumentBytes) {
			return fmt.Errorf("item %d: what is given of document %s is neither a text nor the lack of one", e.Number, e.Item.Key)
		}
		if e.Item == nil || e.Item.Length <= 0 {
			return fmt.Errorf("item %d is empty", e.Number)
		}
		if e.Number <= before {
			return fmt.Errorf("item %d comes after item %d", e.Number, before)
		}
		if annotation.HasError(e.Warnings) {
			return fmt.Errorf("item %d is rejected by its findings", e.Number)
		}
		before = e.Number
	}
	return nil
}

// storing is one call of Store.
type storing struct {
	*Writer
	lease   store.Lease
	job     store.Job
	durable func([]store.Result)

	overlaps   map[int64]bool // what is known of other jobs
	alignments *alignments
}

// all stores entries in one transaction if the database takes it, otherwise in halves, so that an item which it refuses
// is found and the others are stored.
func (s storing) all(ctx context.Context, entries []store.Entry) error {
	var results []store.Result
	defer s.alignments.keep(entries)
	err := s.informed(ctx, func() error {
		return s.retry(ctx, s.lease, func(ctx context.Context) (err error) {
			results, err = s.transact(ctx, entries)
			return err
		})
	})
	if err == nil {
		s.durable(results)
		return nil
	}
	fault, reason := s.fault(err)
	switch {
	case fault != Refused:
		return err
	case len(entries) == 1:
		return s.refuse(ctx, entries[0], reason)
	}
	half := len(entries) / 2
	if err := s.all(ctx, entries[:half]); err != nil {
		return err
	}
	return s.all(ctx, entries[half:])
}

// informed does something until it knows all that it needs to of other jobs, and of how items lie in documents. It finds
// that out while no transaction is open.
func (s storing) informed(ctx context.Context, do func() error) error {
	for {
		err := do()
		var unaligned *unaligned
		if errors.As(err, &unaligned) {
			if err := s.alignments.learn(ctx, unaligned); err != nil {
				return err
			}
			continue
		}
		var unknown *unasked
		if !errors.As(err, &unknown) {
			return err
		}
		for _, job := range unknown.jobs {
			overlaps, err := s.job.Overlaps(ctx, job)
			if err != nil {
				return fmt.Errorf("ask whether job %d had ended: %w", job, err)
			}
			s.overlaps[job] = overlaps
		}
	}
}

// transact stores entries in one transaction.
func (s storing) transact(ctx context.Context, entries []store.Entry) ([]store.Result, error) {
	plan, err := newPlan(s.job, s.overlaps, s.alignments, entries)
	if err != nil {
		return nil, err
	}
	tx, err := s.engine.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	if err := plan.load(ctx, tx, s.lease); err != nil {
		return nil, err
	}
	changed, err := plan.decide(ctx, tx)
	if err != nil {
		return nil, err
	}
	if changed {
		if err := tx.Commit(ctx, &plan.changes, s.lease.Deadline); err != nil {
			return nil, err
		}
		s.pace.took(entries, plan.reviewed, tx.Busy())
	}
	results := make([]store.Result, len(entries))
	for i, e := range plan.entries {
		results[i] = e.result
	}
	return results, nil
}

// refuse records that the database does not take an item.
func (s storing) refuse(ctx context.Context, e store.Entry, reason string) error {
	var result store.Result
	err := s.retry(ctx, s.lease, func(ctx context.Context) error {
		tx, err := s.engine.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		state, err := tx.Load(ctx, s.lease, s.job, []int64{e.Number}, nil)
		if err != nil {
			return err
		}
		if first, ok := state.Decided[e.Number]; ok {
			result = first
			return nil
		}
		result = conclude([]annotation.Finding{{
			Code:     store.StoreRefused,
			Severity: annotation.Error,
			Message:  fmt.Sprintf("The database refuses this item: %s.", reason),
		}}, 0)
		encoded, err := EncodeFindings(result.Findings)
		if err != nil {
			return err
		}
		row := Row{Item: e.Number, Outcome: result.Outcome, Findings: encoded, Level: align.Exact}
		return tx.Commit(ctx, &Changes{Job: s.job, Items: []Row{row}}, s.lease.Deadline)
	})
	if err != nil {
		return fmt.Errorf("record that item %d is refused: %w", e.Number, err)
	}
	s.durable([]store.Result{result})
	return nil
}

// Unknown implements [store.Writer].
func (w *Writer) Unknown(ctx context.Context, keys []annotation.Key) ([]annotation.Key, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var unknown []annotation.Key
	err := Retry(ctx, w.fault, func(ctx context.Context) (err error) {
		if w.closed.Load() {
			return errClosed
		}
		unknown, err = w.engine.Unknown(ctx, keys)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for unknown documents: %w", err)
	}
	return unknown, nil
}

// Jobs implements [store.Writer].
func (w *Writer) Jobs(ctx context.Context, after int64, limit int) ([]int64, error) {
	if after < 0 || limit <= 0 {
		return nil, fmt.Errorf("list %d jobs after job %d: not a page", limit, after)
	}
	var jobs []int64
	err := Retry(ctx, w.fault, func(ctx context.Context) (err error) {
		if w.closed.Load() {
			return errClosed
		}
		jobs, err = w.engine.Jobs(ctx, after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, nil
}

// Forget implements [store.Writer].
func (w *Writer) Forget(ctx context.Context, jobs []int64, limit int) (bool, error) {
	if len(jobs) == 0 {
		return false, nil
	}
	if limit <= 0 || slices.Min(jobs) <= 0 {
		return false, fmt.Errorf("forget %d rows of jobs %v: not jobs", limit, jobs)
	}
	more := false
	err := Retry(ctx, w.fault, func(ctx context.Context) (err error) {
		if w.closed.Load() {
			return errClosed
		}
		more, err = w.engine.Forget(ctx, jobs, limit)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("forget jobs: %w", err)
	}
	return more, nil
}

// retry does something with the lease until it works, fails for good, or has failed for too long.
func (w *Writer) retry(ctx context.Context, lease store.Lease, do func(context.Context) error) error {
	return Retry(ctx, w.fault, func(ctx context.Context) error {
		if w.closed.Load() {
			return errClosed
		}
		if !time.Now().Before(lease.Deadline()) {
			return fmt.Errorf("%w: it has run out", store.ErrFenced)
		}
		return do(ctx)
	})
}

func (w *Writer) fault(err error) (Fault, string) {
	if errors.Is(err, store.ErrFenced) || errors.Is(err, errClosed) {
		return Broken, ""
	}
	return w.engine.Fault(err)
}
