package annotations

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
)

// keeper takes what a handler reports of a batch, and reports it when its annotations are stored.
type keeper struct {
	batch   *worker.Batch
	attempt *attempt
	stop    context.CancelCauseFunc

	next int // position of the item that is reported next; of the handler's goroutine

	mu      sync.Mutex
	waiting []made
	bytes   int
	ended   bool
	changed chan struct{} // closed, and replaced, at each change
}

// handle has the batch handled, and what is reported stored beside it, until both have ended.
func (k *keeper) handle(ctx context.Context, h worker.Handler) error {
	b := with(k.batch, func(rest bool, results []worker.Result) { k.report(ctx, rest, results) })
	kept := make(chan error, 1)
	go func() {
		err := errPanicked
		defer func() {
			if v := recover(); v != nil { // what a worker does of a panic of the handler's
				err = fmt.Errorf("%w: %v\n%s", errPanicked, v, debug.Stack())
			}
			if err != nil {
				k.stop(err)
			}
			kept <- err
		}()
		err = k.keep(ctx)
	}()
	end := sync.OnceValue(func() error {
		k.change(func() { k.ended = true })
		return <-kept
	})
	defer end() //nolint:errcheck // it is for a panic of the handler
	err := h.Handle(ctx, b)
	if problem := end(); problem != nil {
		return problem
	}
	return err
}

var errPanicked = errors.New("the annotations could not be stored, which panicked")

// change changes what waits, and wakes who waits for that.
func (k *keeper) change(what func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	what()
	close(k.changed)
	k.changed = make(chan struct{})
}

// report takes what the handler says of the next items. It waits while too much waits to be stored.
func (k *keeper) report(ctx context.Context, rest bool, results []worker.Result) {
	if rest {
		k.reportRest(ctx, results[0])
		return
	}
	for _, r := range results {
		if r.Outcome == 0 {
			k.stop(errors.New("the handler reported an item without an outcome"))
			return
		}
		m := made{result: r}
		if value, ok := annotationsOf(r); ok && k.next < len(k.batch.Items) {
			m.object, m.result.Value = value, nil
		}
		k.put(ctx, m)
		k.next++
	}
}

// reportRest takes what it says of all items that are left.
func (k *keeper) reportRest(ctx context.Context, r worker.Result) {
	value, ok := annotationsOf(r)
	left := len(k.batch.Items) - k.next
	if !ok || left < 1 {
		k.put(ctx, made{result: r, rest: true})
		return
	}
	objects, ok := elements(value)
	switch {
	case !ok && left == 1:
		objects = []jsontext.Value{value}
	case !ok || len(objects) != left:
		k.stop(fmt.Errorf("the result is annotations of %d items together, which are to be an array of %[1]d: an object, or null "+
			"for nothing, for each item", left))
		return
	}
	for i, object := range objects {
		m := made{result: worker.Result{Outcome: r.Outcome}}
		if i == 0 {
			m.result.Findings = r.Findings
		}
		if string(object) != "null" {
			m.object = object
		}
		k.put(ctx, m)
		k.next++
	}
}

// put has something wait for the store, once there is room.
func (k *keeper) put(ctx context.Context, m made) {
	for {
		k.mu.Lock()
		room, changed := k.bytes < waitingBytes, k.changed
		k.mu.Unlock()
		if ctx.Err() != nil {
			return // nothing counts any more
		}
		if room {
			k.change(func() {
				k.waiting = append(k.waiting, m)
				k.bytes += m.size()
			})
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// take returns what waits, at most a stretch of it, and waits for it; nothing when all is done.
func (k *keeper) take(ctx context.Context) []made {
	for {
		k.mu.Lock()
		n, size := 0, 0
		for n < len(k.waiting) && (n == 0 || size+k.waiting[n].size() <= stretchBytes) {
			size += k.waiting[n].size()
			n++
		}
		taken := k.waiting[:n:n]
		k.waiting = k.waiting[n:]
		k.bytes -= size
		ended, changed := k.ended, k.changed
		k.mu.Unlock()
		if n > 0 {
			k.change(func() {})
		}
		if n > 0 || ended {
			return taken
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// keep stores and reports what the handler makes, in order, until that has ended.
func (k *keeper) keep(ctx context.Context) error {
	for position := k.batch.Done; ; {
		taken := k.take(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(taken) == 0 {
			return nil
		}
		if err := k.store(ctx, taken, position); err != nil {
			return ended(ctx, err)
		}
		position += len(taken)
	}
}

// store stores and reports what was made of the items from a position on.
func (k *keeper) store(ctx context.Context, taken []made, position int) error {
	n := 0 // that are of one item each
	for n < len(taken) && !taken[n].rest && position+n < len(k.batch.Items) {
		n++
	}
	single, others := taken[:n], taken[n:]
	items := make([]payload.Item, n)
	a := *k.attempt
	a.known = map[int]worker.Result{}
	for i := range single {
		items[i] = k.batch.Items[position+i]
		if single[i].object == nil {
			a.known[position+i] = single[i].result
			continue
		}
		items[i].Data = complete(single[i].object, items[i].Data)
	}
	a.report = func(results ...worker.Result) {
		for i := range results {
			results[i] = single[i].stored(results[i])
		}
		k.batch.Report(results...)
		single = single[len(results):]
	}
	if err := a.stretch(ctx, items, position); err != nil {
		return err
	}
	for _, m := range others {
		if m.rest {
			k.batch.ReportRest(m.result)
		} else {
			k.batch.Report(m.result) // of one item too many, which is the handler's mistake
		}
	}
	return nil
}
