package worker_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

func TestConfigValidate(t *testing.T) {
	_, conn := serve(t)
	h := map[string]worker.Handler{kind: worker.HandlerFunc(storing)}
	for name, config := range map[string]worker.Config{
		"nothing":            {},
		"no coordinator":     {Handlers: h},
		"two ways":           {Handlers: h, Conn: conn, Address: "127.0.0.1:1"},
		"no port":            {Handlers: h, Address: "127.0.0.1"},
		"an empty address":   {Handlers: h, Address: "127.0.0.1:1,,127.0.0.1:2"},
		"no handler":         {Conn: conn},
		"nil handler":        {Conn: conn, Handlers: map[string]worker.Handler{kind: nil}},
		"bad kind":           {Conn: conn, Handlers: map[string]worker.Handler{"A B": worker.HandlerFunc(storing)}},
		"bad worker id":      {Conn: conn, Handlers: h, WorkerID: "two words"},
		"too many slots":     {Conn: conn, Handlers: h, Slots: 5000},
		"negative slots":     {Conn: conn, Handlers: h, Slots: -1},
		"negative drain":     {Conn: conn, Handlers: h, DrainTimeout: -1},
		"negative stop":      {Conn: conn, Handlers: h, StopTimeout: -1},
		"claim wait short":   {Conn: conn, Handlers: h, ClaimWait: time.Millisecond},
		"claim wait long":    {Conn: conn, Handlers: h, ClaimWait: time.Hour},
		"negative max bytes": {Conn: conn, Handlers: h, MaxPayloadBytes: -1},
	} {
		if _, err := worker.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHandlesBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		var batches []*batch
		for range 7 {
			batches = append(batches, c.add(4))
		}
		var now, most atomic.Int32
		var seen sync.Map
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			b.Report(worker.Result{Outcome: worker.Stored}, worker.Result{Outcome: worker.Stored})
			b.Report(worker.Result{Outcome: worker.Rejected, Findings: []worker.Finding{{
				Severity: worker.SeverityError, Code: "SPAN_OUT_OF_RANGE", Path: "denotations[3].span.end", Message: "It ends too late.",
			}}})
			b.Report(worker.Result{Outcome: worker.Skipped})
			seen.Store(b.ID, *b)
			return nil
		})
		r := start(t, conn, h, worker.Config{Slots: 3, ExitWhenIdle: true, WorkerID: "bench-1", Version: "v1"})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			if b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED || b.attempt != 1 || b.ends != 1 {
				t.Errorf("batch %d: %v after %d attempts", b.id, b.end, b.attempt)
			}
			want := []pb.Outcome{pb.Outcome_OUTCOME_STORED, pb.Outcome_OUTCOME_STORED, pb.Outcome_OUTCOME_REJECTED, pb.Outcome_OUTCOME_SKIPPED}
			if d := cmp.Diff(want, b.outcomes); d != "" {
				t.Errorf("batch %d: outcomes (-want +got)\n%s", b.id, d)
			}
			if len(b.findings) != 1 {
				t.Fatalf("batch %d: findings %v", b.id, b.findings)
			}
			f := b.findings[0]
			got := []any{f.GetPosition(), f.GetFinding().GetItem(), f.GetFinding().GetFile(), f.GetFinding().GetLine(),
				f.GetFinding().GetOffset(), f.GetFinding().GetDocument(), f.GetFinding().GetCode(), f.GetFinding().GetPath()}
			if d := cmp.Diff([]any{int32(2), int64(3), "up.jsonl", int64(5), int64(200), "PMC:2", "SPAN_OUT_OF_RANGE",
				"denotations[3].span.end"}, got); d != "" {
				t.Errorf("batch %d: finding (-want +got)\n%s", b.id, d)
			}
		}
		if n := most.Load(); n > 3 {
			t.Errorf("%d handlers at a time, want at most 3", n)
		}
		v, ok := seen.Load(int64(1))
		if !ok {
			t.Fatal("batch 1 was not handled")
		}
		b := v.(worker.Batch)
		if b.JobID != 3 || b.Kind != kind || b.Project != "project" || b.Mode != "replace" || b.DefaultSourceDB != "PMC" ||
			b.ClusterID != "cluster" || b.Parameters["model"] != "small" || string(b.Items[1].Data) != `{"item":1}` {
			t.Errorf("batch %+v", b)
		}
		if c.registered.GetWorkerId() != "bench-1" || r.ID() != "bench-1" || c.registered.GetSlots() != 3 ||
			c.registered.GetVersion() != "v1" || c.registered.GetPid() == 0 {
			t.Errorf("registered as %v", c.registered)
		}
		if !c.deregistered {
			t.Error("not deregistered")
		}
		if err := r.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
	})
}

func TestDoneItemsAreNotHandledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b, all := c.add(5), c.add(2)
		b.outcomes = []pb.Outcome{pb.Outcome_OUTCOME_REJECTED, pb.Outcome_OUTCOME_REJECTED}
		all.outcomes = slices.Clone(b.outcomes)
		var handled []string
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			for _, it := range b.Open() {
				handled = append(handled, string(it.Data))
			}
			return storing(ctx, b)
		})
		if err := start(t, conn, h, worker.Config{ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{`{"item":2}`, `{"item":3}`, `{"item":4}`}, handled); d != "" {
			t.Errorf("handled (-want +got)\n%s", d)
		}
		for _, b := range []*batch{b, all} {
			if b.end.GetFromItem() != 2 || b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED || len(b.outcomes) != b.items {
				t.Errorf("batch %d ended with %v", b.id, b.end)
			}
		}
	})
}

func TestHandlerFailures(t *testing.T) {
	tests := map[string]struct {
		handle    worker.HandlerFunc
		message   string
		retryable bool
		outcomes  int
		logged    string
	}{
		"error": {
			handle: func(_ context.Context, b *worker.Batch) error {
				b.Report(worker.Result{Outcome: worker.Stored})
				return errBroken
			},
			message: errBroken.Error(), retryable: true, outcomes: 1, logged: "handler failed",
		},
		"permanent error": {
			handle:  func(context.Context, *worker.Batch) error { return worker.Permanent(errBroken) },
			message: errBroken.Error(), logged: "handler failed",
		},
		"panic": {
			handle: func(_ context.Context, b *worker.Batch) error {
				b.Report(worker.Result{Outcome: worker.Stored}, worker.Result{Outcome: worker.Stored})
				panic(errBroken)
			},
			message: "the handler panicked: the model is not loaded\ngoroutine ", retryable: true, outcomes: 2, logged: "handler panicked",
		},
		"exit": {
			handle: func(context.Context, *worker.Batch) error {
				runtime.Goexit()
				return nil
			},
			message: "runtime.Goexit", retryable: true, logged: "handler failed",
		},
		"too few": {
			handle: func(_ context.Context, b *worker.Batch) error {
				b.Report(worker.Result{Outcome: worker.Stored})
				return nil
			},
			message: "without reporting items 2 to 3 of the batch's 3", retryable: true, outcomes: 1, logged: "handler failed",
		},
		"too many": {
			handle: func(ctx context.Context, b *worker.Batch) error {
				b.Report(make([]worker.Result, 4)...)
				b.Report(worker.Result{Outcome: worker.Stored}) // too late
				<-ctx.Done()
				return nil
			},
			message: "reported 4 items where 3 of the batch's 3 were left", retryable: true, logged: "handler failed",
		},
		"no outcome": {
			handle: func(ctx context.Context, b *worker.Batch) error {
				b.Report(worker.Result{Outcome: worker.Stored}, worker.Result{Outcome: worker.Outcome(pb.Outcome_OUTCOME_CRASHED)})
				<-ctx.Done()
				return nil
			},
			message: "reported crashed for item 2", retryable: true, logged: "handler failed",
		},
		"hostile text": {
			handle: func(context.Context, *worker.Batch) error {
				return errors.New("a\x00b\xff" + strings.Repeat("é", 20_000))
			},
			message: "a?b?éé", retryable: true, logged: "handler failed",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				b := c.add(3)
				healthy := c.add(1)
				h := worker.HandlerFunc(func(ctx context.Context, x *worker.Batch) error {
					if x.ID == b.id && x.Attempt == 1 {
						return test.handle(ctx, x)
					}
					return storing(ctx, x)
				})
				var first *pb.Settlement
				var outcomes int
				c.settled = func(s *pb.Settlement, _ *pb.SettleAnswer) {
					if s.GetBatchId() == b.id && first == nil {
						first, outcomes = s, len(b.outcomes)
					}
				}
				r := start(t, conn, h, worker.Config{ExitWhenIdle: true, Slots: 1})
				if err := r.wait(); err != nil {
					t.Fatal(err)
				}
				if first.GetEnd() != pb.AttemptEnd_ATTEMPT_END_FAILED || first.GetRetryable() != test.retryable {
					t.Errorf("settled with %v", first)
				}
				if !strings.Contains(first.GetMessage(), test.message) || len(first.GetMessage()) > 8<<10 {
					t.Errorf("message %q, want one with %q", first.GetMessage(), test.message)
				}
				if outcomes != test.outcomes {
					t.Errorf("%d outcomes, want %d", outcomes, test.outcomes)
				}
				if n := strings.Count(r.log.String(), test.logged); n != 1 {
					t.Errorf("logged %d times, want once:\n%s", n, r.log)
				}
				if healthy.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
					t.Errorf("the other batch ended with %v", healthy.end)
				}
			})
		})
	}
}

func TestRunWaitsForACoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		c.before = func(call string, n int) error {
			if call == "register" && n < 5 {
				return unavailable
			}
			return nil
		}
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if b.ends != 1 {
			t.Errorf("the batch ended %d times", b.ends)
		}
		if n := strings.Count(r.log.String(), "coordinator not reached"); n != 1 {
			t.Errorf("outage logged %d times:\n%s", n, r.log)
		}
	})
}

func TestRunEndsBeforeThereIsACoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.before = func(string, int) error { return unavailable }
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{})
		time.AfterFunc(time.Minute, r.stop)
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		if n := c.count("register"); n < 10 {
			t.Errorf("registered %d times in a minute", n)
		}
	})
}

func TestRefusalEndsRun(t *testing.T) {
	for _, call := range []string{"register", "claim", "heartbeat"} {
		synctest.Test(t, func(t *testing.T) {
			c, conn := serve(t)
			c.before = func(got string, _ int) error {
				if got == call {
					return status.Error(codes.PermissionDenied, "workers are not allowed here")
				}
				return nil
			}
			err := start(t, conn, worker.HandlerFunc(storing), worker.Config{}).wait()
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s: Run returned %v", call, err)
			}
		})
	}
}

// preparing is a handler that must be ready first.
type preparing struct {
	worker.HandlerFunc
	prepare func(context.Context, string) error
}

func (p preparing) Prepare(ctx context.Context, cluster string) error { return p.prepare(ctx, cluster) }

func TestPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.add(1)
		var clusters []string
		h := preparing{storing, func(_ context.Context, cluster string) error {
			clusters = append(clusters, cluster)
			return errBroken
		}}
		err := start(t, conn, h, worker.Config{}).wait()
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "prepare the handler of kind test") {
			t.Errorf("Run returned %v", err)
		}
		if !slices.Equal(clusters, []string{"cluster"}) || c.count("claim") != 0 || !c.deregistered {
			t.Errorf("prepared with %q, %d claims, deregistered %v", clusters, c.count("claim"), c.deregistered)
		}
	})
}

func TestPrepareThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn := serve(t)
		release := make(chan struct{})
		h := preparing{storing, func(context.Context, string) error {
			<-release
			return nil
		}}
		r := start(t, conn, h, worker.Config{StopTimeout: 2 * time.Second})
		synctest.Wait()
		r.stop()
		began := time.Now()
		if err := r.wait(); err == nil || !strings.Contains(err.Error(), "Prepare") {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("stopping took %v", took)
		}
		close(release)
	})
}

func TestExitWhenIdleWaitsForWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		h := worker.HandlerFunc(func(ctx context.Context, x *worker.Batch) error {
			if x.Attempt > 1 {
				return storing(ctx, x)
			}
			// Long enough for claims by the other slot to come back empty.
			timer := time.NewTimer(time.Minute)
			defer timer.Stop()
			select {
			case <-timer.C:
				return errBroken
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if err := start(t, conn, h, worker.Config{ExitWhenIdle: true, Slots: 2}).wait(); err != nil {
			t.Fatal(err)
		}
		if b.attempt != 2 || b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
			t.Errorf("after %d attempts: %v", b.attempt, b.end)
		}
	})
}
