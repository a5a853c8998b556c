package server

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (c *coordinator) watch(ctx context.Context, jobID, after int64) pb.JobService_WatchJobClient {
	c.t.Helper()
	stream, err := c.jobs.WatchJob(ctx, &pb.WatchJobRequest{JobId: jobID, AfterRevision: after})
	c.must(err)
	return stream
}

func (c *coordinator) snapshot(stream pb.JobService_WatchJobClient) *pb.Job {
	c.t.Helper()
	m, err := stream.Recv()
	c.must(err)
	if m.GetJob() == nil {
		c.t.Fatal("a sign of life instead of a snapshot")
	}
	return m.GetJob()
}

func TestWatchIsMonotonicPacedAndEnds(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("watched"), lines(1, 200))
		session := c.register("w")
		worked := make(chan struct{})
		go func() {
			defer close(worked)
			for _, g := range c.claim(session, "r", 1000) {
				c.settle(session, completed(g))
				pass(13 * time.Millisecond)
			}
		}()
		stream := c.watch(c.ctx, up.GetJobId(), 0)
		var last *pb.Job
		var at []time.Time
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			c.must(err)
			j := m.GetJob()
			at = append(at, time.Now())
			if last != nil && j.GetRevision() <= last.GetRevision() {
				t.Errorf("revision %d after %d", j.GetRevision(), last.GetRevision())
			}
			p, before := j.GetProgress(), last.GetProgress()
			if p.GetItemsEnded() < before.GetItemsEnded() || p.GetItemsEnded() > p.GetItemsTotal() ||
				p.GetItemsEnded()+p.GetItemsOpen() != p.GetItemsTotal() || p.GetItemsInFlight() > p.GetItemsOpen() {
				t.Errorf("progress %v after %v", p, before)
			}
			last = j
		}
		<-worked
		if last.GetState() != pb.JobState_JOB_STATE_SUCCEEDED || last.GetProgress().GetItemsEnded() != 200 || last.GetEndedAt() == nil {
			t.Errorf("the last snapshot is %v", last)
		}
		if len(at) < 8 {
			t.Errorf("%d snapshots in %v", len(at), at[len(at)-1].Sub(at[0]))
		}
		for i := 10; i < len(at)-1; i++ { // the one of the end does not wait for its turn
			if at[i].Sub(at[i-10]) < time.Second {
				t.Errorf("11 snapshots within %v", at[i].Sub(at[i-10]))
			}
		}
		if n := len(c.log.lines(t, "job ended")); n != 1 {
			t.Errorf("%d log lines on the end", n)
		}
		m, err := c.watch(c.ctx, up.GetJobId(), last.GetRevision()).Recv()
		if !errors.Is(err, io.EOF) {
			t.Errorf("resumed after the last revision: %v, %v", m, err)
		}
	})
}

func TestWatchResumes(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("resumed"), lines(1, 4))
		session := c.register("w")
		ctx, cancel := context.WithCancel(c.ctx)
		stream := c.watch(ctx, up.GetJobId(), 0)
		seen := c.snapshot(stream)
		for seen.GetProgress().GetItemsTotal() != 4 || !seen.GetIngestDone() {
			seen = c.snapshot(stream)
		}
		cancel()
		stream = c.watch(c.ctx, up.GetJobId(), seen.GetRevision())
		for _, g := range c.claim(session, "r", 2) {
			c.settle(session, completed(g))
		}
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			c.must(err)
			if j := m.GetJob(); j != nil {
				if j.GetRevision() <= seen.GetRevision() {
					t.Errorf("revision %d after %d", j.GetRevision(), seen.GetRevision())
				}
				seen = j
			}
		}
		if seen.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("the last snapshot is %v", seen)
		}
	})
}

func TestWatchShowsSignsOfLife(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, Lease: time.Hour}, nil)
		up := c.submit(header("idle"), lines(1, 2))
		c.claimOne(c.register("w"), "r") // so that nothing is left to sweep
		pass(2 * time.Second)
		stream := c.watch(c.ctx, up.GetJobId(), 0)
		current := c.snapshot(stream)
		asked := time.Now()
		m, err := c.watch(c.ctx, up.GetJobId(), current.GetRevision()).Recv()
		c.must(err)
		if took := time.Since(asked); m.GetJob() != nil || took != 0 {
			t.Errorf("who goes on from the current snapshot got %v after %v, want a sign of life at once", m, took)
		}
		for range 3 {
			began := time.Now()
			m, err := stream.Recv()
			c.must(err)
			if took := time.Since(began); m.GetJob() != nil || took != 15*time.Second {
				t.Errorf("after %v: %v, want a sign of life after 15 s", took, m)
			}
		}
		_, err = c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
		c.must(err)
		asked = time.Now()
		if j := c.snapshot(stream); j.GetState() != pb.JobState_JOB_STATE_CANCELLING && j.GetState() != pb.JobState_JOB_STATE_CANCELLED {
			t.Errorf("after the cancel: %v", j)
		}
		if took := time.Since(asked); took != 0 {
			t.Errorf("the cancel was pushed after %v", took)
		}
	})
}

func TestWatchOfAJobThatIsNotThere(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		_, err := c.watch(c.ctx, 77, 0).Recv()
		c.wantError("watch", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.jobs.GetJob(c.ctx, &pb.GetJobRequest{JobId: 77})
		c.wantError("get", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: 77})
		c.wantError("cancel", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.jobs.DeleteJob(c.ctx, &pb.DeleteJobRequest{JobId: 77})
		c.wantError("delete", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.jobs.ListBatches(c.ctx, &pb.ListBatchesRequest{JobId: 77})
		c.wantError("list batches", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.jobs.ListFindings(c.ctx, &pb.ListFindingsRequest{JobId: 77})
		c.wantError("list findings", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.jobs.GetBatch(c.ctx, &pb.GetBatchRequest{BatchId: 77})
		c.wantError("get batch", err, codes.NotFound, "BATCH_NOT_FOUND")
		_, err = c.jobs.GetUpload(c.ctx, &pb.GetUploadRequest{UploadId: "none"})
		c.wantError("get upload", err, codes.NotFound, "UPLOAD_NOT_FOUND")
	})
}

// vanishing hides every job once it is told to, as deleting an ended one does.
type vanishing struct {
	store.Store
	gone  atomic.Bool
	reads atomic.Int64
}

func (v *vanishing) GetJob(ctx context.Context, id int64) (job.Job, error) {
	v.reads.Add(1)
	if v.gone.Load() {
		return job.Job{}, store.ErrNotFound
	}
	return v.Store.GetJob(ctx, id)
}

func TestWatchOfAJobThatIsDeleted(t *testing.T) {
	inMemory(t, func(t *scene) {
		v := &vanishing{}
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store { v.Store = s; return v })
		up := c.submit(header("deleted"), lines(1, 2))
		stream := c.watch(c.ctx, up.GetJobId(), 0)
		c.snapshot(stream)
		v.gone.Store(true)
		for {
			m, err := stream.Recv()
			if err == nil && m.GetJob() != nil {
				continue // snapshots from before
			}
			c.wantError("the stream", err, codes.NotFound, "JOB_NOT_FOUND")
			return
		}
	})
}

func TestWatchersCostOnePollForEachJob(t *testing.T) {
	inMemory(t, func(t *scene) {
		v := &vanishing{}
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store { v.Store = s; return v })
		up := c.submit(header("popular"), lines(1, 2))
		pass(time.Minute)
		v.reads.Store(0)
		for range 1000 {
			stream := c.watch(c.ctx, up.GetJobId(), 0)
			go func() {
				for {
					if _, err := stream.Recv(); err != nil {
						return
					}
				}
			}()
		}
		synctest.Wait()
		if n := v.reads.Load(); n > 1 {
			t.Errorf("1000 watchers that came at once read the job %d times", n)
		}
		v.reads.Store(0)
		pass(time.Minute)
		if n := v.reads.Load(); n > 60 {
			t.Errorf("1000 watchers read the job %d times in a minute, want at most one a second", n)
		}
	})
}

func TestDeletedJobIsHiddenAndRemoved(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("removed"), lines(1, 4))
		_, err := c.jobs.DeleteJob(c.ctx, &pb.DeleteJobRequest{JobId: up.GetJobId()})
		c.wantError("delete while open", err, codes.FailedPrecondition, "JOB_OPEN")
		_, err = c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
		c.must(err)
		if j := c.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_CANCELLED {
			t.Fatalf("ended as %v", j)
		}
		_, err = c.jobs.DeleteJob(c.ctx, &pb.DeleteJobRequest{JobId: up.GetJobId()})
		c.must(err)
		_, err = c.jobs.DeleteJob(c.ctx, &pb.DeleteJobRequest{JobId: up.GetJobId()})
		c.wantError("delete again", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.jobs.GetJob(c.ctx, &pb.GetJobRequest{JobId: up.GetJobId()})
		c.wantError("get afterwards", err, codes.NotFound, "JOB_NOT_FOUND")
		r, err := c.jobs.ListJobs(c.ctx, &pb.ListJobsRequest{})
		c.must(err)
		if len(r.GetJobs()) != 0 {
			t.Errorf("listed %v", r.GetJobs())
		}
		for more := true; more; {
			more, err = c.server.store.DeleteStep(c.ctx, 3)
			c.must(err)
		}
		if again := c.open(c.ctx, header("removed")); again.first.GetJobId() == up.GetJobId() || again.at != 0 {
			t.Errorf("the upload is still there: %v", again.first)
		}
	})
}
