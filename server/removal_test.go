package server

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// removed is how many batches are cancelled and removed while somebody beats.
const removed = 20_000

// TestRemovalOfALargeJobDelaysNoHeartbeat cancels a job of many batches in the middle and deletes it, in real time, while
// another job's lease is beaten for as fast as the answers come. A beat that waited for longer than the lease would
// lose it; how long beats did take is logged.
func TestRemovalOfALargeJobDelaysNoHeartbeat(t *testing.T) {
	t.Parallel()
	for engine, database := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db") },
		"postgres": func(t *testing.T) string { t.Helper(); return pgtest.DSN(t, "coordinator", postgres.Migrate) },
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			c := start(t, Config{Database: database(t), Lease: 5 * time.Second}, nil)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			c.ctx = ctx
			large := header("large")
			large.Policy.BatchItems = 1
			jobID := c.submit(large, lines(1, removed)).GetJobId()
			first := header("small")
			first.Priority = 1
			c.submit(first, lines(1, 1))
			session := c.register("w")
			small := c.claimOne(session, "small")

			b := c.beating(session)
			done := make(chan error, 1)
			go func() { done <- c.remove(ctx, jobID) }()
			var took []time.Duration
			for {
				began := time.Now()
				b.want(small, goOn)
				took = append(took, time.Since(began))
				select {
				case err := <-done:
					c.must(err)
					slices.Sort(took)
					t.Logf("%d beats while %d batches were cancelled and removed: median %v, 99 %% within %v, longest %v", len(took),
						removed, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
					return
				default:
				}
			}
		})
	}
}

// remove cancels a job, deletes it once it has ended, and returns when no row of it is left.
func (c *coordinator) remove(ctx context.Context, jobID int64) error {
	if _, err := c.jobs.CancelJob(ctx, &pb.CancelJobRequest{JobId: jobID}); err != nil {
		return err
	}
	stream, err := c.jobs.WatchJob(ctx, &pb.WatchJobRequest{JobId: jobID})
	if err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if _, err := c.jobs.DeleteJob(ctx, &pb.DeleteJobRequest{JobId: jobID}); err != nil {
		return err
	}
	for {
		if more, err := c.server.store.DeleteStep(ctx, 1000); err != nil || !more {
			return err
		}
	}
}
