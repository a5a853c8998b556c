package sqlite

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// large are the tables that grow with what was uploaded: no statement may walk through one.
var large = []string{"batches", "batch_payloads", "batch_documents", "attempts", "findings", "rejected_items", "item_results", "deliveries", "jobs", "uploads", "sessions"}

// exercise makes a store run every statement that writes.
func exercise(t *testing.T, s *Store) {
	t.Helper()
	jobID := uploaded(t, s, "a", 9)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	grants := claimed(t, s, jobID, time.Microsecond)
	session := grants[0].SessionID
	settle := func(i int, kind job.EndKind) {
		t.Helper()
		end := job.End{Kind: kind, Retryable: true}
		if kind == job.EndCompleted {
			end.Outcomes = []job.Run{{Count: 1, Outcome: job.Stored}}
		}
		for range 2 { // the second is answered from what was kept
			_, _, err := s.Settle(t.Context(), []store.Settlement{{Lease: grants[i].Lease, End: end, Findings: []store.Finding{{Severity: store.Error}}}})
			must(err)
		}
	}
	settle(0, job.EndCompleted)
	settle(1, job.EndFailed)
	settle(2, job.EndReleased)
	for _, outcomes := range [][]job.Run{nil, {{Count: 1, Outcome: job.Stored}}} {
		_, _, err := s.Beat(t.Context(), time.Microsecond, []store.Beat{{Lease: grants[3].Lease, Outcomes: outcomes,
			Results: store.Results{Frame: []byte("x")}}})
		must(err)
	}
	epoch, err := s.OpenStream(t.Context(), session)
	must(err)
	must(s.BreakStream(t.Context(), session, epoch, time.Microsecond))
	_, err = s.Reap(t.Context(), []int64{grants[4].BatchID}, 5)
	must(err)
	_, err = s.Reap(t.Context(), nil, 1)
	must(err)
	_, err = s.Claim(t.Context(), time.Minute, []store.ClaimRequest{{SessionID: session, RequestID: "limited"}},
		[]store.Turn{{JobID: jobID, Most: 1, JobLimit: 1, Project: "p", ProjectLimit: 1}})
	must(err)
	claimed(t, s, jobID, time.Minute) // also registers the worker again, and takes returned batches
	_, err = s.TouchSessions(t.Context(), []int64{session})
	must(err)
	must(s.ExcuseStreams(t.Context(), []store.Stream{{SessionID: session, Epoch: epoch}}))
	_, err = s.JudgeWorkers(t.Context())
	must(err)
	_, err = s.DrainSession(t.Context(), "worker")
	must(err)
	_, err = s.EndSession(t.Context(), session+1, "")
	must(err)
	_, err = s.EndSilentSessions(t.Context(), time.Hour)
	must(err)
	old := uploaded(t, s, "old", 1)
	_, err = s.StopJob(t.Context(), old, job.Cancelled, "")
	must(err)
	_, err = s.SweepJob(t.Context(), old, 1)
	must(err)
	_, _, err = s.Fold(t.Context(), old)
	must(err)
	gone, err := s.DeleteEndedJobs(t.Context(), store.EndedFilter{}, 5)
	must(err)
	forgotten, err := s.ForgetSessions(t.Context(), 0, 5)
	must(err)
	if len(gone) != 1 || forgotten == 0 {
		t.Fatalf("%d old jobs and %d sessions", len(gone), forgotten)
	}
	_, err = s.StopJob(t.Context(), jobID, job.Cancelled, "")
	must(err)
	_, err = s.AbandonUploads(t.Context(), time.Hour)
	must(err)
	for range 2 {
		_, err = s.SweepJob(t.Context(), jobID, 100)
		must(err)
	}
	_, _, err = s.Fold(t.Context(), jobID)
	must(err)
	_, err = s.RetryJob(t.Context(), jobID, store.Retry{RequestID: "1"})
	must(err)
	_, err = s.RetryJob(t.Context(), jobID, store.Retry{RequestID: "2"}) // of a running job
	must(err)
	_, err = s.RetryJob(t.Context(), jobID, store.Retry{RequestID: "3", Batches: []int64{grants[5].BatchID}})
	must(err)
	_, _, err = s.RetryStep(t.Context(), jobID, 100)
	must(err)
	_, err = s.RetryingJobs(t.Context())
	must(err)
	_, err = s.StopJob(t.Context(), jobID, job.Cancelled, "")
	must(err)
	_, err = s.SweepJob(t.Context(), jobID, 100)
	must(err)
	_, _, err = s.Fold(t.Context(), jobID)
	must(err)
	must(s.DeleteJob(t.Context(), jobID))
	for more := true; more; {
		more, err = s.DeleteStep(t.Context(), 5)
		must(err)
	}
}

func TestNoStatementWalksThroughALargeTable(t *testing.T) {
	t.Parallel()
	s := opened(t)
	exercise(t, s)
	queries := []string{workerQuery, heldQuery, attemptsQuery, batchQuery, placesAll, placesFresh, placesRunning, placesDone, fmt.Sprintf(placesBad, 3),
		resultsPlace, resultFrames, itemBatches, itemParts, badItemBatches, rejectedItems, diedOnlyOn, crashGroups,
		countOpen, waitingQuery, freshQuery, countSessions, countEnded, dueDeliveries, endedDeliveries}
	queries = append(queries, returnedQueries...)
	for query := range s.writer.stmts {
		queries = append(queries, query)
	}
	for _, query := range queries {
		if verb, _, _ := strings.Cut(query, " "); verb == "BEGIN" || verb == "COMMIT" || verb == "PRAGMA" {
			continue
		}
		for _, step := range plan(t, s, query) {
			for _, table := range large {
				alias := table[:1]
				if strings.HasPrefix(step, "SCAN "+table) && !strings.Contains(step, "USING") || step == "SCAN "+alias {
					t.Errorf("%s: %s", step, query)
				}
			}
		}
	}
}

// The statements that run for every batch must find it by the index made for that.
func TestHotStatementsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	s := opened(t)
	exercise(t, s)
	for _, want := range []struct {
		name, part string
		steps      []string
	}{
		{"fresh", "ORDER BY b.ordinal LIMIT ?", []string{"SEARCH b USING INDEX batches_fresh (job_id=? AND ordinal>?)"}},
		{"returned", "avoid_until IS NULL AND b.available_at <= ?", []string{"SEARCH b USING INDEX batches_returned (job_id=? AND available_at>? AND available_at<?)"}},
		{"repeated claim", "claim_request_id = ? ORDER BY id", []string{"SEARCH batches USING INDEX batches_running (session_id=? AND claim_request_id=?)"}},
		{"limits: job", "batches_running FROM jobs WHERE id = ?", []string{"SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"limits: project", "FROM jobs INDEXED BY jobs_open", []string{"SEARCH jobs USING INDEX jobs_open (state=?)"}},
		{"limits: deltas", "SELECT delta FROM job_deltas", []string{"SEARCH job_deltas USING INDEX job_deltas_job (job_id=?)"}},
		{"deaths", "FROM attempts a INDEXED BY attempts_died", []string{
			"SEARCH a USING INDEX attempts_died (ended_at>?)", "SEARCH s USING INDEX sessions_live_worker (worker_id=?)",
			"SEARCH b USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN", "SEARCH r USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN",
			"SEARCH e USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN", "CORRELATED SCALAR SUBQUERY 1",
			"SEARCH d USING INDEX sessions_worker (worker_id=?)",
		}},
		{"grant", "SET state = 1, attempt", []string{"SEARCH batches USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"choosy", "ORDER BY b.available_at, b.id LIMIT ?3", []string{"SEARCH b USING INDEX batches_choosy (job_id=? AND available_at>? AND available_at<?)"}},
		{"solo", "solo <> 0 LIMIT 1", []string{"SEARCH batches USING INDEX batches_solo (session_id=?)"}},
		{"beat", "SET lease_expires_at = ?, beats", []string{"SEARCH batches USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"settle: read", "FROM batches WHERE id = ?", []string{"SEARCH batches USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"settle: write", "SET state = ?, failures", []string{"SEARCH batches USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"reap by key", "json_each(?3)", []string{"SEARCH batches USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"reap all", "INDEXED BY batches_running", []string{"SEARCH batches USING INDEX batches_running (session_id>?)"}},
		{"break", "min(lease_expires_at, ?)", []string{"SEARCH batches USING INDEX batches_running (session_id=?)"}},
		{"old jobs", "(ended_at, id) > (?3, ?4)", []string{"SEARCH jobs USING INDEX jobs_ended (state=? AND ended_at>? AND ended_at<?)"}},
		{"old sessions", "SELECT s.id FROM sessions s", []string{
			"SEARCH s USING COVERING INDEX sessions_ended (ended_at>? AND ended_at<?)", "SEARCH b USING COVERING INDEX batches_running (session_id=?)"}},
		{"retry: any", "(?2 >> state) & 1 LIMIT 1", []string{"SEARCH batches USING INDEX batches_ended_badly (job_id=?)"}},
		{"retry: named", "(? >> state) & 1 ORDER BY id", []string{"SEARCH batches USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"retry: step", "ORDER BY ordinal, id LIMIT ?4", []string{"SEARCH batches USING INDEX batches_ended_badly (job_id=? AND ordinal>?)"}},
		{"retry: write", "SET state = 0, failures = 0", []string{"SEARCH batches USING INTEGER PRIMARY KEY (rowid=?)"}},
		{"deltas", "FROM job_deltas WHERE job_id = ? ORDER BY id", []string{"SEARCH job_deltas USING INDEX job_deltas_job (job_id=?)"}},
	} {
		found := false
		for query := range s.writer.stmts {
			if !strings.Contains(query, want.part) {
				continue
			}
			found = true
			steps := plan(t, s, query)
			for _, step := range want.steps {
				if !strings.Contains(strings.Join(steps, "\n"), step) {
					t.Errorf("%s: plan %q, want %q", want.name, steps, step)
				}
			}
			if strings.Contains(strings.Join(steps, "\n"), "TEMP B-TREE") && !strings.HasPrefix(want.name, "reap") {
				t.Errorf("%s: sorts: %q", want.name, steps)
			}
		}
		if !found {
			t.Errorf("%s: no statement with %q was run", want.name, want.part)
		}
	}
}

// Lists of open jobs do not walk through those that have ended.
func TestOpenJobsAreFoundByTheirIndex(t *testing.T) {
	t.Parallel()
	s := opened(t)
	for name, f := range map[string]store.JobFilter{
		"of one state":     {States: []job.State{job.Running}},
		"of all, narrowed": {Project: "p", Kind: "k", States: []job.State{job.Running, job.Paused, job.Cancelling}},
	} {
		query, _ := listJobs(f, store.Page{Size: 50, After: 1000})
		searches := 0
		for _, step := range plan(t, s, query) {
			switch {
			case step == "SEARCH jobs USING COVERING INDEX jobs_open (state=? AND rowid<?)", step == "SEARCH jobs USING INDEX jobs_open (state=? AND id<?)":
				searches++
			case strings.HasPrefix(step, "SCAN jobs"), strings.Contains(step, "TEMP B-TREE"):
				t.Errorf("%s: %s", name, step)
			}
		}
		if searches != len(f.States) {
			t.Errorf("%s: %q", name, plan(t, s, query))
		}
	}
}

// An export reads no more than its page: what it sorts are the parts of one batch.
func TestExportUsesIndexes(t *testing.T) {
	t.Parallel()
	s := opened(t)
	for _, q := range []struct {
		sql  string
		want []string
	}{
		{itemBatches, []string{
			"SEARCH p USING COVERING INDEX sqlite_autoindex_batch_payloads_1 (job_id=? AND ordinal>?)", "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)"}},
		{itemParts, []string{"SEARCH b USING INDEX batches_parts (job_id=? AND ordinal=?)", "USE TEMP B-TREE FOR ORDER BY"}},
		{badItemBatches, []string{
			"SEARCH b USING INDEX batches_ended_badly (job_id=? AND ordinal>?)", "USE TEMP B-TREE FOR LAST TERM OF ORDER BY"}},
		{rejectedItems, []string{
			"SEARCH rejected_items USING INDEX sqlite_autoindex_rejected_items_1 (job_id=? AND first_item>?)", "SCALAR SUBQUERY 1",
			"SEARCH rejected_items USING COVERING INDEX sqlite_autoindex_rejected_items_1 (job_id=? AND first_item<?)"}},
	} {
		if diff := cmp.Diff(q.want, plan(t, s, q.sql)); diff != "" {
			t.Errorf("plan of %s (-want +got):\n%s", q.sql, diff)
		}
	}
}

// What is measured costs as much as there is open, not as much as there is.
func TestFiguresUseIndexes(t *testing.T) {
	t.Parallel()
	s := opened(t)
	for _, q := range []struct {
		sql  string
		want []string
	}{
		{countOpen, []string{"SCAN jobs USING INDEX jobs_open", "USE TEMP B-TREE FOR GROUP BY"}},
		{waitingQuery, []string{"SEARCH jobs USING INDEX jobs_open (state=?)"}},
		{freshQuery, []string{"SEARCH b USING INDEX batches_fresh (job_id=? AND ordinal>?)", "CORRELATED SCALAR SUBQUERY 1",
			"SEARCH p USING INTEGER PRIMARY KEY (rowid=?)"}},
		{returnedQueries[0], []string{"SEARCH batches USING INDEX batches_returned (job_id=? AND available_at>?)"}},
		{returnedQueries[1], []string{"SEARCH batches USING INDEX batches_choosy (job_id=? AND available_at>?)"}},
		{countSessions, []string{"SCAN sessions USING INDEX sessions_live", "USE TEMP B-TREE FOR GROUP BY"}},
		{countEnded, []string{"SEARCH x USING INDEX job_minutes_minute (minute>?)", "SEARCH j EXISTS USING INTEGER PRIMARY KEY (rowid=?)"}},
	} {
		if diff := cmp.Diff(q.want, plan(t, s, q.sql)); diff != "" {
			t.Errorf("plan of %s (-want +got):\n%s", q.sql, diff)
		}
	}
}

// plan returns the steps of a statement's plan.
func plan(t *testing.T, s *Store, query string) []string {
	t.Helper()
	var steps []string
	err := s.read(t.Context(), func(q *snapshot) error {
		args := make([]any, strings.Count(query, "?"))
		var err error
		steps, err = collect(q, func(row scanner) (step string, err error) {
			var id, parent, unused int64
			err = row.Scan(&id, &parent, &unused, &step)
			return step, err
		}, "EXPLAIN QUERY PLAN "+query, args...)
		return err
	})
	if err != nil {
		t.Fatalf("explain %s: %v", query, err)
	}
	return steps
}
