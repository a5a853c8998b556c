package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// of returns the header of an upload for a project, of batches of one item each.
func of(id, project string, priority int32) *pb.UploadHeader {
	h := header(id)
	h.Project, h.Priority, h.Policy.BatchItems = project, priority, 1
	return h
}

// work claims and completes batches one at a time, each taking a second, until n have been, and returns the jobs that
// they were of, in order. A batch that was not tried before is given back once, if again says so.
func (c *coordinator) work(session int64, name string, n int, again func(*pb.Grant) bool) (order []int64) {
	c.t.Helper()
	for i := range n {
		g := c.claimOne(session, fmt.Sprint(name, i))
		order = append(order, g.GetJobId())
		pass(time.Second)
		end := completed(g)
		if g.GetAttempt() == 1 && again(g) {
			end = &pb.Settlement{BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_RELEASED}
		}
		c.settle(session, end)
	}
	return order
}

func never(*pb.Grant) bool { return false }

// counts returns how often each job comes up.
func counts(order []int64) map[int64]int {
	m := map[int64]int{}
	for _, id := range order {
		m[id]++
	}
	return m
}

// A small job waits for its turns, not for the large one before it, also when all batches came back once, and when the
// coordinator is restarted in between.
func TestSmallJobBehindALargeOne(t *testing.T) {
	for _, test := range []struct {
		name  string
		again bool
	}{{"fresh batches", false}, {"returned batches", true}} {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				large := c.submit(of("large", "large-project", 0), lines(1, 500)).GetJobId()
				again := func(*pb.Grant) bool { return test.again }
				session := c.register("w")
				c.work(session, "before", 100, again)
				small := c.submit(of("small", "small-project", 0), lines(1, 10)).GetJobId()
				// A job of the same project as the large one takes turns with it.
				sibling := c.submit(of("sibling", "large-project", 0), lines(1, 10)).GetJobId()
				attempts := 10
				if test.again {
					attempts = 20
				}
				first := c.work(session, "meanwhile", attempts, again)

				c.must(c.halt())
				c = start(t, Config{Database: t.database}, nil)
				first = append(first, c.work(session, "after", attempts, again)...)
				got := counts(first)
				if diff := cmp.Diff(map[int64]int{small: attempts, large: attempts / 2, sibling: attempts / 2}, got); diff != "" {
					t.Errorf("attempts of small, large and sibling = %d, %d, %d (-want +got):\n%s", small, large, sibling, diff)
				}
				if j := c.ended(small); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
					t.Errorf("the small job ended as %v", j)
				}
			})
		})
	}
}

// Whatever came back of a job, no batch of it is given while one of a higher priority is there.
func TestPrioritiesAreObeyed(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		session := c.register("w")
		low := c.submit(of("low", "low-project", -1), lines(1, 30)).GetJobId()
		returned := c.claim(session, "returned", 10)
		for _, g := range returned {
			c.settle(session, &pb.Settlement{BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_RELEASED})
		}
		middle := c.submit(of("middle", "other-project", 0), lines(1, 10)).GetJobId()
		high := c.submit(of("high", "low-project", 7), lines(1, 10)).GetJobId()
		first := c.work(session, "first", 5, never)
		c.must(c.halt())
		c = start(t, Config{Database: t.database}, nil)
		order := append(first, c.work(session, "then", 45, never)...)
		var want []int64
		for _, x := range []struct {
			id int64
			n  int
		}{{high, 10}, {middle, 10}, {low, 30}} {
			for range x.n {
				want = append(want, x.id)
			}
		}
		if diff := cmp.Diff(want, order); diff != "" {
			t.Errorf("the jobs of batches in the order of their claims (-want +got):\n%s", diff)
		}
	})
}

// What a backoff kept away is found within a poll, whether or not somebody waited all the time.
func TestBackoffIsNoticed(t *testing.T) {
	for _, waiting := range []bool{true, false} {
		t.Run(fmt.Sprint("waiting ", waiting), func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				c.submit(header("fails"), lines(1, 2))
				session := c.register("w")
				g := c.claimOne(session, "1")
				c.settle(session, &pb.Settlement{BatchId: g.GetBatchId(), Attempt: 1, End: pb.AttemptEnd_ATTEMPT_END_FAILED, Retryable: true})
				if !waiting {
					pass(1500 * time.Millisecond)
				}
				began := time.Now()
				if again := c.claimOne(session, "2"); again.GetAttempt() != 2 {
					t.Errorf("got %v", again)
				}
				most := 2100 * time.Millisecond // a backoff of a second at most, and a poll
				if !waiting {
					most = 0
				}
				if took := time.Since(began); took > most {
					t.Errorf("claimed after %v, want %v at most", took, most)
				}
			})
		})
	}
}
