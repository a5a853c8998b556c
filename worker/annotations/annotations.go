// Package annotations is the handler of batches of kind "annotations": it validates each item and stores it in an
// annotation store.
//
// An attempt first raises its batch's fence in the store, so that whatever an earlier attempt still does changes nothing
// there. Then it goes through the items that are not done, a stretch at a time: those that are invalid are rejected, the
// others are stored, in as few transactions as the store finds right, and each is reported, in order, once it is
// committed. An item that an earlier attempt stored without having told gives its first answer again.
//
// Where there is a source for its sourcedb, a document that the store does not know gets its text from there: package
// source. No transaction is open meanwhile.
package annotations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

// Store is the annotation store, as far as the handler needs it.
type Store interface {
	// Writer returns a writer for the jobs of the coordinators' database with this id.
	Writer(ctx context.Context, cluster string) (store.Writer, error)
}

// Handler stores annotations. It is safe for concurrent use.
type Handler struct {
	// MinAlignment is the share of an item's text that must align with that of its document where this does not hold it:
	// above 0, up to 1; 0 means [store.DefaultMinAlignment]. It is set before the handler is used.
	MinAlignment float64

	store   Store
	sources Sources

	mu      sync.Mutex
	cluster string
	writer  store.Writer // of cluster; nil before Prepare
}

var (
	_ worker.Handler   = (*Handler)(nil)
	_ worker.Preparer  = (*Handler)(nil)
	_ worker.Forgetter = (*Handler)(nil)
)

// New returns a handler that stores in st, and asks sources, of which there may be none, for documents that st does not
// know. It is closed before st and the sources.
func New(st Store, sources Sources) *Handler { return &Handler{store: st, sources: sources} }

// Close ends the writing. No batch may be handled meanwhile or after.
func (h *Handler) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writer == nil {
		return nil
	}
	w := h.writer
	h.writer = nil
	if err := w.Close(); err != nil {
		return fmt.Errorf("close annotation writer: %w", err)
	}
	return nil
}

// Prepare finds out whether the store is one for this coordinators' database: store.ErrOwner.
func (h *Handler) Prepare(ctx context.Context, clusterID string) error {
	_, err := h.writerFor(ctx, clusterID)
	return err
}

func (h *Handler) writerFor(ctx context.Context, cluster string) (store.Writer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writer != nil {
		if h.cluster != cluster {
			return nil, store.ErrOwner
		}
		return h.writer, nil
	}
	w, err := h.store.Writer(ctx, cluster)
	if err != nil {
		return nil, fmt.Errorf("open annotation writer: %w", err)
	}
	h.writer, h.cluster = w, cluster
	return w, nil
}

// stretchBytes is how many bytes of items are taken at a time, so that what is parsed of a large batch need not be held
// all at once.
const stretchBytes = 4 << 20

// Handle validates and stores the items of a batch. Its errors are those of the store, which are worth another attempt
// and accuse nobody while the store, or a source of documents, is unavailable, the cause of ctx, or a permanent one for a
// job that this handler cannot serve.
func (h *Handler) Handle(ctx context.Context, b *worker.Batch) error {
	a, err := h.begin(ctx, b)
	if err != nil {
		return err
	}
	for items, first := b.Open(), b.Done; len(items) > 0; {
		n, bytes := 0, 0
		for n < len(items) && (n == 0 || bytes+len(items[n].Data) <= stretchBytes) {
			bytes += len(items[n].Data)
			n++
		}
		if err := a.stretch(ctx, items[:n], first); err != nil {
			return ended(ctx, err)
		}
		items, first = items[n:], first+n
	}
	return nil
}

// begin begins an attempt: nothing that an earlier one at the batch still does changes anything from then on.
func (h *Handler) begin(ctx context.Context, b *worker.Batch) (*attempt, error) {
	options := annotation.Options{DefaultSourceDB: b.DefaultSourceDB, SourceIDFromName: b.SourceIDFromName}
	if err := options.Validate(); err != nil {
		return nil, worker.Permanent(fmt.Errorf("read the job's settings: %w", err))
	}
	if !slices.Contains(store.Modes(), b.Mode) {
		return nil, worker.Permanent(fmt.Errorf("this worker does not know mode %q; it knows %s", b.Mode,
			strings.Join(store.Modes(), ", ")))
	}
	w, err := h.writerFor(ctx, b.ClusterID)
	if err != nil {
		return nil, ended(ctx, err)
	}
	a := attempt{
		batch: b, writer: w, options: options, sources: h.sources, report: b.Report,
		lease: store.Lease{Batch: b.ID, Attempt: b.Attempt, Job: b.JobID, Deadline: b.Deadline, Ancestors: b.Ancestors},
		job:   store.Job{ID: b.JobID, Project: b.Project, Mode: b.Mode, Overlaps: b.Overlaps, MinAlignment: h.MinAlignment},
	}
	if err := w.Begin(ctx, a.lease); err != nil {
		return nil, ended(ctx, err)
	}
	return &a, nil
}

// ended tells the end of a context from what it made of a call.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, store.ErrFenced) {
		// The worker may not know it yet. If the coordinator sees it otherwise, this attempt has failed.
		return fmt.Errorf("%w: %w", worker.ErrLeaseLost, err)
	}
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, source.ErrUnavailable) {
		return worker.Unavailable(err)
	}
	return err
}

// attempt is one at one batch.
type attempt struct {
	batch   *worker.Batch
	writer  store.Writer
	options annotation.Options
	sources Sources
	lease   store.Lease
	job     store.Job
	report  func(...worker.Result)
	known   map[int]worker.Result // of items, by their position in the batch, that have nothing to store
}

// stretch handles some items, which begin at a position in the batch. It has reported all of them when it returns nil.
func (a *attempt) stretch(ctx context.Context, items []payload.Item, first int) error {
	results := make([]worker.Result, len(items)) // no outcome: not known yet
	var entries []store.Entry
	var positions []int // of entries among items
	for i := range items {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.batch.Begin(first + i)
		if r, ok := a.known[first+i]; ok {
			results[i] = r
			continue
		}
		it, findings := a.options.For(items[i].File).Parse(items[i].Data)
		if it == nil {
			results[i] = worker.Result{Outcome: worker.Rejected, Findings: told(findings)}
			continue
		}
		entries = append(entries, store.Entry{Number: items[i].Number, Item: it, Warnings: findings})
		positions = append(positions, i)
	}
	a.batch.Begin(-1) // from here on they are stored together
	reported := 0
	report := func() {
		known := reported
		for known < len(results) && results[known].Outcome != 0 {
			known++
		}
		a.report(results[reported:known]...)
		clear(results[reported:known])
		reported = known
	}
	report()
	if len(entries) == 0 {
		return nil
	}
	stored := 0
	return a.store(ctx, entries, func(rs []store.Result) {
		for _, r := range rs {
			results[positions[stored]] = worker.Result{Outcome: worker.Outcome(r.Outcome), Findings: told(r.Findings)}
			stored++
		}
		report()
	})
}

// told puts findings into the worker's form. The numbers of severities and outcomes are the protocol's on both sides.
func told(findings []annotation.Finding) []worker.Finding {
	if len(findings) == 0 {
		return nil
	}
	out := make([]worker.Finding, len(findings))
	for i, f := range findings {
		out[i] = worker.Finding{Severity: worker.Severity(f.Severity), Code: string(f.Code), Path: f.Path, Message: f.Message}
	}
	return out
}
