package server

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// labor claims for a session, a few batches at a time, until it is drained or all is over, and has work do them. It returns
// how often it was given some.
func (c *coordinator) labor(over context.Context, session int64, most int32, work func([]*pb.Grant)) (claims int) {
	ctx, drained := context.WithCancel(over)
	defer drained()
	b := c.beating(session)
	defer b.cut()
	if b.beat().GetDrain() {
		return 0
	}
	var told sync.WaitGroup
	defer told.Wait()
	told.Go(func() {
		for {
			if m, err := b.Recv(); err != nil || m.GetDrain() {
				drained()
				return
			}
		}
	})
	defer b.cut()
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, 45*time.Second)
		r, err := c.workers.ClaimBatches(call, &pb.ClaimBatchesRequest{
			SessionId: session, RequestId: strconv.Itoa(claims), MaxBatches: most,
		})
		cancel()
		if err != nil || len(r.GetGrants()) == 0 {
			continue
		}
		claims++
		work(r.GetGrants())
	}
	return claims
}

// One of four workers is bad: every batch dies on it, in a child process or with the worker itself.
func TestWorkerOnWhichEverythingDiesIsDrained(t *testing.T) {
	const pace = 100 * time.Millisecond
	// A verdict needs batches that completed elsewhere, which on a slow machine is later than the next death.
	elsewhere := func(c *coordinator, over context.Context, died *[]int64, grants []*pb.Grant) {
		for open := true; open && over.Err() == nil; {
			pass(pace)
			open = false
			for _, id := range *died {
				b, err := c.jobs.GetBatch(over, &pb.GetBatchRequest{BatchId: id})
				open = open || err == nil && b.GetBatch().GetState() != pb.BatchState_BATCH_STATE_COMPLETED
			}
		}
		for _, g := range grants {
			*died = append(*died, g.GetBatchId())
		}
	}
	for _, test := range []struct {
		name string
		bad  func(c *coordinator, over context.Context) (lives, claims int)
	}{
		{"children die", func(c *coordinator, over context.Context) (int, int) {
			session := c.register("bad")
			var batches []int64
			return 1, c.labor(over, session, 1, func(grants []*pb.Grant) {
				elsewhere(c, over, &batches, grants)
				for _, g := range grants {
					c.settle(session, &pb.Settlement{
						BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_DIED, FromItem: g.GetDoneItems(),
						Crash: &pb.Crash{Signal: "SIGSEGV", Suspect: 1},
					})
				}
			})
		}},
		{"the process dies and is started again", func(c *coordinator, over context.Context) (lives, claims int) {
			var batches []int64
			for over.Err() == nil {
				lives++
				life, dies := context.WithCancel(over)
				died := false
				claims += c.labor(life, c.register("bad"), 2, func(grants []*pb.Grant) {
					elsewhere(c, over, &batches, grants)
					died = true
					dies()
				})
				dies()
				if !died {
					return lives, claims
				}
			}
			return lives, claims
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			onBoth(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				up := c.submit(header("a"), lines(1, 200))
				over, end := context.WithCancel(c.ctx)
				defer end()
				var workers sync.WaitGroup
				for n := range 3 {
					session := c.register(fmt.Sprint("good", n))
					workers.Go(func() {
						c.labor(over, session, 1, func(grants []*pb.Grant) {
							pass(pace)
							for _, g := range grants {
								c.settle(session, completed(g))
							}
						})
					})
				}
				lives, claims := test.bad(c, over)
				if over.Err() == nil && (claims < 3 || claims > 8) {
					t.Errorf("the bad worker was drained after %d claims", claims)
				}
				j := c.ended(up.GetJobId())
				end()
				workers.Wait()

				if j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
					t.Errorf("the job is %v: %s", j.GetState(), j.GetReason())
				}
				if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 200}, outcomes(j)); diff != "" {
					t.Errorf("outcomes (-want +got):\n%s", diff)
				}
				w, err := c.admin.GetWorker(c.ctx, &pb.GetWorkerRequest{WorkerId: "bad"})
				c.must(err)
				if w.GetWorker().GetDrainReason() == "" || w.GetWorker().GetDrainedAt() == nil {
					t.Errorf("it is shown as %v", w.GetWorker())
				}
				if n := len(c.log.lines(t, "worker is drained, since everything dies on it")); n != 1 {
					t.Errorf("%d lines in the log, want 1", n)
				}
				st, err := c.admin.GetStatistics(c.ctx, &pb.GetStatisticsRequest{Window: durationpb.New(time.Hour)})
				c.must(err)
				if st.GetBatchesCrashed() != 0 || st.GetBatches() != 100 {
					t.Errorf("%d of %d batches count as crashed", st.GetBatchesCrashed(), st.GetBatches())
				}
				t.Logf("%d claims in %d lives", claims, lives)
			})
		})
	}
}
