package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// failed settles a grant as given up.
func failed(g *pb.Grant, why string) *pb.Settlement {
	return &pb.Settlement{
		BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_FAILED, FromItem: g.GetDoneItems(), Message: why,
	}
}

// finished submits a job of one batch and ends it.
func (c *coordinator) finished(id string, session int64, how func(*pb.Grant) *pb.Settlement) int64 {
	c.t.Helper()
	jobID := c.submit(header(id), lines(1, 2)).GetJobId()
	c.settle(session, how(c.claimOne(session, id)))
	c.ended(jobID)
	return jobID
}

func givenUp(g *pb.Grant) *pb.Settlement { return failed(g, "no") }

// listed returns the ids of the jobs that are listed, the newest first.
func (c *coordinator) listed() []int64 {
	c.t.Helper()
	r, err := c.jobs.ListJobs(c.ctx, &pb.ListJobsRequest{})
	c.must(err)
	return idsOf(r.GetJobs())
}

func idsOf(jobs []*pb.Job) []int64 {
	var ids []int64
	for _, j := range jobs {
		ids = append(ids, j.GetJobId())
	}
	return ids
}

func TestOldJobsGo(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, Retention: 4 * time.Minute, RetentionWithErrors: 8 * time.Minute}, nil)
		session := c.register("w")
		good, bad := c.finished("good", session, completed), c.finished("bad", session, givenUp)
		open := c.submit(header("open"), lines(1, 2)).GetJobId()
		_, err := c.workers.DeregisterWorker(c.ctx, &pb.DeregisterWorkerRequest{SessionId: session})
		c.must(err)
		for _, step := range []struct {
			after time.Duration
			jobs  []int64
			held  int
		}{
			{3 * time.Minute, []int64{open, bad, good}, 1},
			{3 * time.Minute, []int64{open, bad}, 1},
			{time.Minute, []int64{open, bad}, 1},
			{3 * time.Minute, []int64{open}, 0},
			{3 * time.Minute, []int64{open}, 0},
		} {
			pass(step.after)
			if diff := cmp.Diff(step.jobs, c.listed()); diff != "" {
				t.Errorf("jobs (-want +got):\n%s", diff)
			}
			r, err := c.admin.ListWorkers(c.ctx, &pb.ListWorkersRequest{IncludeEnded: true})
			c.must(err)
			if n := len(r.GetWorkers()); n != step.held {
				t.Errorf("%d sessions are known, want %d", n, step.held)
			}
		}
		c.must(c.server.RemoveDeleted(c.ctx))
		if n := len(c.log.lines(t, "old jobs deleted")); n != 2 {
			t.Errorf("%d lines in the log, want 2", n)
		}
	})
}

func TestNothingGoesByItself(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		good, bad := c.finished("good", session, completed), c.finished("bad", session, givenUp)
		pass(5 * time.Minute)
		if diff := cmp.Diff([]int64{bad, good}, c.listed()); diff != "" {
			t.Errorf("jobs (-want +got):\n%s", diff)
		}
	})
}

func TestCleanup(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		var good []int64
		for _, id := range []string{"1", "2", "3"} {
			good = append(good, c.finished(id, session, completed))
		}
		bad := c.finished("4", session, givenUp)
		open := c.submit(header("5"), lines(1, 2)).GetJobId()
		clean := func(r *pb.CleanupJobsRequest) *pb.CleanupJobsResponse {
			t.Helper()
			answer, err := c.admin.CleanupJobs(c.ctx, r)
			c.must(err)
			return answer
		}
		now, succeeded := durationpb.New(0), []pb.JobState{pb.JobState_JOB_STATE_SUCCEEDED}
		if r := clean(&pb.CleanupJobsRequest{OlderThan: durationpb.New(time.Hour)}); len(r.GetJobs()) != 0 || r.GetNextPageToken() != "" {
			t.Errorf("jobs that ended an hour ago: %v", r)
		}
		dry := &pb.CleanupJobsRequest{OlderThan: now, DryRun: true, PageSize: 3}
		first := clean(dry)
		dry.PageToken = first.GetNextPageToken()
		second := clean(dry)
		if diff := cmp.Diff(append(good, bad), append(idsOf(first.GetJobs()), idsOf(second.GetJobs())...)); diff != "" ||
			len(second.GetJobs()) != 1 || second.GetNextPageToken() != "" {
			t.Errorf("a dry run: then %v (-want +got):\n%s", second, diff)
		}
		if diff := cmp.Diff([]int64{open, bad, good[2], good[1], good[0]}, c.listed()); diff != "" {
			t.Errorf("after a dry run (-want +got):\n%s", diff)
		}
		if r := clean(&pb.CleanupJobsRequest{OlderThan: now, States: succeeded, PageSize: 2}); r.GetNextPageToken() == "" ||
			!cmp.Equal(good[:2], idsOf(r.GetJobs())) || r.GetJobs()[0].GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("the first two: %v", r)
		}
		if r := clean(&pb.CleanupJobsRequest{OlderThan: now, States: succeeded, PageSize: 2}); r.GetNextPageToken() != "" ||
			!cmp.Equal(good[2:], idsOf(r.GetJobs())) {
			t.Errorf("the rest: %v", r)
		}
		if diff := cmp.Diff([]int64{open, bad}, c.listed()); diff != "" {
			t.Errorf("after the cleanup (-want +got):\n%s", diff)
		}
		_, err := c.jobs.GetJob(c.ctx, &pb.GetJobRequest{JobId: good[0]})
		c.wantError("a job that was cleaned up", err, codes.NotFound, "JOB_NOT_FOUND")
		c.must(c.server.RemoveDeleted(c.ctx))
		for name, r := range map[string]*pb.CleanupJobsRequest{
			"no age":       {},
			"negative age": {OlderThan: durationpb.New(-1)},
			"open state":   {OlderThan: now, States: []pb.JobState{pb.JobState_JOB_STATE_RUNNING}},
			"foreign page": {OlderThan: now, DryRun: true, PageToken: "x"},
			"large page":   {OlderThan: now, PageSize: 1001},
		} {
			_, err := c.admin.CleanupJobs(c.ctx, r)
			c.wantError(name, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
	})
}
