package worker

import (
	"context"
	"time"
)

// Remote is what a batch has of the worker when it is handled in another process than the worker's. All of it may be called
// from any goroutine, and Report by one at a time.
type Remote struct {
	Begin    func(position int)
	Report   func(rest bool, results []Result) // rest: as ReportRest
	Deadline func() time.Time
	Overlaps func(ctx context.Context, job int64) (bool, error)
}

// Attach gives a batch that came from another process, as its exported fields, what it needs to be handled here. That what
// is reported is in order is for the worker's process to see.
func (b *Batch) Attach(r Remote) { b.remote = &r }

// Begin says that the handler begins with the item at this position of Items, or, below 0, with none: when the process in
// which it works dies, that item is the suspect. In the worker's own process it does nothing, since who dies there says
// nothing any more.
func (b *Batch) Begin(position int) {
	if b.remote != nil {
		b.remote.Begin(position)
	}
}
