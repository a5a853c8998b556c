package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// work has the batch of a lease handled, and concludes it.
func (s *session) work(l *lease) {
	err := errExited
	began := time.Now()
	s.config.Meter.Began(s.metered(l))
	defer func() {
		s.finish(l, err)
		s.config.Meter.Ended(s.metered(l), s.endOf(l), time.Since(began))
	}()
	var b *Batch
	if b, err = s.load(l); err != nil || len(b.Open()) == 0 {
		return
	}
	err = errExited
	err = handle(l.ctx, s.config.Handlers[b.Kind], b)
}

// finish takes note that a handler has returned.
func (s *session) finish(l *lease, err error) {
	if panicked, ok := errors.AsType[*panicError](err); ok {
		s.log.Error("handler panicked", "job_id", l.grant.GetJobId(), "batch_id", l.batch, "attempt", l.attempt,
			"panic", fmt.Sprint(panicked.value), "stack", string(panicked.stack))
	} else if crash := crashOf(err); crash != nil && !interrupted(l.ctx) {
		s.log.Warn("the process of a handler died", "job_id", l.grant.GetJobId(), "batch_id", l.batch, "attempt", l.attempt,
			"signal", crash.Signal, "exit_code", crash.ExitCode, "fingerprint", crash.Fingerprint, "error", err)
	} else if err != nil && !interrupted(l.ctx) && !IsUnavailable(err) {
		s.log.Warn("handler failed", "job_id", l.grant.GetJobId(), "batch_id", l.batch, "attempt", l.attempt, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, l)
	if l.stuck != nil {
		l.stuck.Stop()
	}
	switch {
	case err == nil:
		s.rest.over()
	case IsUnavailable(err) && !interrupted(l.ctx):
		s.log.Warn("batch given back, since what its handler needs is not available", "job_id", l.grant.GetJobId(),
			"batch_id", l.batch, "attempt", l.attempt, "error", err, "rest", s.rest.begin(clean(err.Error(), pb.MaxTrouble)).Round(time.Millisecond))
	}
	if s.rest.trouble() != s.trouble {
		s.hasNews()
	}
	s.conclude(l, err)
	l.cancel(nil)
	s.notify()
}

// load makes the batch of a lease from its payload.
func (s *session) load(l *lease) (*Batch, error) {
	g := l.grant
	if s.config.Handlers[g.GetKind()] == nil {
		return nil, fmt.Errorf("this worker does not serve kind %q", g.GetKind())
	}
	frame := g.GetPayload()
	if len(frame) == 0 {
		var err error
		if frame, err = s.fetch(l); err != nil {
			return nil, fmt.Errorf("read batch: %w", err)
		}
	}
	g.Payload = nil // only this goroutine looks at it, and the items are what is needed from here on
	items, err := unpack(frame, g, s.config.MaxPayloadBytes)
	if err != nil {
		return nil, fmt.Errorf("unpack batch: %w", err)
	}
	if done := g.GetDoneItems(); len(items) != int(g.GetItemCount()) || done < 0 || int(done) > len(items) {
		return nil, fmt.Errorf("unpack batch: the payload has %d items, the grant speaks of %d with %d done",
			len(items), g.GetItemCount(), done)
	}
	var p *progress
	p = newProgress(items, int(g.GetDoneItems()), l.cancel, func([]Result) {
		if s.hasNews(); p.unacknowledged() > beatBytes {
			poke(s.beat)
		}
	})
	s.mu.Lock()
	l.progress = p
	if s.held[l.leaseKey] != l {
		p.close()
	}
	s.mu.Unlock()
	return &Batch{
		ID: l.batch, Attempt: l.attempt, JobID: g.GetJobId(), Kind: g.GetKind(), Project: g.GetProject(), Mode: g.GetMode(),
		Parameters: g.GetParameters(), DefaultSourceDB: g.GetDefaultSourcedb(),
		SourceIDFromName: g.GetSourceidFromName(), ClusterID: s.cluster,
		Ancestors: g.GetAncestors(), Solo: g.GetSolo(), Items: items, Done: int(g.GetDoneItems()), progress: p, deadline: l.until, job: s.job,
	}, nil
}

// unpack returns the items of a batch. The payload of a part of a split batch is that of the one that was cut first.
func unpack(frame []byte, g *pb.Grant, limit int64) ([]payload.Item, error) {
	if len(g.GetAncestors()) == 0 {
		return payload.Decode(frame, limit)
	}
	return payload.DecodeRange(frame, g.GetFirstItem(), int(g.GetItemCount()), limit)
}

// fetch reads a payload that did not come with the grant, for as long as the lease lasts.
func (s *session) fetch(l *lease) ([]byte, error) {
	again := s.repeat("read batch")
	for {
		frame, err := s.fetchOnce(l)
		if err == nil {
			again.worked()
			return frame, nil
		}
		if pb.ReasonOf(err) == pb.ErrorReason_ERROR_REASON_LEASE_LOST {
			s.lose(l, "the coordinator says so")
		}
		if l.ctx.Err() != nil {
			return nil, context.Cause(l.ctx)
		}
		if err := final(again.operation, err); err != nil {
			return nil, err
		}
		if !again.failed(l.ctx, err) {
			return nil, context.Cause(l.ctx)
		}
	}
}

func (s *session) fetchOnce(l *lease) ([]byte, error) {
	limit := s.config.MaxPayloadBytes
	if limit == 0 {
		limit = payload.DefaultLimit
	}
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	stream, err := s.api.ReadBatch(ctx, &pb.ReadBatchRequest{SessionId: s.id, BatchId: l.batch, Attempt: l.attempt},
		grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return nil, err
	}
	var frame []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return frame, nil
		}
		if err != nil {
			return nil, err
		}
		frame = append(frame, m.GetData()...)
		// What is compressed is no larger than what it decompresses to, but for a little.
		if int64(len(frame)) > limit+limit/64+1024 {
			return nil, status.Errorf(codes.OutOfRange, "the payload exceeds %s (%d bytes)", payload.LimitSetting, limit)
		}
	}
}
