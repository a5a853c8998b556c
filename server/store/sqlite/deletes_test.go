package sqlite

import (
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func TestADeletedJobLeavesNothing(t *testing.T) {
	t.Parallel()
	s := opened(t)
	jobID := uploaded(t, s, "a", 5)
	grants := claimed(t, s, jobID, time.Minute)
	var settlements []store.Settlement
	for i, g := range grants {
		end := job.End{Kind: job.EndCompleted, Outcomes: []job.Run{{Count: 1, Outcome: job.Stored}}}
		if i%2 == 0 {
			end.Kind = job.EndFailed
		}
		settlements = append(settlements, store.Settlement{Lease: g.Lease, End: end, Findings: []store.Finding{{Severity: store.Warning}},
			Results: store.Results{Frame: []byte("x")}})
	}
	if _, _, err := s.Settle(t.Context(), settlements); err != nil {
		t.Fatal(err)
	}
	if j, _, err := s.Fold(t.Context(), jobID); err != nil || !j.State.Ended() {
		t.Fatalf("the job is %v, %v", j.State, err)
	}
	if left := rows(t, s); left["findings"] == 0 || left["slowest_batches"] == 0 || left["job_minutes"] == 0 || left["item_results"] != 5 {
		t.Errorf("rows before: %v, want some everywhere", left)
	}
	if err := s.DeleteJob(t.Context(), jobID); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		var err error
		if more, err = s.DeleteStep(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
	for table, n := range rows(t, s) {
		if n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

// rows counts the rows of every table that belongs to jobs.
func rows(t *testing.T, s *Store) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	err := s.read(t.Context(), func(q *snapshot) error {
		names, err := collect(q, func(row scanner) (name string, err error) {
			err = row.Scan(&name)
			return name, err
		}, `SELECT m.name FROM sqlite_master m WHERE m.type = 'table' AND (m.name = 'jobs' OR EXISTS (
			SELECT 1 FROM pragma_table_info(m.name) c WHERE c.name IN ('job_id', 'batch_id')))`)
		if err != nil {
			return err
		}
		for _, name := range names {
			var n int64
			if err := one(q, []any{&n}, "SELECT count(*) FROM "+name); err != nil {
				return err
			}
			counts[name] = n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}
