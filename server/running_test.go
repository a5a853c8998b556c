package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// capped is the header of an upload of batches of one item each, of which so many run at the same time.
func capped(id, project string, running int32) *pb.UploadHeader {
	h := of(id, project, 0)
	h.Policy.MaxRunning = running
	return h
}

// jobsOf returns how many grants there are of each job.
func jobsOf(grants []*pb.Grant) map[int64]int {
	var order []int64
	for _, g := range grants {
		order = append(order, g.GetJobId())
	}
	return counts(order)
}

func (c *coordinator) wantJobs(what string, got []*pb.Grant, want map[int64]int) {
	c.t.Helper()
	if diff := cmp.Diff(want, jobsOf(got)); diff != "" {
		c.t.Errorf("%s: grants by job (-want +got):\n%s", what, diff)
	}
}

// fill claims until so many batches are held, or nothing more is given for as long as a claim waits.
func (c *coordinator) fill(session int64, name string, slots int32) (held []*pb.Grant) {
	c.t.Helper()
	for slots > int32(len(held)) {
		more := c.claim(session, name+string(rune('0'+len(held))), slots-int32(len(held)))
		if len(more) == 0 {
			return held
		}
		held = append(held, more...)
	}
	return held
}

// A job at its limit leaves the slots to others, and goes on as soon as one of its batches has ended, however that ends.
func TestRunningBatchesAreLimited(t *testing.T) {
	for _, test := range []struct {
		name    string
		cfg     Config
		running int32
		end     func(*pb.Grant) *pb.Settlement
	}{
		{"job, completed", Config{Lease: time.Hour}, 2, completed},
		{"job, released", Config{Lease: time.Hour}, 2, released},
		{"project, completed", Config{Lease: time.Hour, MaxRunningPerProject: 2}, 0, completed},
		{"project, released", Config{Lease: time.Hour, MaxRunningPerProject: 2}, 0, released},
	} {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *scene) {
				test.cfg.Database = t.database
				c := start(t, test.cfg, nil)
				session := c.register("w")
				limited := c.submit(capped("limited", "limited", test.running), lines(1, 20)).GetJobId()
				var other int64
				if test.running > 0 {
					other = c.submit(of("other", "other", 0), lines(1, 6)).GetJobId()
				} else {
					other = c.submit(of("other", "", 0), lines(1, 6)).GetJobId() // jobs without a project share none
				}
				held := c.fill(session, "first", 8)
				c.wantJobs("at first", held, map[int64]int{limited: 2, other: 6})

				// The other job has no more, so that a claim waits for the limited one.
				c.goesOn(session, "second", limited, test.end, held)

				c.must(c.halt())
				c = start(t, test.cfg, nil)
				if more := c.claim(session, "after-the-restart", 8); len(more) != 0 {
					t.Errorf("after a restart %d more are granted", len(more))
				}
			})
		})
	}
}

// goesOn has a claim wait, ends a held batch of a job, and wants one of next at once.
func (c *coordinator) goesOn(session int64, name string, next int64, end func(*pb.Grant) *pb.Settlement, held []*pb.Grant) {
	c.t.Helper()
	got := make(chan []*pb.Grant, 1)
	go func() { got <- c.claim(session, name, 8) }()
	pass(2700 * time.Millisecond) // it waits, between two looks
	select {
	case early := <-got:
		c.t.Fatalf("%d batches were granted past the limit", len(early))
	default:
	}
	began := time.Now()
	for _, g := range held {
		if g.GetJobId() == next {
			c.settle(session, end(g))
			break
		}
	}
	c.wantJobs(name, <-got, map[int64]int{next: 1})
	if took := time.Since(began); took > 0 {
		c.t.Errorf("it went on after %v, want at once", took)
	}
}

// A job of a project gets the room that another one leaves.
func TestProjectsShareTheirLimit(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, Lease: time.Hour, MaxRunningPerProject: 3}, nil)
		session := c.register("w")
		small := c.submit(of("small", "project", 0), lines(1, 1)).GetJobId()
		large := c.submit(of("large", "project", 0), lines(1, 20)).GetJobId()
		held := c.fill(session, "first", 3)
		c.wantJobs("at first", held, map[int64]int{small: 1, large: 2})
		got := make(chan []*pb.Grant, 1)
		go func() { got <- c.claim(session, "second", 8) }()
		pass(2700 * time.Millisecond)
		began := time.Now()
		for _, g := range held {
			if g.GetJobId() == small {
				c.settle(session, completed(g))
			}
		}
		c.wantJobs("then", <-got, map[int64]int{large: 1})
		if took := time.Since(began); took > 0 {
			t.Errorf("the other job went on after %v, want at once", took)
		}
	})
}

// A worker at one coordinator waits for a batch that runs at another one.
func TestLimitsHoldAcrossCoordinators(t *testing.T) {
	t.Parallel()
	database := pgtest.DSN(t, "coordinator", postgres.Migrate)
	here, there := start(t, Config{Database: database}, nil), start(t, Config{Database: database}, nil)
	id := here.submit(capped("limited", "project", 1), lines(1, 3)).GetJobId()
	mine, theirs := here.register("here"), there.register("there")
	held := here.claimOne(mine, "first")
	for _, request := range []string{"second", "third"} {
		got := make(chan []*pb.Grant, 1)
		go func(c *coordinator, session int64) { got <- c.claim(session, request, 8) }(there, theirs)
		here.settle(mine, completed(held))
		next := <-got
		if len(next) != 1 || next[0].GetJobId() != id {
			t.Fatalf("got %v, want one batch", next)
		}
		here, there, mine, theirs, held = there, here, theirs, mine, next[0]
	}
	here.settle(mine, completed(held))
	if j := here.ended(id); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
		t.Errorf("ended as %v", j)
	}
}
