package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/store"
)

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// each calls a unary and a streaming method whose handlers end as f says.
func each(t *testing.T, p *probed, s *probe, f func() error, check func(t *testing.T, err error)) {
	t.Helper()
	s.get = func(context.Context, *pb.GetJobRequest) (*pb.GetJobResponse, error) {
		if err := f(); err != nil {
			return nil, err
		}
		return &pb.GetJobResponse{}, nil
	}
	s.beat = func(stream grpc.BidiStreamingServer[pb.HeartbeatRequest, pb.HeartbeatResponse]) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		return f()
	}
	t.Run("unary", func(t *testing.T) { check(t, p.get()) })
	t.Run("stream", func(t *testing.T) { check(t, p.beat(&pb.HeartbeatRequest{SessionId: 1})) })
}

var internal = answer{Code: codes.Internal, Message: "internal error; the coordinator's log says more", Reason: "INTERNAL", Domain: "tallyman"}

func TestPanicIsAnInternalErrorAndOneLine(t *testing.T) {
	s := &probe{}
	p := serve(t, s, nil, Limit{})
	for range 2 { // the process lives
		each(t, p, s, func() error { panic("the answer is 43") }, func(t *testing.T, err error) {
			t.Helper()
			if diff := cmp.Diff(internal, read(err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			lines := p.lines()
			if len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["panic"] != "the answer is 43" ||
				!strings.Contains(fmt.Sprint(lines[0]["stack"]), "interceptors_test.go") {
				t.Errorf("log lines %v", lines)
			}
		})
	}
}

func TestUnexpectedErrorIsNeutralAndOneLine(t *testing.T) {
	s := &probe{}
	p := serve(t, s, nil, Limit{})
	each(t, p, s, func() error { return fmt.Errorf("claim: %w", errors.New("pq: password of tallyman is wrong")) },
		func(t *testing.T, err error) {
			t.Helper()
			if diff := cmp.Diff(internal, read(err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			lines := p.lines()
			if len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["error"] != "claim: pq: password of tallyman is wrong" ||
				!strings.HasPrefix(fmt.Sprint(lines[0]["method"]), "/tallyman.v1.") {
				t.Errorf("log lines %v", lines)
			}
		})
}

func TestErrorsHaveTheirPlaceInTheProtocol(t *testing.T) {
	tests := []struct {
		err    error
		code   codes.Code
		reason string
		lines  int
	}{
		{nil, codes.OK, "", 0},
		{store.ErrSessionEnded, codes.FailedPrecondition, "SESSION_ENDED", 0},
		{store.ErrUploadFenced, codes.Aborted, "UPLOAD_FENCED", 0},
		{store.ErrUploadMismatch, codes.FailedPrecondition, "UPLOAD_MISMATCH", 0},
		{store.ErrJobOpen, codes.FailedPrecondition, "JOB_OPEN", 0},
		{store.ErrUnavailable, codes.Unavailable, "DATABASE_UNAVAILABLE", 1},
		{store.ErrFull, codes.Unavailable, "DATABASE_FULL", 1},
		{dispatch.ErrStopped, codes.Unavailable, "SHUTTING_DOWN", 0},
		{errDraining, codes.Unavailable, "SHUTTING_DOWN", 0},
		{context.Canceled, codes.Unavailable, "SHUTTING_DOWN", 0}, // the caller is there: it was not they who cancelled
		{context.DeadlineExceeded, codes.DeadlineExceeded, "", 0},
		{jobNotFound(7), codes.NotFound, "JOB_NOT_FOUND", 0},
		{invalid("field", "is %s", "wrong"), codes.InvalidArgument, "INVALID_ARGUMENT", 0},
		{gap("chunk.offset", 3, 2), codes.InvalidArgument, "OFFSET_GAP", 0},
	}
	s := &probe{}
	p := serve(t, s, nil, Limit{})
	for _, test := range tests {
		t.Run(fmt.Sprint(test.err), func(t *testing.T) {
			f := func() error {
				if test.err == nil {
					return nil
				}
				return fmt.Errorf("do: %w", test.err)
			}
			each(t, p, s, f, func(t *testing.T, err error) {
				t.Helper()
				if errors.Is(err, io.EOF) {
					err = nil
				}
				got := read(err)
				if got.Code != test.code || got.Reason != test.reason || test.reason != "" && got.Domain != pb.ErrorDomain {
					t.Errorf("got %+v, want %v %s", got, test.code, test.reason)
				}
				if lines := p.lines(); len(lines) != test.lines {
					t.Errorf("log lines %v, want %d", lines, test.lines)
				}
			})
		})
	}
}

func TestCancelledCallIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := rewrite(ctx, slog.New(slog.DiscardHandler), "method", fmt.Errorf("claim: %w", context.Canceled))
	if got := read(err); got.Code != codes.Canceled {
		t.Errorf("got %+v", got)
	}
}

func TestBadRequestsNameTheirFields(t *testing.T) {
	s := &probe{
		get: func(context.Context, *pb.GetJobRequest) (*pb.GetJobResponse, error) {
			panic("a bad request reached the handler")
		},
		beat: func(stream grpc.BidiStreamingServer[pb.HeartbeatRequest, pb.HeartbeatResponse]) error {
			for {
				if _, err := stream.Recv(); err != nil {
					return err
				}
			}
		},
	}
	p := serve(t, s, nil, Limit{})
	_, err := p.jobs.GetJob(t.Context(), &pb.GetJobRequest{JobId: -1})
	want := answer{
		Code: codes.InvalidArgument, Message: "job_id: must be a number above 0", Reason: "INVALID_ARGUMENT", Domain: "tallyman",
		Fields: []string{"job_id"},
	}
	if diff := cmp.Diff(want, read(err)); diff != "" {
		t.Errorf("unary (-want +got):\n%s", diff)
	}
	stream, err := p.workers.Heartbeat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*pb.HeartbeatRequest{{SessionId: 1}, {SessionId: 1, Leases: []*pb.LeaseBeat{{FromItem: -1}}}} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	_, err = stream.Recv()
	if got := read(p.beat(&pb.HeartbeatRequest{SessionId: 1, Leases: make([]*pb.LeaseBeat, pb.MaxLeases)})); len(got.Fields) != violationsShown {
		t.Errorf("a beat that is wrong in every part: %d fields, %v", len(got.Fields), got.Code)
	}
	wantFields := []string{"leases[0].batch_id", "leases[0].attempt", "leases[0].from_item"}
	if diff := cmp.Diff(wantFields, read(err).Fields); diff != "" || read(err).Reason != "INVALID_ARGUMENT" {
		t.Errorf("inside a stream: %v (-want +got):\n%s", err, diff)
	}
	if lines := p.lines(); len(lines) != 0 {
		t.Errorf("log lines %v", lines)
	}
}

// named knows a caller by what it says of itself.
func named(ctx context.Context) (access.Identity, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	names := md.Get("name")
	if len(names) != 1 {
		return access.Identity{}, fail(codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "who are you?")
	}
	return access.Identity{Name: names[0], Role: access.Worker}, nil
}

func TestAuthenticationRefusesAndTellsTheHandler(t *testing.T) {
	var caller access.Identity
	s := &probe{get: func(ctx context.Context, _ *pb.GetJobRequest) (*pb.GetJobResponse, error) {
		caller = access.By(ctx)
		return &pb.GetJobResponse{}, nil
	}}
	s.beat = func(grpc.BidiStreamingServer[pb.HeartbeatRequest, pb.HeartbeatResponse]) error {
		panic("a caller without a name reached the handler")
	}
	p := serve(t, s, named, Limit{})
	for how, err := range map[string]error{"unary": p.get(), "stream": p.beat(&pb.HeartbeatRequest{SessionId: 1})} {
		if got := read(err); got.Code != codes.Unauthenticated || got.Message != "who are you?" {
			t.Errorf("%s: %+v", how, got)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "name", "ann")
	if _, err := p.jobs.GetJob(ctx, &pb.GetJobRequest{JobId: 1}); err != nil || caller.Name != "ann" {
		t.Errorf("caller %+v, %v", caller, err)
	}
}

func TestRateLimitIsEachClientsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &probe{get: func(context.Context, *pb.GetJobRequest) (*pb.GetJobResponse, error) { return &pb.GetJobResponse{}, nil }}
		p := serve(t, s, named, Limit{PerSecond: 2, Burst: 3})
		calls := func(name string, n int) (refused int) {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "name", name)
			for range n {
				_, err := p.jobs.GetJob(ctx, &pb.GetJobRequest{JobId: 1})
				if err == nil {
					continue
				}
				refused++
				got := read(err)
				want := answer{
					Code: codes.ResourceExhausted, Reason: "RATE_LIMITED", Domain: "tallyman", Metadata: map[string]string{"setting": "rate-limit"},
				}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(answer{}, "Message")); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if !strings.Contains(got.Message, "rate-limit") || !strings.Contains(got.Message, "2 calls a second") {
					t.Errorf("message %q", got.Message)
				}
			}
			return refused
		}
		if got := calls("greedy", 10); got != 7 {
			t.Errorf("%d of 10 at once refused, want 7", got)
		}
		if got := calls("modest", 3); got != 0 {
			t.Errorf("%d of another client's refused", got)
		}
		pass(time.Second)
		if got := calls("greedy", 3); got != 1 {
			t.Errorf("%d of 3 refused a second later, want 1", got)
		}
	})
}

func TestRateLimiterForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Limit{PerSecond: 1, Burst: 1})
		limit := func(name string) error {
			return l.Limit(access.With(t.Context(), access.Identity{Name: name}))
		}
		if limit("first") != nil || limit("first") == nil {
			t.Fatal("the second call at once was not refused, or the first was")
		}
		for i := range 3 * clientsKept {
			if err := limit(fmt.Sprint("client-", i)); err != nil {
				t.Fatal(err)
			}
			if len(l.seen) > clientsKept {
				t.Fatalf("%d clients kept, at most %d wanted", len(l.seen), clientsKept)
			}
		}
		clear(l.seen)
		for i := range clientsKept {
			if i == clientsKept/2 {
				pass(2 * time.Minute)
			}
			if err := limit(fmt.Sprint("client-", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := limit("newcomer"); err != nil || len(l.seen) != clientsKept/2+1 {
			t.Errorf("%d clients kept, want those of the last minute: %v", len(l.seen), err)
		}
		none := newLimiter(Limit{PerSecond: -1})
		for range 100 {
			if err := none.Limit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(none.seen) != 0 {
			t.Error("clients are kept although there is no limit")
		}
	})
}
