//go:build linux

package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "modernc.org/sqlite" // databases are looked at by SQL

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// history is a site with a past, the same on both engines, for documents to show. Job 7 was cut into batches 117 to 126 of
// two documents each, PMC:4402180 and so on. Three have completed and three failed, 125 is running and 126 is waiting. The
// second document of 123 and of 124 killed the process that handled it, twice. 123 was split into 127, which completed, and
// 128 with the culprit. The first document of 124 was durable by then, so that it was split into 129, which had nothing left
// to do, and 130 with the culprit. Job 8 has batch 131, which waits after its worker died. Job 9 was cancelled with batch
// 132, and ended 8 days ago. Attempts that fail are final in job 7 and repeated in the others.
//
//	batch   status               took   ended before
//	117     completed            10 s   10 min
//	118     completed            20 s   9 min
//	119     completed            60 s   2 h
//	120     failed               5 s    5 min
//	121     failed               6 s    3 h
//	122     failed               7 s    4 min
//	123     crashed (split)      30 s   20 min
//	124     crashed (split)      40 s   2 days
//	125     running since 15 min
//	127     completed            15 s   15 min
//	128     crashed              25 s   19 min
//	129     completed            40 s   2 days
//	130     crashed              40 s   2 days
//	132     failed (cancelled)          30 min
type history struct {
	*site
	query func(t testing.TB, query string) [][]string // rows as text, a statement of several queries gives the last's
}

// past is what a batch gets in its row: how many seconds ago it ended, and how many seconds it took.
var past = map[int64]struct{ ended, took int }{
	117: {600, 10}, 118: {540, 20}, 119: {7200, 60}, 120: {300, 5}, 121: {10800, 6}, 122: {240, 7}, 123: {1200, 30},
	124: {2 * 24 * 3600, 40}, 125: {0, 900}, 127: {900, 15}, 128: {1140, 25}, 129: {2 * 24 * 3600, 40},
	130: {2 * 24 * 3600, 40}, 132: {1800, 0},
}

// postgresHistory and sqliteHistory start a coordinator without workers and make its past.
func postgresHistory(t testing.TB) *history {
	t.Helper()
	h := &history{site: postgresSite(t)}
	conn := h.connect()
	h.query = func(t testing.TB, query string) (all [][]string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), queryTimeout)
		defer cancel()
		results, err := conn.PgConn().Exec(ctx, query).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		for _, values := range results[len(results)-1].Rows {
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = string(v)
			}
			all = append(all, row)
		}
		return all
	}
	h.serve("--lease", "1h")
	h.query(t, `ALTER TABLE jobs ALTER COLUMN id RESTART WITH 7; ALTER TABLE batches ALTER COLUMN id RESTART WITH 117`)
	h.begin()
	h.query(t, `UPDATE jobs SET ended_at = now() - interval '8 days' WHERE id = 9`)
	for id, p := range past {
		h.query(t, fmt.Sprintf(`UPDATE batches SET settled_at = CASE WHEN state > 1 THEN now() - interval '%[2]d s' END,
			claimed_at = CASE WHEN claimed_at IS NOT NULL THEN now() - interval '%[3]d s' END WHERE id = %[1]d;
			UPDATE attempts SET ended_at = now() - interval '%[2]d s', claimed_at = now() - interval '%[3]d s' WHERE batch_id = %[1]d`,
			id, p.ended, p.ended+p.took))
	}
	return h
}

func sqliteHistory(t testing.TB) *history {
	t.Helper()
	h := &history{site: sqliteSite(t)}
	h.serve("--lease", "1h") // which also makes the database
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.data, "tallyman.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // its folder is removed anyway
	h.query = func(t testing.TB, query string) (all [][]string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), queryTimeout)
		defer cancel()
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
			for i := range into {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = v.String
			}
			all = append(all, row)
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return all
	}
	h.query(t, `INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', 6), ('batches', 116)`)
	h.begin()
	h.query(t, `UPDATE jobs SET ended_at = (unixepoch() - 8 * 24 * 3600) * 1000000 WHERE id = 9`)
	for id, p := range past {
		h.query(t, fmt.Sprintf(`UPDATE batches SET settled_at = CASE WHEN state > 1 THEN (unixepoch() - %[2]d) * 1000000 END,
			claimed_at = CASE WHEN claimed_at IS NOT NULL THEN (unixepoch() - %[3]d) * 1000000 END WHERE id = %[1]d`, id, p.ended, p.ended+p.took))
		h.query(t, fmt.Sprintf(`UPDATE attempts SET ended_at = (unixepoch() - %[2]d) * 1000000,
			claimed_at = (unixepoch() - %[3]d) * 1000000 WHERE batch_id = %[1]d`, id, p.ended, p.ended+p.took))
	}
	return h
}

// begin makes everything but the times.
func (h *history) begin() {
	h.t.Helper()
	var items strings.Builder
	for n := range 20 {
		fmt.Fprintf(&items, `{"sourcedb":"PMC","sourceid":"%d","text":"Aspirin helps.","denotations":[{"span":{"begin":0,"end":7},"obj":"Drug"}]}`+"\n", 4402180+n)
	}
	path := filepath.Join(h.t.TempDir(), "corpus.jsonl")
	submit := func(id int64, text string, u client.Upload) {
		h.t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			h.t.Fatal(err)
		}
		u.Project = "my-corpus"
		if got := h.upload(path, u); got != id {
			h.t.Fatalf("uploaded as job %d, want %d", got, id)
		}
	}
	first, _, _ := strings.Cut(items.String(), "\n")
	hand := byHand(h.t, h.address)

	submit(7, items.String(), client.Upload{Policy: &tallymanv1.Policy{MaxAttempts: 1, BatchItems: 2}})
	hand.register("tagger-1")
	hand.claim(117, 118, 119, 120, 121, 122, 123, 124)
	for _, id := range []int64{117, 118, 119} {
		hand.settle(allStored(id, 2))
	}
	for id, message := range map[int64]string{
		120: "tagger: connection refused", 121: "tagger: connection refused", 122: "tagger: no model for human",
	} {
		hand.settle(&tallymanv1.Settlement{BatchId: id, Attempt: 1, End: tallymanv1.AttemptEnd_ATTEMPT_END_FAILED, Message: message})
	}
	hand.settle(died(123, 1, 1))
	first124 := died(124, 1, 1)
	first124.Outcomes = allStored(124, 1).GetOutcomes()
	hand.settle(first124)
	hand.claim(127, 128, 124)
	hand.settle(died(124, 2, 1))
	hand.settle(allStored(127, 1))
	hand.settle(died(128, 1, 0))
	hand.register("tagger-2")
	hand.claim(125)

	submit(8, first, client.Upload{Priority: 1})
	hand.register("tagger-3")
	hand.claim(131)
	hand.register("tagger-3") // anew: its first life is dead, and so is the attempt

	submit(9, first, client.Upload{})
	succeed(h.t, "cancel", "9", "--reason", "wrong file", "--yes", "--server", h.address)
	if job := h.await(9); job.GetState() != tallymanv1.JobState_JOB_STATE_CANCELLED {
		h.t.Fatalf("job 9 is %v", job.GetState())
	}
	// What ended is counted a moment later.
	eventually(h.t, jobTimeout, "the batches to be counted", func() bool {
		return cmp.Equal(h.query(h.t, `SELECT sum(completed + failed + crashed + cancelled), (SELECT count(*) FROM slowest_batches)
			FROM job_minutes`), [][]string{{"9", "8"}})
	})
	for id, p := range past {
		h.query(h.t, fmt.Sprintf(`UPDATE slowest_batches SET duration_us = %d WHERE batch_id = %d`, p.took*1_000_000, id))
	}
}

// hand is a worker whose every call a test makes.
type hand struct {
	t       testing.TB
	service tallymanv1.WorkerServiceClient
	session int64
	claims  int
}

func byHand(t testing.TB, address string) *hand {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &hand{t: t, service: tallymanv1.NewWorkerServiceClient(conn)}
}

func (h *hand) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(h.t.Context(), time.Minute)
}

// register starts a session, which the further calls use.
func (h *hand) register(worker string) {
	h.t.Helper()
	ctx, cancel := h.context()
	defer cancel()
	got, err := h.service.RegisterWorker(ctx, &tallymanv1.RegisterWorkerRequest{WorkerId: worker, Kinds: []string{"annotations"}, Slots: 8})
	if err != nil {
		h.t.Fatal(err)
	}
	h.session = got.GetSessionId()
}

// claim claims as many batches as are named, and fails the test unless it gets those.
func (h *hand) claim(want ...int64) {
	h.t.Helper()
	ctx, cancel := h.context()
	defer cancel()
	h.claims++
	got, err := h.service.ClaimBatches(ctx, &tallymanv1.ClaimBatchesRequest{
		SessionId: h.session, RequestId: fmt.Sprint("claim-", h.claims), MaxBatches: int32(len(want)),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	var batches []int64
	for _, g := range got.GetGrants() {
		batches = append(batches, g.GetBatchId())
	}
	if diff := cmp.Diff(want, batches); diff != "" {
		h.t.Fatalf("claimed (-want +got):\n%s", diff)
	}
}

// settle ends an attempt.
func (h *hand) settle(s *tallymanv1.Settlement) {
	h.t.Helper()
	ctx, cancel := h.context()
	defer cancel()
	got, err := h.service.SettleBatches(ctx, &tallymanv1.SettleBatchesRequest{
		SessionId: h.session, Settlements: []*tallymanv1.Settlement{s},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if status := got.GetAnswers()[0].GetStatus(); status != tallymanv1.SettleStatus_SETTLE_STATUS_SETTLED {
		h.t.Fatalf("settling batch %d: %v", s.GetBatchId(), status)
	}
}

// allStored ends a first attempt at items that are all stored.
func allStored(batch int64, items int32) *tallymanv1.Settlement {
	return &tallymanv1.Settlement{
		BatchId: batch, Attempt: 1, End: tallymanv1.AttemptEnd_ATTEMPT_END_COMPLETED,
		Outcomes: []*tallymanv1.OutcomeRun{{Count: items, Outcome: tallymanv1.Outcome_OUTCOME_STORED}},
	}
}

// died ends an attempt whose process died with an item at hand.
func died(batch int64, attempt, position int32) *tallymanv1.Settlement {
	return &tallymanv1.Settlement{
		BatchId: batch, Attempt: attempt, End: tallymanv1.AttemptEnd_ATTEMPT_END_DIED,
		Message: "the command died: the process was killed by SIGSEGV",
		Crash: &tallymanv1.Crash{
			Suspect: position + 1, Signal: "SIGSEGV", Fingerprint: "5f0a1b9c2d7e",
			Stderr: "tagger: no glyph for U+10FFFF\n",
		},
	}
}
