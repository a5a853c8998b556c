package annotations_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/client"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
)

// telling is a handler that says when it has been told to forget.
type telling struct {
	*annotations.Handler
	forgot chan []int64
}

func (h telling) Forget(ctx context.Context, cluster string, jobs []int64) error {
	if err := h.Handler.Forget(ctx, cluster, jobs); err != nil {
		return err
	}
	h.forgot <- jobs
	return nil
}

// TestForget deletes a job and finds its records in the store gone, its annotations and those of others where they were.
func TestForget(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn := coordinatorOf(ctx, t, server.Config{
		Database: "sqlite:" + filepath.Join(t.TempDir(), "coordinator.db"), Lease: 300 * time.Millisecond,
	})
	h, st := open(t)
	told := telling{h, make(chan []int64, 100)}
	workAs(ctx, t, worker.Config{
		Conn: conn, Handlers: map[string]worker.Handler{pb.KindAnnotations: told}, ForgetInterval: 500 * time.Millisecond,
	})
	c := clientOf(t, conn)
	var lines strings.Builder
	for i := range 100 {
		fmt.Fprintln(&lines, item(strconv.Itoa(1000+i), 3))
	}
	var jobs []int64
	for range 3 {
		job, _, err := submit(ctx, c, strings.NewReader(lines.String()), client.Upload{
			Project: "genes", Mode: pb.ModeAdd, FileName: "up.jsonl", Policy: &pb.Policy{BatchWeight: 30},
		})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job.GetJobId())
	}
	before := count(t, st)
	if err := c.Delete(ctx, jobs[1]); err != nil {
		t.Fatal(err)
	}
	select {
	case gone := <-told.forgot:
		if d := cmp.Diff(jobs[1:2], gone); d != "" {
			t.Errorf("forgotten (-want +got)\n%s", d)
		}
	case <-ctx.Done():
		t.Fatal("nothing was forgotten")
	}
	left, err := h.Recorded(ctx, clusterOf(ctx, t, conn), 0, 10)
	if d := cmp.Diff([]int64{jobs[0], jobs[2]}, left); d != "" || err != nil {
		t.Errorf("recorded (-want +got)\n%s\n%v", d, err)
	}
	if d := cmp.Diff(before, count(t, st)); d != "" {
		t.Errorf("annotations (-before +after)\n%s", d)
	}
	if _, err := h.Recorded(ctx, "elsewhere", 0, 10); err == nil {
		t.Error("the jobs of another coordinator database were listed")
	}
	if err := h.Forget(ctx, "elsewhere", jobs); err == nil {
		t.Error("another coordinator database had jobs forgotten")
	}
}

// TestForgetEndsSoon interrupts the forgetting of many jobs.
func TestForgetEndsSoon(t *testing.T) {
	h, _ := open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	b := batchOf(item("1", 1))
	if _, err := worker.Try(ctx, h, b); err != nil {
		t.Fatal(err)
	}
	cancel(worker.ErrDraining)
	if err := h.Forget(ctx, b.ClusterID, []int64{1}); err == nil {
		t.Error("it was forgotten after the end")
	}
	if left, err := h.Recorded(t.Context(), b.ClusterID, 0, 10); len(left) != 1 || err != nil {
		t.Errorf("recorded: %v, %v", left, err)
	}
	if err := h.Forget(t.Context(), b.ClusterID, []int64{1}); err != nil {
		t.Error(err)
	}
	if left, err := h.Recorded(t.Context(), b.ClusterID, 0, 10); len(left) != 0 || err != nil {
		t.Errorf("recorded: %v, %v", left, err)
	}
}

// clusterOf returns the id of a coordinator's database.
func clusterOf(ctx context.Context, t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	_, err := pb.NewJobServiceClient(conn).GetJob(ctx, &pb.GetJobRequest{JobId: 1 << 40})
	return pb.InfoOf(err).GetMetadata()[pb.MetadataClusterID]
}
