package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// perished settles a grant as one whose process died of a signal, with an item at hand, from 0.
func perished(g *pb.Grant, position int32) *pb.Settlement {
	return &pb.Settlement{
		BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_DIED, Message: "it fell",
		Crash: &pb.Crash{Suspect: position + 1, Signal: "SIGSEGV", Stderr: "first\nlast words\n", PeakMemoryBytes: 1 << 20, Fingerprint: "f"},
	}
}

// A batch in which one item kills its process is split; the item is named by its second death, and tried again when
// somebody retries the batch that was split.
func TestCulpritIsNamedAndRetried(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("culprit"), lines(1, 4))
		session := c.register("w")
		name := 0
		work := func(perish bool) {
			for client := c.jobs; ; {
				resp, err := client.GetJob(c.ctx, &pb.GetJobRequest{JobId: up.GetJobId()})
				c.must(err)
				if s := resp.GetJob().GetState(); s != pb.JobState_JOB_STATE_RUNNING {
					return
				}
				name++
				for _, g := range c.claim(session, fmt.Sprint("r", name), 1) {
					last := g.GetFirstItem() + int64(g.GetItemCount()) - 1
					if perish && g.GetFirstItem() <= 3 && last >= 3 {
						c.settle(session, perished(g, int32(3-g.GetFirstItem())))
					} else {
						c.settle(session, completed(g))
					}
				}
			}
		}
		work(true)
		j := c.ended(up.GetJobId())
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_CRASHED: 1, pb.Outcome_OUTCOME_STORED: 3}, outcomes(j)); diff != "" {
			t.Fatalf("outcomes (-want +got):\n%s", diff)
		}
		found, err := c.jobs.ListFindings(c.ctx, &pb.ListFindingsRequest{JobId: up.GetJobId()})
		c.must(err)
		if f := found.GetFindings(); len(f) != 1 || f[0].GetItem() != 3 || !strings.HasSuffix(f[0].GetMessage(), ": it fell; its last words: last words") {
			t.Errorf("findings %v", f)
		}
		listed, err := c.jobs.ListBatches(c.ctx, &pb.ListBatchesRequest{JobId: up.GetJobId(), States: []pb.BatchState{pb.BatchState_BATCH_STATE_SPLIT}})
		c.must(err)
		if len(listed.GetBatches()) != 1 {
			t.Fatalf("split: %v", listed)
		}
		root := listed.GetBatches()[0]
		whole, err := c.jobs.GetBatch(c.ctx, &pb.GetBatchRequest{BatchId: root.GetBatchId()})
		c.must(err)
		crash := whole.GetAttempts()[0].GetCrash()
		if crash.GetSignal() != "SIGSEGV" || crash.GetPeakMemoryBytes() != 1<<20 || crash.GetSuspect() == 0 || whole.GetAttempts()[0].GetDecision() == "" {
			t.Errorf("attempts %v", whole.GetAttempts())
		}
		culprits := 0
		for _, b := range whole.GetFamily() {
			if b.GetState() == pb.BatchState_BATCH_STATE_CRASHED {
				culprits++
				if b.GetSuspectItem() != 3 || b.GetRootId() != root.GetBatchId() || b.GetItemCount() != 1 {
					t.Errorf("the culprit is %v", b)
				}
			}
		}
		if culprits != 1 {
			t.Errorf("the family is %v", whole.GetFamily())
		}

		c.retry(&pb.RetryJobRequest{JobId: up.GetJobId(), RequestId: "again", BatchIds: []int64{root.GetBatchId()}})
		work(false)
		if j := c.ended(up.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED || j.GetRun() != 2 || j.GetProgress().GetErrors() != 0 {
			t.Errorf("retried, it ended as %v", j)
		}
	})
}

// A batch all of whose items killed their process once has a family of several pages, and is found by each document in the
// part that holds it.
func TestLargeFamily(t *testing.T) {
	onBoth(t, func(t *scene) {
		const items = 120
		c := start(t, Config{Database: t.database}, nil)
		h := header("large")
		h.Kind, h.Policy = pb.KindAnnotations, &pb.Policy{BatchItems: items, BatchWeight: 10 * items}
		var file strings.Builder
		for n := range items {
			fmt.Fprintf(&file, "{\"sourcedb\":\"PubMed\",\"sourceid\":\"%d\",\"text\":\"Tea.\"}\n", n+1)
		}
		up := c.submit(h, []byte(file.String()))
		r, err := c.workers.RegisterWorker(c.ctx, &pb.RegisterWorkerRequest{WorkerId: "w", Kinds: []string{pb.KindAnnotations}, Slots: 1})
		c.must(err)
		root, deaths := int64(0), 0
		for name := 0; deaths < items-1; name++ {
			g := c.claimOne(r.GetSessionId(), fmt.Sprint("r", name))
			if root == 0 {
				root = g.GetBatchId()
			}
			if g.GetItemCount() > 1 {
				deaths++
				c.settle(r.GetSessionId(), perished(g, 0))
			} else {
				c.settle(r.GetSessionId(), completed(g))
			}
		}
		whole, err := c.jobs.GetBatch(c.ctx, &pb.GetBatchRequest{BatchId: root})
		c.must(err)
		if n := len(whole.GetFamily()); n != 1+2*deaths {
			t.Errorf("the family has %d batches, want %d", n, 1+2*deaths)
		}
		for _, n := range []int64{1, 77, items} {
			held, err := c.jobs.ListBatches(c.ctx, &pb.ListBatchesRequest{Document: fmt.Sprintf("PubMed:%d", n)})
			c.must(err)
			if b := held.GetBatches(); len(b) != 1 || b[0].GetFirstItem() != n || b[0].GetItemCount() != 1 || b[0].GetRootId() != root {
				t.Errorf("document %d is in %v", n, b)
			}
		}
		c.must(func() error {
			_, err := c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
			return err
		}())
	})
}

func TestWorkerThatIsNotHeardOfIsSilent(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.register("w")
		for _, want := range []bool{false, true} {
			list, err := c.admin.ListWorkers(c.ctx, &pb.ListWorkersRequest{})
			c.must(err)
			one, err := c.admin.GetWorker(c.ctx, &pb.GetWorkerRequest{WorkerId: "w"})
			c.must(err)
			if got := list.GetWorkers(); len(got) != 1 || got[0].GetSilent() != want || one.GetWorker().GetSilent() != want {
				t.Errorf("silent: %v and %v, want %v", got, one, want)
			}
			<-time.After(time.Minute) // longer than a lease, on the clock of the test
		}
	})
}
