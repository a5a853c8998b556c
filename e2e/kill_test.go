//go:build linux

package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// short are flags of serve by which leases end soon.
var short = []string{"--lease", "3s", "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms"}

// TestKillWorker kills one of two workers while it holds batches. Whether it still holds them when the kernel has
// stopped it is seen only then, so it may take more than one kill.
func TestKillWorker(t *testing.T) {
	t.Parallel()
	c := trial.undisturbed(t)
	s := postgresSite(t)
	s.serve(short...)
	s.work("survivor", "--slots", "2")
	victim := s.work("victim", "--slots", "2")
	job := s.upload(c.path, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 200}})

	held := make(map[int64]bool)
	eventually(t, jobTimeout, "the victim to hold a batch while it is stopped", func() bool {
		if client.Ended(s.job(job).GetState()) {
			t.Fatal("the job ended before the victim was caught")
		}
		victim.freeze()
		for _, b := range s.batches(job, tallymanv1.BatchState_BATCH_STATE_RUNNING) {
			if b.GetWorkerId() == "victim" && b.GetDoneItems() < b.GetItemCount() {
				held[b.GetBatchId()] = true
			}
		}
		if len(held) == 0 {
			victim.thaw()
		}
		return len(held) > 0
	})
	victim.kill()

	ended := s.await(job)
	s.checkTrial(ended, c)
	died := 0
	for _, b := range s.batches(job) {
		attempts := s.attempts(b.GetBatchId())
		if len(attempts) > 0 {
			died++
		}
		s.checkKilled(b, attempts, held[b.GetBatchId()])
	}
	// A settlement may have been under way when the victim was stopped. All of them at once would prove nothing.
	if died == 0 {
		t.Errorf("no attempt died, of %d batches held", len(held))
	}
	s.checkStoredOnce(job, c)
}

// checkKilled fails the test unless a batch that the victim did not hold was tried once, and one that died with it twice.
func (s *site) checkKilled(b *tallymanv1.Batch, attempts []*tallymanv1.Attempt, held bool) {
	s.t.Helper()
	type end struct {
		Attempt int32
		End     tallymanv1.AttemptEnd
		Worker  string
	}
	var got, want []end
	for _, a := range attempts {
		got = append(got, end{a.GetAttempt(), a.GetEnd(), a.GetWorkerId()})
	}
	tries := int32(1)
	if held && len(attempts) > 0 {
		tries, want = 2, []end{{1, tallymanv1.AttemptEnd_ATTEMPT_END_DIED, "victim"}}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("attempts of batch %d, held by the victim: %v (-want +got):\n%s", b.GetBatchId(), held, diff)
	}
	if b.GetAttempt() != tries || b.GetState() != tallymanv1.BatchState_BATCH_STATE_COMPLETED {
		s.t.Errorf("batch %d, held by the victim: %v, is %v after %d attempts, want completed after %d",
			b.GetBatchId(), held, b.GetState(), b.GetAttempt(), tries)
	}
}

// checkStoredOnce fails the test unless the store knows every good item of the job once, with all its annotations.
func (s *site) checkStoredOnce(job int64, c collection) {
	s.t.Helper()
	conn := s.connect()
	if got := value[int64](s.t, conn, `SELECT count(*) FROM store_items WHERE job_id = $1 AND outcome IN (1, 2)`, job); got != c.good() {
		s.t.Errorf("%d items are stored, want %d", got, c.good())
	}
	if got := value[int64](s.t, conn, `SELECT (SELECT count(*) FROM annotation_spans) +
		(SELECT count(*) FROM annotation_relations) + (SELECT count(*) FROM annotation_attributes)`); got != c.summary.Annotations {
		s.t.Errorf("%d annotations are stored, want %d", got, c.summary.Annotations)
	}
	checkFindings(s.t, s.findings(job), c.summary.Bad)
}

// findings returns the findings of a job that are errors.
func (s *site) findings(job int64) []*tallymanv1.Finding {
	s.t.Helper()
	var all []*tallymanv1.Finding
	for f, err := range s.client.Findings(s.t.Context(), &tallymanv1.ListFindingsRequest{
		JobId: job, Severity: tallymanv1.Severity_SEVERITY_ERROR, PageSize: 500,
	}) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// checkFindings fails the test unless as many items as are bad have errors, and none the same one twice.
func checkFindings(t *testing.T, findings []*tallymanv1.Finding, bad int64) {
	t.Helper()
	type place struct {
		item       int64
		code, path string
	}
	items, seen := make(map[int64]bool), make(map[place]bool)
	for _, f := range findings {
		p := place{f.GetItem(), f.GetCode(), f.GetPath()}
		if seen[p] {
			t.Errorf("item %d has %s at %q twice", p.item, p.code, p.path)
		}
		seen[p], items[p.item] = true, true
	}
	if int64(len(items)) != bad {
		t.Errorf("%d items have errors, want %d", len(items), bad)
	}
}
