package process

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallyman-dev/tallyman/worker"
)

// Serve has a handler handle the batches of an Isolated in another process, which is at the other end of in and out, until
// in ends. It returns when the handler has returned. A panic of the handler is not recovered: it ends the process, which
// the Isolated sees.
func Serve(ctx context.Context, in io.Reader, out io.Writer, h worker.Handler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	s := server{handler: h, gone: cancel, out: json.NewEncoder(out)}
	defer s.running.Wait()
	defer cancel(nil)
	decoder := gob.NewDecoder(in)
	for {
		var o order
		if err := decoder.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil // the worker is gone, or has no more
			}
			return fmt.Errorf("read order: %w", err)
		}
		s.follow(ctx, o)
	}
}

// server handles batches of another process's worker, one at a time.
type server struct {
	handler worker.Handler
	gone    context.CancelCauseFunc
	running sync.WaitGroup
	stop    context.CancelCauseFunc // of the batch in hand; nil before the first
	answers chan overlaps           // of the batch in hand

	deadline atomic.Int64 // of the lease, by the clock of the machine

	mu  sync.Mutex
	out *json.Encoder
}

// follow does what an order says.
func (s *server) follow(ctx context.Context, o order) {
	switch {
	case o.Batch != nil:
		s.running.Wait() // the one before has told its end, and is about to return
		handling, stop := context.WithCancelCause(ctx)
		answers := make(chan overlaps, 16)
		s.stop, s.answers = stop, answers
		s.running.Go(func() {
			defer stop(nil)
			s.handle(handling, o.Batch, answers)
		})
	case o.Deadline != 0:
		s.deadline.Store(int64(o.Deadline))
	case o.Overlaps != nil && s.answers != nil:
		select {
		case s.answers <- *o.Overlaps:
		default: // so many questions were given up
		}
	case s.stop != nil:
		cause, ok := kinds[o.Stop]
		if !ok {
			cause = context.Canceled
		}
		s.stop(cause)
	}
}

func (s *server) handle(ctx context.Context, b *worker.Batch, answers <-chan overlaps) {
	s.tell(notice{Begin: new(unknownSuspect)})
	var asking sync.Mutex
	b.Attach(worker.Remote{
		Begin: func(position int) { s.tell(notice{Begin: &position}) },
		Report: func(rest bool, results []worker.Result) {
			if rest {
				s.tell(notice{Rest: new(toResult(results[0]))})
				return
			}
			n := notice{Results: make([]result, len(results))}
			for i, r := range results {
				n.Results[i] = toResult(r)
			}
			s.tell(n)
		},
		Deadline: func() time.Time { return time.Now().Add(time.Duration(s.deadline.Load()) - machineTime()) },
		Overlaps: func(ctx context.Context, job int64) (bool, error) {
			asking.Lock()
			defer asking.Unlock()
			s.tell(notice{Overlaps: &job})
			for {
				select {
				case answer := <-answers:
					if answer.Job == job { // else it is for a question that was given up
						return answer.Yes, answer.Verdict.told()
					}
				case <-ctx.Done():
					return false, context.Cause(ctx)
				}
			}
		},
	})
	v := tell(s.handler.Handle(ctx, b))
	s.tell(notice{Done: &v})
}

// tell tells the worker's process something. When that is gone nothing is worth doing any more.
func (s *server) tell(n notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.out.Encode(n); err != nil {
		s.gone(fmt.Errorf("%w: tell the worker's process: %w", worker.ErrLeaseLost, err))
	}
}
