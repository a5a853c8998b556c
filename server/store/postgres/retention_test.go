package postgres_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// settled fills a job of n batches, of which every other one fails and none is left.
func settled(t *testing.T, s store.Store, n int) (jobID, session int64) {
	t.Helper()
	jobID, session = fill(t, s, n)
	var group []store.Settlement
	for i, g := range claim(t, s, jobID, session, "1", n) {
		end := job.End{Kind: job.EndCompleted, Outcomes: []job.Run{{Count: 2, Outcome: job.Stored}}}
		if i%2 == 0 {
			end = job.End{Kind: job.EndFailed, Message: "no"}
		}
		group = append(group, store.Settlement{Lease: g.Lease, End: end, Findings: []store.Finding{{Severity: store.Warning}},
			Results: store.Results{Frame: []byte("x")}})
	}
	if _, _, err := s.Settle(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	if j, _, err := s.Fold(t.Context(), jobID); err != nil || j.State != job.CompletedWithErrors {
		t.Fatalf("the job is %v, %v", j.State, err)
	}
	return jobID, session
}

// A job that is retried while it is being deleted for its age stays: the deletion waits for who holds the row, and then
// asks again.
func TestAJobThatIsRetriedMeanwhileIsNotDeleted(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	s := openAt(t, dsn, 4)
	jobID, _ := settled(t, s, 2)
	retrying, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := retrying.Exec(t.Context(), `UPDATE jobs SET state = 'running', ended_at = NULL WHERE id = $1`, jobID); err != nil {
		t.Fatal(err)
	}
	done := make(chan []job.Job, 1)
	go func() {
		deleted, err := s.DeleteEndedJobs(t.Context(), store.EndedFilter{}, 10)
		if err != nil {
			t.Error(err)
		}
		done <- deleted
	}()
	waitFor(t, connect(t, dsn), `SELECT count(*) = 1 FROM pg_locks WHERE NOT granted`)
	if err := retrying.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if deleted := <-done; len(deleted) != 0 {
		t.Errorf("deleted %+v", deleted)
	}
	if j, err := s.GetJob(t.Context(), jobID); err != nil || j.State != job.Running {
		t.Errorf("the job is %v, %v", j.State, err)
	}
	if up, err := s.GetUpload(t.Context(), "a"); err != nil || !up.Finished {
		t.Errorf("its upload: %+v, %v", up, err)
	}
}

func TestASessionThatHoldsALeaseIsNotForgotten(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	s := openAt(t, dsn, 4)
	jobID, session := fill(t, s, 1)
	claim(t, s, jobID, session, "1", 1)
	// As when a session held more than one transaction ends.
	execute(t, connect(t, dsn), `UPDATE sessions SET ended_at = now() - interval '1 hour'`)
	if n, err := s.ForgetSessions(t.Context(), time.Minute, 10); n != 0 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	execute(t, connect(t, dsn), `UPDATE batches SET lease_expires_at = now()`)
	if _, err := s.Reap(t.Context(), nil, 10); err != nil {
		t.Fatal(err)
	}
	if n, err := s.ForgetSessions(t.Context(), time.Minute, 10); n != 1 || err != nil {
		t.Errorf("forgot %d, %v; want 1", n, err)
	}
}

// A deleted job leaves no row in any table, and large payloads go in more steps than small ones.
func TestADeletedJobLeavesNothing(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	s := openAt(t, dsn, 4)
	jobID, _ := settled(t, s, 8)
	conn := connect(t, dsn)
	execute(t, conn, `INSERT INTO rejected_items (job_id, first_item, items, frame) SELECT $1, n, 1, $2 FROM generate_series(1, 6) AS n`,
		jobID, bytes.Repeat([]byte("x"), 900_000)) // 450 pieces each
	execute(t, conn, `UPDATE item_results SET frame = $1`, bytes.Repeat([]byte("x"), 700_000))   // 350 pieces each
	execute(t, conn, `UPDATE batch_payloads SET frame = $1`, bytes.Repeat([]byte("x"), 600_000)) // 301 pieces each
	if left := rows(t, dsn); left["batches"] != 8 || left["attempts"] != 4 || left["job_minutes"] == 0 || left["slowest_batches"] != 8 ||
		left["findings"] != 8 || left["item_results"] != 4 || left["uploads"] != 1 {
		t.Errorf("rows before: %v", left)
	}
	if err := s.DeleteJob(t.Context(), jobID); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for more := true; more; {
		var err error
		if more, err = s.DeleteStep(t.Context(), 1000); err != nil {
			t.Fatal(err)
		}
		left := rows(t, dsn)
		steps = append(steps, fmt.Sprintf("%d payloads, %d rejected", left["batch_payloads"], left["rejected_items"]))
	}
	want := []string{
		"5 payloads, 6 rejected", "2 payloads, 6 rejected", "0 payloads, 6 rejected", "0 payloads, 6 rejected", // findings
		"0 payloads, 4 rejected", "0 payloads, 2 rejected", "0 payloads, 0 rejected",
		"0 payloads, 0 rejected", "0 payloads, 0 rejected", // results
		"0 payloads, 0 rejected", "0 payloads, 0 rejected", "0 payloads, 0 rejected", // minutes, the slowest, the job
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("left after each step (-want +got):\n%s", diff)
	}
	for table, n := range rows(t, dsn) {
		if n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

// rows counts the rows of every table that belongs to jobs.
func rows(t *testing.T, dsn string) map[string]int {
	t.Helper()
	conn := connect(t, dsn)
	counts := map[string]int{}
	for _, table := range texts(t, conn, `
		SELECT DISTINCT c.table_name FROM information_schema.columns c JOIN information_schema.tables b USING (table_name)
		WHERE c.table_schema = 'public' AND b.table_type = 'BASE TABLE'
		  AND (c.column_name IN ('job_id', 'batch_id') OR c.table_name = 'jobs')`) {
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[table] = n
	}
	return counts
}
