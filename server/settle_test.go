package server

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func TestSettleFailuresAreRetriedThenEnd(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("fails"), lines(1, 2))
		session := c.register("w")
		fail := func(g *pb.Grant) *pb.SettleAnswer {
			return c.settle(session, &pb.Settlement{
				BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_FAILED, Retryable: true,
				Message: "the store said no",
			})
		}
		var last *pb.Grant
		for attempt := int32(1); attempt <= 3; attempt++ {
			began := time.Now()
			last = c.claimOne(session, fmt.Sprint("r", attempt))
			if last.GetAttempt() != attempt {
				t.Fatalf("claimed attempt %d, want %d", last.GetAttempt(), attempt)
			}
			if attempt > 1 && time.Since(began) < 400*time.Millisecond {
				t.Errorf("attempt %d began %v after the failure, want a backoff", attempt, time.Since(began))
			}
			want := pb.BatchState_BATCH_STATE_PENDING
			if attempt == 3 {
				want = pb.BatchState_BATCH_STATE_FAILED
			}
			for range 2 { // the second is a repetition
				if a := fail(last); a.GetBatchState() != want || a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED {
					t.Errorf("attempt %d: %v, want %v", attempt, a, want)
				}
			}
		}
		j := c.ended(up.GetJobId())
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_FAILED: 2}, outcomes(j)); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		failed := c.log.lines(t, "batch failed")
		if len(failed) != 3 || failed[0]["reason"] != "the store said no" {
			t.Errorf("log lines %v, want one for each attempt", failed)
		}
		st, err := c.admin.GetStatistics(c.ctx, &pb.GetStatisticsRequest{JobId: up.GetJobId()})
		c.must(err)
		if st.GetBatches() != 1 || len(st.GetFailures()) != 1 || st.GetFailures()[0].GetAttempts() != 3 {
			t.Errorf("statistics %v", st)
		}
	})
}

func TestSettleTooLateChangesNothing(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("late"), lines(1, 2))
		session := c.register("w")
		g := c.claimOne(session, "r")
		again := c.claimOne(c.register("other"), "r") // waits for the lease to run out
		if again.GetBatchId() != g.GetBatchId() || again.GetAttempt() != 2 {
			t.Fatalf("claimed %v", again)
		}
		before := c.batch(g.GetBatchId())
		if len(before.GetAttempts()) != 1 || before.GetAttempts()[0].GetEnd() != pb.AttemptEnd_ATTEMPT_END_LOST {
			t.Errorf("attempts %v, want one that was lost", before.GetAttempts())
		}
		if a := c.settle(session, completed(g)); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_LEASE_LOST {
			t.Errorf("late settle: %v", a)
		}
		if a := c.beating(session).beat(renewal(g)); a.GetLeases()[0].GetVerdict() != lost {
			t.Errorf("late beat: %v", a)
		}
		after := c.batch(g.GetBatchId()).GetBatch()
		if after.GetState() != pb.BatchState_BATCH_STATE_RUNNING || after.GetAttempt() != 2 || after.GetDoneItems() != 0 {
			t.Errorf("the batch became %v", after)
		}
		crashed := c.log.lines(t, "batch crashed")
		if len(crashed) != 1 || crashed[0]["end"] != "lost" || crashed[0]["batch_state"] != "pending" {
			t.Errorf("log lines %v", crashed)
		}
		if j := c.job(up.GetJobId()); len(j.GetLastCrashes()) != 1 || j.GetLastCrashes()[0].GetBatchId() != g.GetBatchId() {
			t.Errorf("last crashes %v", j.GetLastCrashes())
		}
	})
}

func TestSettleManyGetsAnAnswerEach(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("many"), lines(1, 8))
		session := c.register("w")
		grants := c.claim(session, "r", 4)
		slices.SortFunc(grants, func(a, b *pb.Grant) int { return int(a.GetBatchId() - b.GetBatchId()) })
		r := &pb.SettleBatchesRequest{SessionId: session}
		for i, g := range grants {
			s := completed(g)
			switch i {
			case 1:
				s.Attempt++
			case 2:
				s.Outcomes[0].Count++
			case 3:
				s.End, s.Outcomes = pb.AttemptEnd_ATTEMPT_END_RELEASED, nil
			}
			r.Settlements = append(r.Settlements, s)
		}
		resp, err := c.workers.SettleBatches(c.ctx, r)
		c.must(err)
		var got []string
		for _, a := range resp.GetAnswers() {
			got = append(got, fmt.Sprint(a.GetStatus(), " ", a.GetBatchState()))
		}
		want := []string{
			"SETTLE_STATUS_SETTLED BATCH_STATE_COMPLETED", "SETTLE_STATUS_LEASE_LOST BATCH_STATE_UNSPECIFIED",
			"SETTLE_STATUS_OUTCOMES_INCOMPLETE BATCH_STATE_UNSPECIFIED", "SETTLE_STATUS_SETTLED BATCH_STATE_PENDING",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		for i, s := range []*pb.Settlement{completed(grants[1]), completed(grants[2])} {
			if a := c.settle(session, s); a.GetBatchState() != pb.BatchState_BATCH_STATE_COMPLETED {
				t.Errorf("settled rightly afterwards, %d: %v", i, a)
			}
		}
		again := c.claimOne(session, "q")
		if again.GetBatchId() != grants[3].GetBatchId() {
			t.Errorf("claimed %v, want the released one", again)
		}
		c.settle(session, completed(again))
		if j := c.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("ended as %v", j)
		}
	})
}

func TestBatchThatCrashesTwiceAloneEnds(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("poison"), []byte(`{"n":1}`+"\n"))
		for attempt := range 2 {
			session := c.register("w")
			c.claimOne(session, fmt.Sprint("r", attempt))
		}
		c.register("w") // and the second has died, too
		j := c.ended(up.GetJobId())
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_CRASHED: 1}, outcomes(j)); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		if j.GetState() != pb.JobState_JOB_STATE_COMPLETED_WITH_ERRORS || len(j.GetLastCrashes()) != 2 {
			t.Errorf("ended as %v with last crashes %v", j.GetState(), j.GetLastCrashes())
		}
		crashed := c.log.lines(t, "batch crashed")
		if len(crashed) != 2 || crashed[1]["batch_state"] != "crashed" {
			t.Errorf("log lines %v", crashed)
		}
		workers, err := c.admin.ListWorkers(c.ctx, &pb.ListWorkersRequest{IncludeEnded: true})
		c.must(err)
		if len(workers.GetWorkers()) != 3 || workers.GetWorkers()[0].GetEndedAt() != nil || workers.GetWorkers()[1].GetEndedAt() == nil {
			t.Errorf("workers %v", workers.GetWorkers())
		}
	})
}

func TestSettlingBringsTheNextBatch(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("next")
		h.Policy = &pb.Policy{BatchItems: 1}
		up := c.submit(h, lines(1, 2))
		session := c.register("w")
		request := &pb.SettleBatchesRequest{
			SessionId: session, Settlements: []*pb.Settlement{completed(c.claimOne(session, "first"))},
			Claim: &pb.NextClaim{RequestId: "second", MaxBatches: 3},
		}
		var grants []*pb.Grant
		for range 2 { // the second is a repetition
			r, err := c.workers.SettleBatches(c.ctx, request)
			c.must(err)
			if a := r.GetAnswers(); len(a) != 1 || a[0].GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED {
				t.Fatalf("answers %v", a)
			}
			if r.GetWaited() == nil || len(r.GetGrants()) != 1 || len(r.GetGrants()[0].GetPayload()) == 0 {
				t.Fatalf("answered with %v, want one batch with its payload", r)
			}
			grants = append(grants, r.GetGrants()[0])
		}
		if grants[0].GetBatchId() != grants[1].GetBatchId() || grants[1].GetAttempt() != 1 {
			t.Errorf("granted %v, then %v", grants[0], grants[1])
		}
		began := time.Now()
		request.Settlements = []*pb.Settlement{completed(grants[0])}
		request.Claim.RequestId = "third"
		r, err := c.workers.SettleBatches(c.ctx, request)
		c.must(err)
		if took := time.Since(began); took > 0 || len(r.GetGrants()) > 0 || r.GetWaited() == nil {
			t.Errorf("without work it was answered with %v after %v", r, took)
		}
		if j := c.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("the job is %v", j)
		}
	})
}
