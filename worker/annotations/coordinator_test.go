package annotations_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/client"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/worker"
)

// site returns a client of a real coordinator, for which two workers store in the store that it returns.
func site(ctx context.Context, t *testing.T) (*client.Client, store.Store) {
	t.Helper()
	conn := coordinator(ctx, t)
	h, st := open(t)
	work(ctx, t, conn, h)
	return clientOf(t, conn), st
}

func clientOf(t *testing.T, conn *grpc.ClientConn) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// coordinator returns a connection to a real coordinator.
func coordinator(ctx context.Context, t *testing.T) *grpc.ClientConn {
	t.Helper()
	return coordinatorOf(ctx, t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "coordinator.db")})
}

func coordinatorOf(ctx context.Context, t *testing.T, config server.Config) *grpc.ClientConn {
	t.Helper()
	config.Migrate, config.Logger = true, logger(t)
	opened, err := server.Open(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	serving, stopServing := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := opened.Run(serving); err != nil {
			t.Errorf("coordinator: %v", err)
		}
	})
	t.Cleanup(func() {
		stopServing()
		running.Wait()
	})
	conn, err := opened.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // nothing is under way
	return conn
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}

// work has two workers handle batches until the test ends.
func work(ctx context.Context, t *testing.T, conn *grpc.ClientConn, h worker.Handler) {
	t.Helper()
	workAs(ctx, t, worker.Config{Conn: conn, Handlers: map[string]worker.Handler{pb.KindAnnotations: h}})
}

func workAs(ctx context.Context, t *testing.T, config worker.Config) {
	t.Helper()
	working, stopWorking := context.WithCancel(ctx)
	config.Slots, config.Logger = 2, logger(t)
	var workers sync.WaitGroup
	for range 2 {
		w, err := worker.New(config)
		if err != nil {
			t.Fatal(err)
		}
		workers.Go(func() {
			if err := w.Run(working); err != nil {
				t.Errorf("worker: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		stopWorking()
		workers.Wait()
	})
}

// submit uploads a file and returns its job when that has ended, and its items by outcome.
func submit(ctx context.Context, c *client.Client, file io.Reader, upload client.Upload) (*pb.Job, map[pb.Outcome]int64, error) {
	sent, err := c.Upload(ctx, file, upload)
	if err != nil {
		return nil, nil, err
	}
	return await(ctx, c, sent.JobID)
}

// await returns a job when it has ended, and its items by outcome.
func await(ctx context.Context, c *client.Client, id int64) (*pb.Job, map[pb.Outcome]int64, error) {
	var job *pb.Job
	for j, err := range c.Watch(ctx, id) {
		if err != nil {
			return nil, nil, err
		}
		job = j
	}
	outcomes := map[pb.Outcome]int64{}
	for _, o := range job.GetProgress().GetItemsByOutcome() {
		outcomes[o.GetOutcome()] += o.GetItems()
	}
	return job, outcomes, nil
}

// TestWithACoordinator has two workers store a generated collection that a real coordinator cuts into batches.
func TestWithACoordinator(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, st := site(ctx, t)
	var collection bytes.Buffer
	summary, err := sample.Generate(&collection, sample.Config{Documents: 150, Bad: 7})
	if err != nil {
		t.Fatal(err)
	}
	job, outcomes, err := submit(ctx, c, &collection, client.Upload{Project: "genes", FileName: "up.jsonl"})
	if err != nil {
		t.Fatal(err)
	}
	stored := outcomes[pb.Outcome_OUTCOME_STORED] + outcomes[pb.Outcome_OUTCOME_STORED_WITH_WARNINGS]
	n := count(t, st)
	got := []int64{job.GetProgress().GetItemsTotal(), stored, outcomes[pb.Outcome_OUTCOME_REJECTED], n.Documents, n.Annotations()}
	want := []int64{summary.Items, summary.Items - summary.Bad, summary.Bad, summary.Documents, summary.Annotations}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("items, stored, rejected, documents, annotations (-want +got)\n%s\n%v", d, job)
	}
	if job.GetState() != pb.JobState_JOB_STATE_COMPLETED_WITH_ERRORS {
		t.Errorf("the job ended as %v", job.GetState())
	}
}
