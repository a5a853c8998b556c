package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Handler handles batches of one kind.
type Handler interface {
	// Handle handles the items of a batch that are not done yet, and reports each, in order, as it becomes durable.
	//
	// It returns nil when it has reported them all. After an error the batch is tried again later, by this or another
	// worker and without what was reported, unless the error is wrapped by Permanent or the job's attempts are used up;
	// then the items that were not reported end as failed. A panic is such an error; the process goes on. An error that is
	// wrapped by Unavailable uses no attempt up. A Crash says that a process of the handler's has died over an item, which
	// is then looked for.
	//
	// When ctx ends Handle must return soon and change nothing more. context.Cause(ctx) says why: ErrLeaseLost,
	// ErrJobCancelled, ErrJobPaused or ErrDraining. What it reported until then counts, but for ErrLeaseLost.
	//
	// The same items may be handled again, also while a call that lost its lease has not returned. An effect must
	// therefore be one that can be repeated, or be fenced by Batch.Attempt.
	Handle(ctx context.Context, b *Batch) error
}

// Preparer is a Handler that must be ready before the first batch is claimed.
type Preparer interface {
	// Prepare is told the id of the coordinators' database, as in Batch.ClusterID. Its error ends the worker. It is
	// called once for each kind that the handler serves.
	Prepare(ctx context.Context, clusterID string) error
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, b *Batch) error

var _ Handler = HandlerFunc(nil)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, b *Batch) error { return f(ctx, b) }

// Batch is a run of items that one handler handles under one lease. Its fields are the handler's to read only.
type Batch struct {
	ID         int64
	Attempt    int32 // the fencing token: a later attempt has a greater one
	JobID      int64
	Kind       string
	Project    string // empty for kinds that need none
	Mode       string
	Parameters map[string]string // of the job

	DefaultSourceDB string // the sourcedb of items that have none
	// SourceIDFromName says that items which have no sourceid have the name of their file as such.
	SourceIDFromName bool
	ClusterID        string // names the coordinators' database

	// Ancestors are the batches that this one was split from, after they crashed; none of their attempts may write any more.
	Ancestors []int64
	Solo      bool // it killed a worker's process before, so that this worker holds nothing else

	Items []payload.Item
	Done  int // items at the front whose outcome is final; they must not be handled again

	progress *progress
	deadline func() time.Time
	job      func(ctx context.Context, id int64) (*pb.Job, error) // nil without a coordinator
	remote   *Remote                                              // instead of all these, in another process
}

// Open returns the items that are to be handled: those that are not done.
func (b *Batch) Open() []payload.Item { return b.Items[b.Done:] }

// Deadline returns when the lease ends as known now, by this process's monotonic clock. It grows as the lease is renewed.
// It may be called at any time from any goroutine.
func (b *Batch) Deadline() time.Time {
	if b.remote != nil {
		return b.remote.Deadline()
	}
	return b.deadline()
}

// Report says that the next items, in order, have become durable with these results: their effect is committed where it
// belongs and will not be handled again. It never blocks for long. It may be called from any goroutine, one at a time,
// and does nothing once Handle has returned. More results than items, or an outcome that is none, make the batch fail.
func (b *Batch) Report(results ...Result) { b.report(false, results) }

// ReportRest says of all items that are left what Report says of one, for a handler that has one answer for all of them:
// they end with r's outcome, r's findings are about the first of them, and r's value is what was made of all together. It
// becomes durable as a whole. Otherwise it is as Report.
func (b *Batch) ReportRest(r Result) { b.report(true, []Result{r}) }

func (b *Batch) report(rest bool, results []Result) {
	if b.remote != nil {
		b.remote.Report(rest, results)
		return
	}
	b.progress.report(rest, results)
}

// Try runs a handler on a batch without a coordinator, as a worker would, for tests of handlers. It returns what was
// reported, by item, and the error with which the batch would have failed. The lease lasts until ctx's deadline or, without one,
// for an hour. To try what a handler does when its lease is lost, end ctx with that cause.
func Try(ctx context.Context, h Handler, b Batch) ([]Result, error) {
	if b.Done < 0 || b.Done > len(b.Items) {
		return nil, fmt.Errorf("%d of %d items are done", b.Done, len(b.Items))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reported []Result
	b.progress = newProgress(b.Items, b.Done, cancel, func(results []Result) { reported = append(reported, results...) })
	defer b.progress.close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Hour)
	}
	b.deadline = func() time.Time { return deadline }
	err := handle(ctx, h, &b)
	return reported, err
}

// panicError is what a handler's panic becomes.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string {
	return fmt.Sprintf("the handler panicked: %v\n%s", e.value, e.stack[:min(len(e.stack), maxStack)])
}

// maxStack bounds the stack in the message of a panic, in bytes.
const maxStack = 4 << 10

// handle runs a handler and returns nil only if it did all that a completed batch needs.
func handle(ctx context.Context, h Handler, b *Batch) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	err = h.Handle(ctx, b)
	returned = true
	done, misuse := b.progress.standing()
	switch {
	case misuse != nil:
		return misuse
	case err == nil && done < len(b.Items):
		return fmt.Errorf("the handler returned without reporting items %d to %d of the batch's %d",
			done+1, len(b.Items), len(b.Items))
	}
	return err
}

// errExited is the error of a handler that ended its goroutine.
var errExited = errors.New("the handler called runtime.Goexit")
