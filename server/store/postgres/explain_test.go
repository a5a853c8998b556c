package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

// loadBatches makes what a database that has been at work for a while holds: job 1 with a million batches that have
// completed, and 20 jobs at work with 500 fresh, 10 returned, 25 running and 5 failed batches each, held by 50 sessions.
// Without a log it is there sooner, and plans are the same.
const loadBatches = `
ALTER TABLE batches SET UNLOGGED;

INSERT INTO jobs (upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, state,
                  submitted_at, ended_at, updated_at)
SELECT n, 'project', 'annotations', 'replace', '{}', '{}', '{}', 0, 'file', 0,
       CASE WHEN n = 1 THEN 'succeeded' ELSE 'running' END, now(), CASE WHEN n = 1 THEN now() END, now()
FROM generate_series(1, 21) AS n;

INSERT INTO sessions (worker_id, host, pid, version, kinds, slots, registered_at, beat_at)
SELECT n, 'host', 1, 'v0', '{annotations}', 8, now(), now() FROM generate_series(1, 50) AS n;

INSERT INTO jobs (upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, state,
                  submitted_at, ended_at, updated_at)
SELECT 'old ' || n, 'project', 'annotations', 'replace', '{}', '{}', '{}', 0, 'file', 0,
       CASE WHEN n % 3 = 0 THEN 'failed' ELSE 'succeeded' END, now(), now() - n * interval '1 minute', now()
FROM generate_series(1, 20000) AS n;

INSERT INTO sessions (worker_id, host, pid, version, kinds, slots, registered_at, beat_at, ended_at)
SELECT 'old ' || n, 'host', 1, 'v0', '{annotations}', 8, now(), now(), now() - n * interval '1 minute'
FROM generate_series(1, 20000) AS n;

INSERT INTO batches (job_id, ordinal, first_item, item_count, weight, state, attempt, done_items, outcomes,
                     ended_session, ended_as, claimed_at, settled_at)
SELECT 1, n, n * 10 + 1, 10, 500, 2, 1, 10, '\x0a01', n % 50 + 1, 'completed', now(), now()
FROM generate_series(0, 999999) AS n;

INSERT INTO batches (job_id, ordinal, first_item, item_count, weight)
SELECT job, n, n * 10 + 1, 10, 500 FROM generate_series(2, 21) AS job, generate_series(0, 499) AS n;

INSERT INTO batches (job_id, ordinal, first_item, item_count, weight, attempt, failures, ended_session, ended_as,
                     claimed_at, available_at)
SELECT job, n, n * 10 + 1, 10, 500, 1, 1, 1, 'failed', now(), now()
FROM generate_series(2, 21) AS job, generate_series(500, 509) AS n;

INSERT INTO batches (job_id, ordinal, first_item, item_count, weight, state, attempt, session_id, claim_request_id,
                     claimed_at, lease_expires_at)
SELECT job, n, n * 10 + 1, 10, 500, 1, 1, (job * 25 + n) % 50 + 1, 'request ' || n, now(), now() + interval '30 seconds'
FROM generate_series(2, 21) AS job, generate_series(510, 534) AS n;

INSERT INTO batches (job_id, ordinal, first_item, item_count, weight, state, attempt, failures, done_items, outcomes,
                     ended_session, ended_as, claimed_at, settled_at, ended_run)
SELECT job, n, n * 10 + 1, 10, 500, 3, 3, 3, 10, '\x0a06', 1, 'failed', now(), now(), 1
FROM generate_series(2, 21) AS job, generate_series(535, 539) AS n;

INSERT INTO batch_payloads (batch_id, job_id, ordinal, frame, documents)
SELECT id, job_id, ordinal, '', ARRAY['PubMed:' || id, 'PMC:' || id % 1000] FROM batches WHERE job_id = 1 AND ordinal < 20000;

INSERT INTO batch_documents (document, batch_id) SELECT unnest(documents), batch_id FROM batch_payloads;

INSERT INTO attempts (batch_id, attempt, job_id, session_id, worker_id, ended_as, message, state_after, claimed_at, ended_at)
SELECT n, 1, 1, n % 100, 'w', 'failed', 'no', 0, now(), now() FROM generate_series(1, 20000) AS n;

INSERT INTO item_results (job_id, place, batch_id, from_position, frame)
SELECT job_id, first_item, id, 0, '' FROM batches WHERE job_id = 1 AND ordinal < 20000;

INSERT INTO rejected_items (job_id, first_item, items, frame) SELECT 1, n * 10, 10, '' FROM generate_series(1, 20000) AS n;

INSERT INTO job_deltas (job_id, delta) SELECT job, '\x0100' FROM generate_series(2, 21) AS job, generate_series(1, 50);
INSERT INTO job_minutes (job_id, minute, completed, failed, crashed, cancelled, with_crash, durations)
SELECT job, date_trunc('minute', now()) - n * interval '1 minute', 1, 0, 0, 0, 0, '{}'
FROM generate_series(1, 20) AS job, generate_series(0, 4999) AS n;
INSERT INTO deliveries (id, event, body, due_at, ended_at)
SELECT 'delivery-' || n, 'job.ended', '', now() - interval '1 hour', CASE WHEN n % 1000 > 0 THEN now() - n * interval '1 second' END
FROM generate_series(1, 100000) AS n;

-- A sample that does not miss the few batches that failed.
ALTER TABLE batches ALTER COLUMN state SET STATISTICS 500;
ANALYZE`

// plan is a node of an explained plan.
type plan struct {
	NodeType     string `json:"Node Type"`
	RelationName string `json:"Relation Name"`
	IndexName    string `json:"Index Name"`
	Plans        []plan `json:"Plans"`
}

// uses adds to indexes which ones a plan reads a table by; a scan of the whole table counts as one with its node's name.
func (p plan) uses(table string, indexes map[string]bool) {
	if (p.IndexName != "" && strings.HasPrefix(p.IndexName, table+"_")) || (p.RelationName == table && p.IndexName == "" &&
		strings.HasSuffix(p.NodeType, "Scan") && p.NodeType != "Bitmap Heap Scan") {
		name := p.IndexName
		if name == "" {
			name = p.NodeType
		}
		indexes[name] = true
	}
	for _, child := range p.Plans {
		child.uses(table, indexes)
	}
}

// sorts reports whether a plan sorts all that a scan of an index finds, instead of a page of it.
func (p plan) sorts(index string) bool {
	for _, child := range p.Plans {
		if p.NodeType == "Sort" && child.IndexName == index || child.sorts(index) {
			return true
		}
	}
	return false
}

// series renders n numbers from first on as an SQL array.
func series(kind string, first, step, n int) string {
	values := make([]string, n)
	for i := range values {
		values[i] = strconv.Itoa(first + i*step)
		if kind == "text" {
			values[i] = "'" + values[i] + "'"
		}
	}
	return "ARRAY[" + strings.Join(values, ",") + "]::" + kind + "[]"
}

// same renders n times the same value as an SQL array.
func same(kind, value string, n int) string {
	return "array_fill(" + value + "::" + kind + ", ARRAY[" + strconv.Itoa(n) + "])"
}

// The hot statements find batches by the indexes that are meant for them, in groups of one and of many, however the
// server plans them: with their arguments or without, or before there is anything.
func TestPlans(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	config, err := pgx.ParseConfig(pgtest.DSN(t, "coordinator", Migrate))
	if err != nil {
		t.Fatal(err)
	}
	connection(config, maxSilence)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // its database is dropped anyway

	type statement struct {
		name  string
		sql   string
		table string // "" for batches
		args  func(n int) []string
		want  []string
	}
	const lease = "interval '30 seconds'"
	batches := func(n int) string { return series("bigint", 1010201, 1, n) } // running ones
	leases := func(n int) []string {
		return []string{batches(n), same("integer", "1", n), series("bigint", 1, 1, n)}
	}
	primary := []string{"batches_pkey"}
	const trackings = `SELECT * FROM batch_job_trackings WHERE `
	none := func(int) []string { return nil }
	seventh := func(int) []string { return []string{"7"} }
	statements := []statement{
		{"who claims", selectAskers, "", func(n int) []string {
			return []string{series("bigint", 1, 1, n), series("text", 1, 1, n), series("bigint", 2, 1, 20)}
		}, []string{"batches_choosy", "batches_running", "batches_solo"}},
		{"who claims: sessions", selectAskers, "sessions", func(n int) []string {
			return []string{series("bigint", 1, 1, n), series("text", 1, 1, n), series("bigint", 2, 1, 20)}
		}, []string{"sessions_live"}},
		{"lock pending batches", lockPending, "", func(n int) []string {
			return []string{series("bigint", 2, 1, 20), same("integer", "100", 20), same("integer", "50", 20), strconv.Itoa(8 * n)}
		}, []string{"batches_fresh", "batches_returned"}},
		{"lock pending batches: jobs", lockPending, "jobs", func(n int) []string {
			return []string{series("bigint", 2, 1, 20), same("integer", "100", 20), same("integer", "50", 20), strconv.Itoa(8 * n)}
		}, []string{"jobs_open"}},
		{"claim", claimBatches, "", func(n int) []string {
			return []string{batches(n), same("bigint", "1", n), same("text", "'r'", n), lease, "8192"}
		}, primary},
		{"claim: payloads", claimBatches, "batch_payloads", func(n int) []string {
			return []string{batches(n), same("bigint", "1", n), same("text", "'r'", n), lease, "8192"}
		}, []string{"batch_payloads_pkey"}},
		{"repeated claim", selectRepeated, "", func(n int) []string {
			return []string{series("bigint", 1, 1, n), series("text", 1, 1, n)}
		}, []string{"batches_running"}},
		{"limits", selectRunning, "jobs", func(n int) []string {
			return []string{series("bigint", 2, 1, n), "'{project}'"}
		}, []string{"jobs_open", "jobs_pkey"}},
		{"limits: deltas", selectRunning, "job_deltas", func(n int) []string {
			return []string{series("bigint", 2, 1, n), "'{project}'"}
		}, []string{"job_deltas_job"}},
		{"settle", completeBatches, "", func(n int) []string {
			return append(leases(n), same("integer", "0", n), same("integer", "10", n), same("bytea", `'\x0a01'`, n))
		}, primary},
		{"settle otherwise", lockSettled, "", func(n int) []string { return []string{batches(n)} }, primary},
		{"end", endBatches, "", func(n int) []string {
			numbers := same("integer", "1", n)
			return []string{
				batches(n), numbers, same("smallint", "0", n), numbers, numbers, numbers, numbers, same("bytea", "''", n),
				same("text", "'failed'", n), same("interval", "'1 second'", n), numbers, numbers, numbers, same("text", "'w'", n),
				same("boolean", "true", n), same("interval", "'1 second'", n),
			}
		}, primary},
		{"renew", renewLeases, "", func(n int) []string { return append(leases(n), lease, batches(n), same("integer", "1", n)) }, primary},
		{"report", lockReported, "", func(n int) []string { return []string{batches(n)} }, primary},
		{"report outcomes", updateReported, "", func(n int) []string {
			return []string{batches(n), same("integer", "5", n), same("bytea", `'\x0501'`, n), lease}
		}, primary},
		{"reap by key", lockExpired, "", func(n int) []string { return []string{batches(n), "100"} }, primary},
		{"reap all", lockAllExpired, "", func(int) []string { return []string{"100"} }, []string{"batches_pkey", "batches_running"}},
		{"break stream", shortenLeases, "", func(int) []string { return []string{"1", lease} }, []string{"batches_pkey", "batches_running"}},
		{"end session", lockLeasesOf, "", func(n int) []string {
			return []string{series("bigint", 1, 1, n), "1000"}
		}, []string{"batches_pkey", "batches_running"}},
		{"sweep", lockSwept, "", func(n int) []string { return []string{"2", strconv.Itoa(n)} },
			[]string{"batches_choosy", "batches_fresh", "batches_pkey", "batches_returned"}},
		{"retry step", lockBad, "", func(n int) []string { return []string{"2", "100", "7", strconv.Itoa(n)} },
			[]string{"batches_ended_badly", "batches_pkey"}},
		{"retry named", lockNamed, "", func(n int) []string {
			return []string{"2", batches(n), "ARRAY[3, 4, 5]::smallint[]"}
		}, primary},
		{"retry any", anyBad, "", func(int) []string { return []string{"2", "ARRAY[3]::smallint[]"} }, []string{"batches_ended_badly"}},
		{"reopen", reopenBatches, "", func(n int) []string {
			return []string{batches(n), same("integer", "0", n), same("bytea", "''", n)}
		}, primary},
		{"cancel", sweepBatches, "", func(n int) []string { return []string{batches(n), same("bytea", "''", n)} }, primary},
		{"frame", selectFrame, "", func(int) []string { return []string{"1010201", "1", "1"} }, primary},
		{"session", sessionColumns + ` WHERE s.id = $1`, "", func(int) []string { return []string{"1"} }, []string{"batches_running"}},
		{"bad batches", listFewBatchesOfJob, "", func(n int) []string {
			return []string{"0", "7", strconv.Itoa(n), "2", "true", "true", "ARRAY[3, 4]::smallint[]"}
		}, []string{"batches_choosy", "batches_ended_badly", "batches_fresh", "batches_pkey", "batches_returned", "batches_running"}},
		{"old jobs", listEndedJobs, "jobs", func(n int) []string {
			return []string{"'{succeeded,failed}'", "interval '7 days'", "'-infinity'", "0", strconv.Itoa(n)}
		}, []string{"jobs_ended", "jobs_pkey"}},
		{"open jobs", listOpenJobs, "jobs", func(n int) []string {
			return []string{"20020", strconv.Itoa(n), "''", "'{running,paused}'", "'{}'"}
		}, []string{"jobs_open", "jobs_pkey"}},
		{"open jobs of a project", listOpenJobs, "jobs", func(n int) []string {
			return []string{"20020", strconv.Itoa(n), "'annotations'", "'{running,paused,cancelling}'", "'{project}'"}
		}, []string{"jobs_open", "jobs_pkey"}},
		{"jobs", listJobs, "jobs", func(n int) []string {
			return []string{"20020", strconv.Itoa(n), "''", "'{}'"}
		}, []string{"jobs_pkey"}},
		{"delete old jobs", deleteEnded, "jobs", func(n int) []string {
			return []string{series("bigint", 100, 1, n), "'{succeeded,failed}'", "interval '7 days'"}
		}, []string{"jobs_pkey"}},
		{"old sessions", forgetSessions, "sessions", func(n int) []string {
			return []string{"interval '13 days'", strconv.Itoa(n)}
		}, []string{"sessions_ended", "sessions_pkey"}},
		{"old sessions: leases", forgetSessions, "", func(n int) []string {
			return []string{"interval '13 days'", strconv.Itoa(n)}
		}, []string{"batches_running"}},
		{"worker", selectWorker, "sessions", func(int) []string { return []string{"'old 7'"} }, []string{"sessions_worker"}},
		{"held by a worker", listHeld, "", func(n int) []string {
			return []string{"7", strconv.Itoa(n)}
		}, []string{"batches_pkey", "batches_running"}},
		{"attempts of a worker", listAttemptsOfSession, "attempts", func(n int) []string {
			return []string{"7", strconv.Itoa(n)}
		}, []string{"attempts_session"}},
		{"fold", takeDeltas, "job_deltas", func(int) []string { return []string{"2"} }, []string{"job_deltas_job"}},
		{"dirty jobs", dirtyJobs, "job_deltas", func(int) []string { return nil }, []string{"job_deltas_job"}},
		{"payloads", selectPayloads, "batch_payloads", func(n int) []string {
			return []string{series("bigint", 1, 1, n), "1000000"}
		}, []string{"batch_payloads_pkey"}},
		{"export", itemBatches, "", func(n int) []string {
			return []string{"1", "100", "1001", strconv.Itoa(n)}
		}, []string{"batches_parts", "batches_pkey"}},
		{"export: places", itemBatches, "batch_payloads", func(n int) []string {
			return []string{"1", "100", "1001", strconv.Itoa(n)}
		}, []string{"batch_payloads_place"}},
		{"export bad items", badItemBatches, "", func(n int) []string {
			return []string{"7", "100", "1001", strconv.Itoa(n)}
		}, []string{"batches_ended_badly"}},
		{"export rejected items", rejectedItems, "rejected_items", func(n int) []string {
			return []string{"1", "1001", strconv.Itoa(n)}
		}, []string{"rejected_items_pkey"}},
		{"batches of a job", listBatchesOfJob, "batch_payloads", func(n int) []string {
			return []string{"100", "7", strconv.Itoa(n), "1", "'{}'"}
		}, []string{"batch_payloads_pkey", "batch_payloads_place"}},
		{"parts of a job", listBatchesOfJob, "", func(n int) []string {
			return []string{"100", "7", strconv.Itoa(n), "1", "'{}'"}
		}, []string{"batches_parts", "batches_pkey"}},
		{"choosy batches", lockChoosy, "", func(int) []string { return []string{"'{2,3}'", "64"} }, []string{"batches_choosy"}},
		{"whether there are choosy batches", probeChoosy, "", func(int) []string { return []string{"'{2,3}'"} }, []string{"batches_choosy"}},
		{"who may have choosy batches", selectClaimants, "", func(int) []string { return []string{"'{2,3}'"} },
			[]string{"batches_running", "batches_solo"}},
		{"ancestors", selectAncestors, "", func(n int) []string { return []string{batches(n)} }, primary},
		{"deaths of workers", selectWorkerDeaths, "attempts", func(int) []string { return []string{"interval '1 hour'", "1000"} },
			[]string{"attempts_died"}},
		{"deaths of workers: batches", selectWorkerDeaths, "", func(int) []string { return []string{"interval '1 hour'", "1000"} }, primary},
		{"crashes", selectCrashes, "attempts", func(int) []string { return []string{"interval '1 hour'", "0", "'{}'", "20"} },
			[]string{"attempts_died", "attempts_pkey"}},
		{"late deaths", selectLate, "attempts", func(int) []string { return []string{"interval '1 hour'", "1000"} },
			[]string{"attempts_died"}},
		{"late deaths: batches", selectLate, "", func(int) []string { return []string{"interval '1 hour'", "1000"} }, primary},
		{"acquitted batches", lockAcquitted, "", func(n int) []string { return []string{batches(n), "'{w}'"} },
			[]string{"batches_children", "batches_pkey"}},
		{"acquit", acquit, "", func(n int) []string { return []string{batches(n)} }, primary},
		{"shared deaths", selectShared, "", func(n int) []string { return []string{series("bigint", 1, 1, n)} }, []string{"batches_running"}},
		{"parts to delete", deleteParts, "", func(n int) []string { return []string{"1", strconv.Itoa(n)} },
			[]string{"batches_parts", "batches_pkey"}},
		{"find", listBatchesByDocument, "batch_documents", func(n int) []string {
			return []string{"1000000", strconv.Itoa(n), "'PMC:7'", "'{}'"}
		}, []string{"batch_documents_pkey"}},
		{"results", resultFrames, "item_results", func(n int) []string {
			return []string{"1", "100000", strconv.Itoa(n)}
		}, []string{"item_results_pkey"}},
		{"results: batches", resultFrames, "", func(n int) []string {
			return []string{"1", "100000", strconv.Itoa(n)}
		}, primary},
		{"place of results", resultsPlace, "item_results", func(n int) []string {
			return []string{"1", strconv.Itoa(1000 * n)}
		}, []string{"item_results_pkey"}},
		{"place of results: batches", resultsPlace, "", func(n int) []string {
			return []string{"1", strconv.Itoa(1000 * n)}
		}, primary},
		{"delete results", deleteSteps[4], "item_results", func(n int) []string {
			return []string{"1", strconv.Itoa(n)}
		}, []string{"item_results_pkey"}},
		{"delete", deleteBatches, "batch_documents", func(n int) []string {
			return []string{"1", strconv.Itoa(n)}
		}, []string{"Tid Scan", "batch_documents_pkey"}},
		{"delete payloads", deleteBatches, "batch_payloads", func(n int) []string {
			return []string{"1", strconv.Itoa(n)}
		}, []string{"batch_payloads_pkey", "batch_payloads_place"}},
		{"delete batches", deleteBatches, "", func(n int) []string {
			return []string{"1", strconv.Itoa(n)}
		}, primary},
		{"figures: open jobs", selectOpen, "jobs", none, []string{"jobs_open"}},
		{"figures: oldest", selectOldest, "", func(n int) []string {
			return []string{series("bigint", 2, 1, n), same("integer", "1", n)}
		}, []string{"batches_choosy", "batches_fresh", "batches_returned"}},
		{"figures: oldest, jobs", selectOldest, "jobs", func(n int) []string {
			return []string{series("bigint", 2, 1, n), same("integer", "1", n)}
		}, []string{"jobs_open"}},
		{"figures: sessions", countSessions, "sessions", func(int) []string { return []string{"interval '1 minute'"} }, []string{"sessions_live"}},
		{"figures: ended", selectEnded, "job_minutes", func(int) []string { return []string{"interval '1 hour'"} },
			[]string{"job_minutes_minute"}},
		{"deliveries that are due", takeDeliveries, "deliveries", func(n int) []string {
			return []string{"interval '1 minute'", strconv.Itoa(n)}
		}, []string{"deliveries_due", "deliveries_pkey"}},
		{"old deliveries", forgetDeliveries, "deliveries", func(n int) []string {
			return []string{"interval '1 day'", strconv.Itoa(n)}
		}, []string{"deliveries_ended", "deliveries_pkey"}},
		{"tracked by status and job", trackings + `parent_job_id = $1 AND status = 'crashed'`, "", seventh, []string{"batches_ended_badly", "batches_pkey"}},
		{"tracked, failed", trackings + `parent_job_id = $1 AND status = 'failed'`, "", seventh, []string{"batches_ended_badly", "batches_pkey"}},
		{"tracked, pending", trackings + `parent_job_id = $1 AND status = 'pending'`, "", seventh,
			[]string{"batches_choosy", "batches_fresh", "batches_pkey", "batches_returned"}},
		{"tracked, running", trackings + `status = 'running'`, "", none, []string{"batches_pkey", "batches_running"}},
		{"tracked, crashed of a day", trackings + `status = 'crashed' AND completed_at > now() - interval '24 hours'`, "", none,
			[]string{"batches_ended_badly", "batches_pkey"}},
		{"tracked by job", trackings + `parent_job_id = $1`, "", seventh, []string{
			"batches_choosy", "batches_ended_badly", "batches_fresh", "batches_parts", "batches_pkey", "batches_returned", "batches_running",
		}},
	}
	// A plan that a connection makes while the tables are empty stays until they are analyzed.
	for i, s := range statements {
		if s.table == "" {
			statements[i].table = "batches"
		}
		got := map[string]bool{}
		explain(t, conn, "force_generic_plan", s.sql, s.args(16)).uses(statements[i].table, got)
		if got["Seq Scan"] {
			t.Errorf("%s, planned while there is nothing, walks over all of %s", s.name, statements[i].table)
		}
	}
	// Loading takes as long as it takes; the coordinators' connections give up.
	if _, err := conn.Exec(ctx, "SET enable_seqscan = on; SET statement_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := conn.Exec(ctx, loadBatches, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("load batches: %v", err)
	}
	t.Logf("loaded in %v", time.Since(start))
	for _, s := range statements {
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			for _, n := range []int{1, 16, 128} {
				name := fmt.Sprintf("%s, %d, %s", s.name, n, mode)
				top := explain(t, conn, mode, s.sql, s.args(n))
				indexes := map[string]bool{}
				top.uses(s.table, indexes)
				var got []string
				for index := range indexes {
					got = append(got, index)
				}
				slices.Sort(got)
				if top.sorts("batches_ended_badly") || top.sorts("batch_payloads_place") {
					t.Errorf("%s sorts more than a page", name)
				}
				if diff := cmp.Diff(s.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		}
	}
}

// explain returns the plan of a statement with arguments in SQL.
func explain(t *testing.T, conn *pgx.Conn, mode, sql string, args []string) plan {
	t.Helper()
	call := "explained"
	if len(args) > 0 {
		call += "(" + strings.Join(args, ", ") + ")"
	}
	results, err := conn.PgConn().Exec(t.Context(), "SET plan_cache_mode = "+mode+"; PREPARE explained AS "+sql+
		"; EXPLAIN (FORMAT JSON) EXECUTE "+call+"; DEALLOCATE explained").ReadAll()
	if err != nil {
		t.Fatalf("explain %s: %v", sql, err)
	}
	text := results[2].Rows[0][0]
	var plans []struct{ Plan plan }
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		t.Fatalf("read plan %s: %v", text, err)
	}
	return plans[0].Plan
}
