package server

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

func TestRunEndsOpenStreams(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("streams"), lines(1, 2))
		beating := c.beating(c.register("w"))
		beating.beat()
		uploading := c.open(c.ctx, header("open"))
		watching := c.watch(c.ctx, up.GetJobId(), 0)
		c.snapshot(watching)
		silent, err := c.jobs.SubmitUpload(c.ctx)
		c.must(err)
		mute, err := c.workers.Heartbeat(c.ctx)
		c.must(err)
		health, err := grpc_health_v1.NewHealthClient(c.conn).Watch(c.ctx, &grpc_health_v1.HealthCheckRequest{})
		c.must(err)
		_, err = health.Recv()
		c.must(err)
		reflecting, err := grpc_reflection_v1.NewServerReflectionClient(c.conn).ServerReflectionInfo(c.ctx)
		c.must(err)
		c.must(reflecting.Send(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{ListServices: "*"}}))
		services, err := reflecting.Recv()
		c.must(err)
		if n := len(services.GetListServicesResponse().GetService()); n < 5 {
			t.Errorf("reflection lists %d services", n)
		}
		began := time.Now()
		// A client that holds a reflection stream open is cut when the time for the others is over.
		c.must(reflecting.CloseSend())
		c.must(c.halt())
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopping took %v", took)
		}
		for name, stream := range map[string]grpc.ClientStream{
			"heartbeat": beating, "upload": uploading, "watch": watching, "upload without a header": silent,
			"heartbeat without a beat": mute,
		} {
			var m any = new(pb.HeartbeatResponse)
			switch stream.(type) {
			case *upload, pb.JobService_SubmitUploadClient:
				m = new(pb.SubmitUploadResponse)
			case pb.JobService_WatchJobClient:
				m = new(pb.WatchJobResponse)
			}
			for err = nil; err == nil; {
				err = stream.RecvMsg(m)
			}
			c.wantError(name, err, codes.Unavailable, "SHUTTING_DOWN")
		}
	})
}

func TestRunCutsWhatDoesNotEnd(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, DrainTimeout: 3 * time.Second}, nil)
		reflecting, err := grpc_reflection_v1.NewServerReflectionClient(c.conn).ServerReflectionInfo(c.ctx)
		c.must(err)
		c.must(reflecting.Send(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{ListServices: "*"}}))
		if _, err = reflecting.Recv(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.must(c.halt())
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("stopping took %v, want the 3 s of the setting", took)
		}
		if _, err := reflecting.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

func TestRunAnswersCallsInFlight(t *testing.T) {
	inMemory(t, func(t *scene) {
		var slow atomic.Bool
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			return &away{Store: s, after: func() {
				if slow.Load() {
					pass(2 * time.Second)
				}
			}}
		})
		session := c.register("w")
		c.submit(header("flight"), lines(1, 2))
		slow.Store(true)
		got := make(chan []*pb.Grant, 1)
		go func() { got <- c.claim(session, "r", 1) }()
		pass(time.Second)
		c.must(c.halt())
		if g := <-got; len(g) != 1 {
			t.Errorf("the claim under way got %v", g)
		}
	})
}

// checked is a store whose check can be made to fail.
type checked struct {
	store.Store
	gone atomic.Bool
}

func (c *checked) Check(ctx context.Context) error {
	if c.gone.Load() {
		return fmt.Errorf("check: %w", store.ErrUnavailable)
	}
	return c.Store.Check(ctx)
}

func TestHealthFollowsTheDatabase(t *testing.T) {
	inMemory(t, func(t *scene) {
		db := &checked{}
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store { db.Store = s; return db })
		want := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
			t.Helper()
			synctest.Wait()
			r, err := grpc_health_v1.NewHealthClient(c.conn).Check(c.ctx, &grpc_health_v1.HealthCheckRequest{})
			c.must(err)
			if r.GetStatus() != want {
				t.Errorf("health %v, want %v", r.GetStatus(), want)
			}
		}
		want(grpc_health_v1.HealthCheckResponse_SERVING)
		db.gone.Store(true)
		pass(6 * time.Second)
		want(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		db.gone.Store(false)
		pass(6 * time.Second)
		want(grpc_health_v1.HealthCheckResponse_SERVING)
	})
}

func TestSessionsThatFellSilentEnd(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		silent, beating := c.register("silent"), c.beating(c.register("beats"))
		for range 90 { // 7.5 minutes
			beating.beat()
			pass(5 * time.Second)
		}
		r, err := c.admin.ListWorkers(c.ctx, &pb.ListWorkersRequest{})
		c.must(err)
		if len(r.GetWorkers()) != 1 || r.GetWorkers()[0].GetWorkerId() != "beats" {
			t.Errorf("workers %v", r.GetWorkers())
		}
		_, err = c.workers.ClaimBatches(c.ctx, &pb.ClaimBatchesRequest{SessionId: silent, RequestId: "r", MaxBatches: 1})
		c.wantError("claim of the silent one", err, codes.FailedPrecondition, "SESSION_ENDED")
	})
}

func TestProgressIsLoggedAtMostEveryTenSeconds(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.submit(header("logged"), lines(1, 120))
		session := c.register("w")
		beating := c.beating(session)
		grants := c.claim(session, "r", 60)
		for i, g := range grants { // a minute
			var open []*pb.LeaseBeat
			for _, g := range grants[i:] {
				open = append(open, renewal(g))
			}
			beating.beat(open...)
			c.settle(session, completed(g))
			pass(time.Second)
		}
		if n := len(c.log.lines(t, "job progress")); n < 4 || n > 6 {
			t.Errorf("%d lines in a minute", n)
		}
		if n := len(c.log.lines(t, "job ended")); n != 1 {
			t.Errorf("%d lines on its end", n)
		}
	})
}

func TestCancelOfALargeJobIsSweptAtOnce(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("large")
		h.Policy.BatchItems = 1
		up := c.submit(h, lines(1, 1200))
		asked := time.Now()
		_, err := c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
		c.must(err)
		j := c.ended(up.GetJobId())
		if took := time.Since(asked); took > time.Second {
			t.Errorf("it took %v of waiting", took)
		}
		if n := outcomes(j)[pb.Outcome_OUTCOME_CANCELLED]; n != 1200 {
			t.Errorf("%d items cancelled: %v", n, j)
		}
	})
}
