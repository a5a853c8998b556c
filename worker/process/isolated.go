package process

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/worker"
)

// Isolated is a handler whose batches another one handles, in processes of their own: those that a command starts and that
// call Serve with it. What kills such a process kills no worker: the item that the handler had begun with (Batch.Begin)
// is the suspect, or, when it had begun with none, the batch. It is safe for concurrent use.
type Isolated struct {
	handler *Handler
}

var _ worker.Handler = (*Isolated)(nil)

// maxNotice bounds a line of what an isolated handler tells, in bytes: hundreds of results with all that each may have.
const maxNotice = 256 << 20

// NewIsolated returns a handler that must be closed. Of the config it uses Command, Dir, Env, BatchTimeout, StopTimeout,
// MaxMemory, Stderr and Logger. It is for Linux; elsewhere it is an error.
func NewIsolated(config Config) (*Isolated, error) {
	if !isolates {
		return nil, errors.New("handlers can be isolated on Linux only")
	}
	config.Mode, config.MaxAnswer, config.Ready, config.Envelope, config.Output = Stream, maxNotice, false, false, Discard
	config.memorySetting = SettingIsolatedMemory
	h, err := New(config)
	if err != nil {
		return nil, err
	}
	return &Isolated{handler: h}, nil
}

// Close ends the processes that wait for a batch. No batch may be handled meanwhile or after.
func (i *Isolated) Close() error { return i.handler.Close() }

// Handle has a batch handled. Its error is that of the handler, or a worker.Crash when its process died.
func (i *Isolated) Handle(ctx context.Context, b *worker.Batch) error {
	h := i.handler
	defer h.enter()()
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	for deaths := 1; ; deaths++ {
		c, err := h.take("", b)
		if err != nil {
			return err
		}
		if c.orders == nil {
			c.orders = newOrders()
		}
		a := isolated{child: c, batch: b, at: unknownSuspect}
		ended, err := a.handle(ctx)
		switch {
		case ended: // it waits for the next batch
			h.keep(c)
		case ctx.Err() != nil && limitOf(ctx) == nil:
			c.stop()
		default:
			c.discard()
		}
		idle, ok := errors.AsType[*idleDeathError](err)
		if !ok {
			return err
		}
		if idle.exit.signal == "" && idle.exit.code == exitTemporary {
			return worker.Unavailable(err)
		}
		if deaths == maxIdleDeaths || ctx.Err() != nil {
			return err
		}
	}
}

// isolated is a batch that is handled in another process.
type isolated struct {
	child   *child
	batch   *worker.Batch
	taken   bool           // the process knows of it
	at      int            // position of the item that the handler has begun with
	waiting [][]byte       // orders that are not written yet
	writing bool           // one is being written
	told    time.Time      // the deadline that the process knows
	asking  sync.WaitGroup // questions of the handler's to the coordinator
}

// leaseLook is the time between two looks at the deadline of the lease, which heartbeats move.
const leaseLook = time.Second

// handle handles the batch. ended says that the process's handler has returned, so that it can have another batch.
func (a *isolated) handle(ctx context.Context) (ended bool, err error) {
	a.child.tail.mark()
	if err := errors.Join(a.renew(), a.order(order{Batch: a.batch})); err != nil {
		return false, err
	}
	look := time.NewTicker(leaseLook)
	defer look.Stop()
	asking, stop := context.WithCancel(ctx)
	defer a.asking.Wait()
	defer stop()
	answers := make(chan order)
	stopped := ctx.Done()
	var expired <-chan time.Time
	for {
		select {
		case l, ok := <-a.child.lines:
			if !ok {
				return false, a.died(ctx)
			}
			done, err := a.notice(asking, l.text, answers)
			if err != nil {
				return false, err
			}
			if done != nil {
				a.flush()
				return true, a.verdict(ctx, done)
			}
		case <-a.child.written: // an error of it is followed by the end of lines
			a.writing = false
			a.write()
		case answer := <-answers:
			if err := a.order(answer); err != nil {
				return false, err
			}
		case <-look.C:
			if err := a.renew(); err != nil {
				return false, err
			}
		case <-stopped:
			if limit := limitOf(ctx); limit != nil {
				a.child.kill(limit)
				<-a.child.ended
				return false, crash(a.child, a.at)
			}
			stopped = nil
			if err := a.order(order{Stop: cmp.Or(tell(context.Cause(ctx)).Kind, kindOther)}); err != nil {
				return false, err
			}
			timer := time.NewTimer(a.child.parent.config.StopTimeout)
			defer timer.Stop()
			expired = timer.C
		case <-expired:
			return false, context.Cause(ctx)
		}
	}
}

// verdict returns what the handler's error means here.
func (a *isolated) verdict(ctx context.Context, done *verdict) error {
	if ctx.Err() != nil && done.Error != "" {
		return context.Cause(ctx)
	}
	return done.told()
}

// died says what the end of the process means.
func (a *isolated) died(ctx context.Context) error {
	c := a.child
	switch {
	case ctx.Err() != nil && limitOf(ctx) == nil:
		return context.Cause(ctx)
	case c.trouble != nil:
		return fmt.Errorf("the isolated handler wrote a line of more than %d bytes", maxNotice)
	case !c.endsWithin(closeTimeout):
		return errors.New("the isolated handler closed its standard output and went on")
	case !a.taken:
		return &idleDeathError{exit: c.exit, words: lastWords(c), limit: c.killedFor()}
	case a.at >= 0:
		return fmt.Errorf("%s: %w", place(&a.batch.Items[a.at]), crash(c, a.at))
	default:
		return crash(c, unknownSuspect)
	}
}

// notice follows what the process tells. It returns what the handler has returned, once it has.
func (a *isolated) notice(asking context.Context, text []byte, answers chan<- order) (*verdict, error) {
	var n notice
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, fmt.Errorf("the isolated handler wrote %s, which nobody understands: %w", quote(text), err)
	}
	a.taken = true
	switch {
	case n.Begin != nil:
		a.at = unknownSuspect
		if *n.Begin >= 0 && *n.Begin < len(a.batch.Items) {
			a.at = *n.Begin
		}
	case n.Overlaps != nil:
		a.asking.Go(func() {
			yes, err := a.batch.Overlaps(asking, *n.Overlaps)
			select {
			case answers <- order{Overlaps: &overlaps{Job: *n.Overlaps, Yes: yes, Verdict: tell(err)}}:
			case <-asking.Done():
			}
		})
	case n.Rest != nil:
		a.batch.ReportRest(n.Rest.result())
	case len(n.Results) > 0:
		results := make([]worker.Result, len(n.Results))
		for i, r := range n.Results {
			results[i] = r.result()
		}
		a.batch.Report(results...)
	}
	return n.Done, nil
}

// renew tells the process the deadline of the lease when it has grown.
func (a *isolated) renew() error {
	deadline := a.batch.Deadline()
	if !deadline.After(a.told) {
		return nil
	}
	a.told = deadline
	return a.order(order{Deadline: machineTime() + time.Until(deadline)})
}

// order has an order written when those before it are.
func (a *isolated) order(o order) error {
	data, err := a.child.orders.bytes(o)
	if err != nil {
		return err
	}
	a.waiting = append(a.waiting, data)
	a.write()
	return nil
}

// flush waits until all orders are written. The process reads them, or is dead.
func (a *isolated) flush() {
	for a.writing {
		<-a.child.written
		a.writing = false
		a.write()
	}
}

func (a *isolated) write() {
	if a.writing || len(a.waiting) == 0 {
		return
	}
	a.writing = true
	a.child.writes <- a.waiting[0]
	a.waiting = a.waiting[1:]
}
