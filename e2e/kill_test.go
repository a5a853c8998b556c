//go:build linux

package e2e

import (
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// short are flags of serve by which leases end soon.
var short = []string{"--lease", "3s", "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms"}

// settled is how long a settlement that has been sent may take; a lease is much longer.
const settled = 300 * time.Millisecond

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

	eventually(t, jobTimeout, "the victim to hold a batch while it is stopped", func() bool {
		if client.Ended(s.job(job).GetState()) {
			t.Fatal("the job ended before the victim was caught")
		}
		victim.freeze()
		// What it had sent before may still settle everything.
		if !within(settled, func() bool { return len(s.heldBy(job, "victim")) == 0 }) {
			return true
		}
		victim.thaw()
		return false
	})
	victim.kill()

	s.checkTrial(s.await(job), c)
	died := 0
	for _, b := range s.batches(job) {
		died += s.checkKilled(b)
	}
	if died == 0 {
		t.Error("no attempt died")
	}
	s.checkStoredOnce(job, c)
}

// checkKilled fails the test unless the attempts at a batch that did not complete were the victim's, which died, or had
// been killed before it got the lease. It returns how many died.
func (s *site) checkKilled(b *tallymanv1.Batch) (died int) {
	s.t.Helper()
	want := int32(1)
	for _, a := range s.attempts(b.GetBatchId()) {
		switch a.GetEnd() {
		case tallymanv1.AttemptEnd_ATTEMPT_END_DIED:
			died++
		case tallymanv1.AttemptEnd_ATTEMPT_END_RELEASED: // nobody was there to take the grant
		default:
			s.t.Errorf("attempt %d at batch %d ended as %v", a.GetAttempt(), b.GetBatchId(), a.GetEnd())
		}
		if a.GetWorkerId() != "victim" {
			s.t.Errorf("attempt %d at batch %d was ended, which %s had", a.GetAttempt(), b.GetBatchId(), a.GetWorkerId())
		}
		if a.GetBatchState() == tallymanv1.BatchState_BATCH_STATE_PENDING {
			want++ // otherwise all items were stored before the kill
		}
	}
	if b.GetAttempt() != want || b.GetState() != tallymanv1.BatchState_BATCH_STATE_COMPLETED {
		s.t.Errorf("batch %d is %v after %d attempts, want completed after %d", b.GetBatchId(), b.GetState(), b.GetAttempt(), want)
	}
	return died
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
func checkFindings(t testing.TB, findings []*tallymanv1.Finding, bad int64) {
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
