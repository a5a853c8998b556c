package server

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
	"github.com/tallyman-dev/tallyman/worker"
)

func (c *coordinator) drain(worker string) *pb.Worker {
	c.t.Helper()
	r, err := c.admin.DrainWorker(c.ctx, &pb.DrainWorkerRequest{WorkerId: worker})
	c.must(err)
	return r.GetWorker()
}

func TestDrainedWorkerIsToldAtOnceAndTakesNoMore(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		b := c.beating(session)
		if m := b.beat(); m.GetDrain() {
			t.Error("drained before it was")
		}
		waiting := make(chan time.Duration, 1)
		go func() {
			began := time.Now()
			if g := c.claim(session, "1", 1); len(g) != 0 {
				t.Errorf("got %v", g)
			}
			waiting <- time.Since(began)
		}()
		pass(3 * time.Second)
		if w := c.drain("w"); w.GetSessionId() != session || w.GetDrainedAt() == nil {
			t.Errorf("drained %v", w)
		}
		if waited := <-waiting; waited != 3*time.Second {
			t.Errorf("the claim that waited was answered after %v", waited)
		}
		if m, err := b.Recv(); err != nil || !m.GetDrain() || m.GetSequence() != 0 {
			t.Errorf("pushed %v, %v", m, err)
		}
		if m := b.beat(); !m.GetDrain() {
			t.Errorf("the next answer is %v", m)
		}
		c.submit(header("a"), lines(1, 2))
		began := time.Now()
		if g := c.claim(session, "2", 1); len(g) != 0 || time.Since(began) < 40*time.Second {
			t.Errorf("a later claim got %v after %v, want nothing, and not at once", g, time.Since(began))
		}
		if g := c.claim(c.register("v"), "1", 1); len(g) != 1 {
			t.Errorf("another worker got %v", g)
		}
		_, err := c.admin.DrainWorker(c.ctx, &pb.DrainWorkerRequest{WorkerId: "x"})
		c.wantError("drain of nobody", err, codes.NotFound, "WORKER_NOT_FOUND")

		// It is remembered when the coordinator is another one.
		b.cut()
		c.must(c.halt())
		c = start(t, Config{Database: t.database}, nil)
		if m := c.beating(session).beat(); !m.GetDrain() {
			t.Errorf("after a restart the answer is %v", m)
		}
	})
}

func TestDrainAtAnotherCoordinator(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Database:          pgtest.DSN(t, "coordinator", postgres.Migrate),
		Lease:             3 * time.Second,
		HeartbeatInterval: 300 * time.Millisecond,
	}
	here, there := start(t, cfg, nil), start(t, cfg, nil)
	session := there.register("w")
	b := there.beating(session)
	b.beat()
	here.drain("w")
	for {
		m := b.beat()
		if m.GetDrain() {
			break
		}
		pass(m.GetNextInterval().AsDuration())
	}
}

// A worker that is drained finishes what it can, gives back the rest, and ends without an error.
func TestDrainedWorkerEnds(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := &tally{handled: map[int64]int{}}
		w, err := worker.New(worker.Config{
			Conn: c.conn, Handlers: map[string]worker.Handler{"probe": h}, Slots: 1, WorkerID: "w", DrainTimeout: time.Second,
		})
		c.must(err)
		ran := make(chan error, 1)
		go func() { ran <- w.Run(context.Background()) }()
		long := header("long")
		long.Policy.BatchItems = 100
		up := c.submit(long, lines(1, 200))
		pass(10*time.Second + 100*time.Millisecond)
		began := time.Now()
		c.drain("w")
		if err := <-ran; err != nil || !w.Drained() {
			t.Errorf("the worker ended with %v, drained %v", err, w.Drained())
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		r, err := c.admin.ListWorkers(c.ctx, &pb.ListWorkersRequest{IncludeEnded: true})
		c.must(err)
		if got := r.GetWorkers()[0]; got.GetEndReason() != "the worker was drained" || got.GetDrainedAt() == nil {
			t.Errorf("its session is %v", got)
		}
		batches, err := c.jobs.ListBatches(c.ctx, &pb.ListBatchesRequest{JobId: up.GetJobId()})
		c.must(err)
		b := batches.GetBatches()[0]
		if b.GetState() != pb.BatchState_BATCH_STATE_PENDING || b.GetFailures()+b.GetCrashes()+b.GetLosses() != 0 || b.GetDoneItems() < 30 {
			t.Errorf("what it held is %v", b)
		}
	})
}

// When at least half of the workers' streams break within a grace it is the network, else their workers died.
func TestManyBreaksAreTheNetworks(t *testing.T) {
	for _, test := range []struct {
		workers, breaks int
		apart           time.Duration
		want            string
	}{
		{workers: 1, breaks: 1, want: "died"},
		{workers: 2, breaks: 1, want: "died"},
		{workers: 2, breaks: 2, want: "lost"},
		{workers: 2, breaks: 2, apart: 4900 * time.Millisecond, want: "lost"},
		{workers: 2, breaks: 2, apart: 5100 * time.Millisecond, want: "died"},
		{workers: 5, breaks: 2, want: "died"},
		{workers: 5, breaks: 3, apart: 2 * time.Second, want: "lost"},
	} {
		t.Run(fmt.Sprintf("%d of %d within %v", test.breaks, test.workers, test.apart), func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				c.submit(header("many"), lines(1, 20))
				var streams []*beating
				for i := range test.workers {
					session := c.register(fmt.Sprint("w", i))
					b := c.beating(session)
					b.want(c.claimOne(session, "r"), goOn)
					streams = append(streams, b)
				}
				for i, b := range streams[:test.breaks] {
					if i > 0 {
						pass(test.apart)
					}
					b.cut()
				}
				pass(7 * time.Second)
				var got []string
				for _, line := range c.log.lines(t, "batch crashed") {
					got = append(got, fmt.Sprint(line["end"]))
				}
				var want []string
				for range test.breaks {
					want = append(want, test.want)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("ends (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Who reconnects within the grace keeps its leases, however many breaks there were.
func TestReconnectCallsTheGraceOff(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.submit(header("back"), lines(1, 2))
		session := c.register("w")
		g := c.claimOne(session, "r")
		b := c.beating(session)
		b.want(g, goOn)
		b.cut()
		pass(4900 * time.Millisecond)
		b = c.beating(session)
		for range 10 {
			b.want(g, goOn)
			pass(5 * time.Second)
		}
	})
}
