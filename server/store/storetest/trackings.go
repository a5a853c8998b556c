package storetest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Query runs SQL on a store's database as another program would, past the store, and returns the rows as text; null is
// the text "null". A statement returns none.
type Query func(tb testing.TB, sql string) [][]string

// OpenWithQuery is Open, with a way to the database.
type OpenWithQuery func(tb testing.TB) (store.Store, Query)

// Trackings tests the view batch_job_trackings.
func Trackings(t *testing.T, open OpenWithQuery) {
	t.Helper()
	begin := func(t *testing.T) (*fixture, func(what, sql string, want ...string)) {
		t.Helper()
		s, query := open(t)
		f := &fixture{tb: t, Store: s, ctx: t.Context()}
		return f, func(what, sql string, want ...string) {
			t.Helper()
			var got []string
			for _, row := range query(t, sql) {
				got = append(got, fmt.Sprint(row))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
	}
	t.Run("each state has its status", func(t *testing.T) {
		t.Parallel()
		f, show := begin(t)
		id, grants := f.tracked("a")
		const statuses = `SELECT child_job_id - (SELECT min(id) FROM batch_job_trackings), status, item_count, error_message
			FROM batch_job_trackings WHERE parent_job_id = 1 ORDER BY id`
		show("while it runs", statuses,
			"[0 completed 1 null]", "[1 failed 1 it broke]", "[2 crashed 1 it fell]", "[3 pending 1 it fell]",
			"[4 pending 1 null]", "[5 running 1 null]", "[6 pending 1 null]")
		f.settle(ended(grants[5], job.EndReleased))
		f.stop(id)
		f.sweep(id)
		show("stopped", statuses,
			"[0 completed 1 null]", "[1 failed 1 it broke]", "[2 crashed 1 it fell]", "[3 failed 1 cancelled: asked to]",
			"[4 failed 1 cancelled: asked to]", "[5 failed 1 cancelled: asked to]", "[6 failed 1 cancelled: asked to]")
		f.fold(id)
		f.must(f.DeleteJob(f.ctx, id))
		show("deleted", statuses)
	})
	t.Run("times are those of the last attempt", func(t *testing.T) {
		t.Parallel()
		f, show := begin(t)
		f.tracked("a")
		show("which are there", `SELECT id - (SELECT min(id) FROM batch_job_trackings),
			CASE WHEN started_at >= created_at THEN 'started' ELSE '' END,
			CASE WHEN completed_at >= started_at THEN 'completed' ELSE '' END,
			CASE WHEN updated_at = completed_at THEN 'at its end' WHEN updated_at = started_at THEN 'at its start'
				WHEN updated_at > created_at THEN 'since' ELSE 'at first' END
			FROM batch_job_trackings ORDER BY id`,
			"[0 started completed at its end]", "[1 started completed at its end]", "[2 started completed at its end]",
			"[3   since]", "[4   since]", "[5 started  at its start]", "[6   at first]")
	})
	t.Run("documents are objects", func(t *testing.T) {
		t.Parallel()
		f, show := begin(t)
		up := f.open("a")
		g := cut(up, 2)
		g.Batches[0].Documents = []string{"PubMed:1", "a \"base\":10.1/x:y"}
		g.Finished = true
		f.commit(up, g)
		other := header("b")
		other.Kind = "tags"
		up, err := f.OpenUpload(f.ctx, other)
		f.must(err)
		g = cut(up, 1)
		g.Batches[0].Documents = []string{"file:7"}
		f.commit(up, g)
		g = cut(up, 1)
		g.Position.Item, g.Position.Batch = 2, 2
		g.Batches[0].FirstItem, g.Batches[0].Documents = 2, nil
		f.commit(f.uploadOf("b"), store.IngestGroup{JobID: up.JobID, Epoch: up.Epoch, Position: g.Position, Batches: g.Batches})
		show("documents", `SELECT doc_identifiers FROM batch_job_trackings ORDER BY id`,
			`[[{"sourcedb":"PubMed","sourceid":"1"},{"sourcedb":"a \"base\"","sourceid":"10.1/x:y"}]]`,
			`[[{"sourcedb":null,"sourceid":"file:7"}]]`, `[[]]`)
	})
	t.Run("a split batch has crashed, and its parts count", func(t *testing.T) {
		t.Parallel()
		f, show := begin(t)
		id, w := f.submit("a", 4, 1), f.register("w")
		f.settle(died(f.claimOne(w, "1", long, id), 3, 4, "SIGSEGV"))
		f.settle(died(f.claimOne(w, "2", long, id), 3, 4, "SIGSEGV"))
		id = f.submit("b", 4)
		f.settle(died(f.claimOne(w, "3", long, id), 2, 3, "SIGSEGV"))
		show("the families", `SELECT parent_job_id, status, item_count, doc_identifiers ->> 0 FROM batch_job_trackings ORDER BY id`,
			`[1 crashed 0 {"sourcedb":"PubMed","sourceid":"1"}]`, `[1 pending 1 {"sourcedb":"PubMed","sourceid":"5"}]`,
			`[1 completed 3 {"sourcedb":"PubMed","sourceid":"1"}]`, `[1 crashed 1 {"sourcedb":"PubMed","sourceid":"4"}]`,
			`[2 crashed 0 {"sourcedb":"PubMed","sourceid":"1"}]`, `[2 completed 2 {"sourcedb":"PubMed","sourceid":"1"}]`,
			`[2 pending 1 {"sourcedb":"PubMed","sourceid":"3"}]`, `[2 pending 1 {"sourcedb":"PubMed","sourceid":"4"}]`)
		show("items", `SELECT sum(item_count) FROM batch_job_trackings `, "[9]")
	})
}

// uploadOf returns an upload as it is now.
func (f *fixture) uploadOf(id string) store.Upload {
	f.Helper()
	up, err := f.GetUpload(f.ctx, id)
	f.must(err)
	return up
}

// tracked submits a job of seven batches of one item. The first has completed, the second failed, the third crashed, the
// fourth waits after a crash, the fifth was released, the sixth runs, the seventh was never claimed.
func (f *fixture) tracked(name string) (id int64, grants []store.Grant) {
	f.Helper()
	up := f.open(name)
	g := cut(up, 1, 1, 1, 1, 1, 1, 1)
	g.Finished = true
	f.commit(up, g)
	s := f.register("w")
	grants = f.claim(s, "1", long, 6, up.JobID)
	end := func(g store.Grant, kind job.EndKind, message string) store.Settlement {
		s := ended(g, kind)
		s.End.Message = message
		return s
	}
	f.settle(completed(grants[0]))
	f.settle(end(grants[1], job.EndFailed, "it broke"))
	for crash := 1; ; crash++ {
		f.settle(end(grants[2], job.EndDied, "it fell"))
		if f.batch(grants[2].BatchID).State == job.BatchCrashed {
			break
		}
		if crash > 5 {
			f.Fatalf("the batch has not crashed after %d crashes", crash)
		}
		grants[2] = f.claimOne(s, fmt.Sprint("again ", crash), long, up.JobID)
	}
	f.settle(end(grants[3], job.EndDied, "it fell"))
	f.settle(end(grants[4], job.EndReleased, "it was given back"))
	return up.JobID, grants
}
