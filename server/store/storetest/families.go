package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Families tests what becomes of the parts of split batches, which share an ordinal and a payload. unchecked makes the
// statement that lets batches have any state.
func Families(t *testing.T, open OpenWithQuery, unchecked string) {
	t.Helper()
	begin := func(t *testing.T) (f *fixture, id int64, family map[string]job.Batch, states func() map[string]string) {
		t.Helper()
		s, query := open(t)
		f = &fixture{tb: t, Store: s, ctx: t.Context()}
		id = f.submit("a", 6, 2, 1, 2, 1, 3)
		grants := f.claim(f.register("w"), "1", long, 6, id)
		f.settle(completed(grants[1]))
		for _, n := range []int{2, 3, 5} {
			f.settle(ended(grants[n], job.EndFailed))
		}
		for _, n := range []int{0, 4} {
			f.settle(ended(grants[n], job.EndReleased))
		}
		f.fold(id)
		// The first batch is split into those that follow it, but for the last. Their ids are not in the order of their items.
		for _, sql := range []string{
			unchecked,
			`UPDATE batches SET state = 6, done_items = item_count, available_at = NULL, settled_at = (SELECT submitted_at FROM jobs)
				WHERE ordinal = 0`,
			`UPDATE batches SET root_id = (SELECT min(id) FROM batches), parent_id = (SELECT min(id) FROM batches),
				first_item = CASE ordinal WHEN 1 THEN 5 WHEN 2 THEN 4 WHEN 3 THEN 2 ELSE 1 END, ordinal = 0 WHERE ordinal BETWEEN 1 AND 4`,
			`DELETE FROM batch_payloads WHERE ordinal BETWEEN 1 AND 4`,
		} {
			if strings.TrimSpace(sql) != "" {
				query(t, sql)
			}
		}
		failed := func(n int32) []job.Run { return []job.Run{{Count: n, Outcome: job.ItemFailed}} }
		family = map[string]job.Batch{
			"split":     {ID: grants[0].BatchID, FirstItem: 1, ItemCount: 6},
			"pending":   {ID: grants[4].BatchID, FirstItem: 1, ItemCount: 1},
			"failed 2":  {ID: grants[3].BatchID, FirstItem: 2, ItemCount: 2, Outcomes: failed(2)},
			"failed 4":  {ID: grants[2].BatchID, FirstItem: 4, ItemCount: 1, Outcomes: failed(1)},
			"stored":    {ID: grants[1].BatchID, FirstItem: 5, ItemCount: 2, Outcomes: stored(2)},
			"failed 13": {ID: grants[5].BatchID, Ordinal: 5, FirstItem: 13, ItemCount: 3, Outcomes: failed(3)},
		}
		return f, id, family, func() map[string]string {
			list := map[string]string{}
			for name, b := range family {
				list[name] = query(t, fmt.Sprintf(`SELECT state FROM batches WHERE id = %d`, b.ID))[0][0]
			}
			return list
		}
	}
	t.Run("items are found in their order, in the parts", func(t *testing.T) {
		t.Parallel()
		f, id, family, _ := begin(t)
		names := func(list []job.Batch) (names []string) {
			for _, b := range list {
				for name, want := range family {
					if want.ID == b.ID {
						f.equal(name, b, want)
						names = append(names, name)
					}
				}
			}
			return names
		}
		for size := 1; size < 7; size++ {
			what := fmt.Sprintf(", %d a page", size)
			f.equal("all"+what, names(f.itemBatches(id, false, size)), []string{"pending", "failed 2", "failed 4", "stored", "failed 13"})
			f.equal("bad ones"+what, names(f.itemBatches(id, true, size)), []string{"failed 2", "failed 4", "failed 13"})
		}
		list, err := f.ItemBatches(f.ctx, id, 0, 4, false, 9)
		f.must(err)
		f.equal("from the fourth item on", names(list), []string{"failed 4", "stored", "failed 13"})
		list, err = f.ItemBatches(f.ctx, id, 1, 0, false, 9)
		f.must(err)
		f.equal("from the next batch on", names(list), []string{"failed 13"})
	})
	t.Run("parts have the payload of the batch that ingest cut", func(t *testing.T) {
		t.Parallel()
		f, id, family, _ := begin(t)
		root, part := family["split"].ID, family["failed 4"].ID
		frames, err := f.Payloads(f.ctx, []int64{root, part}, 1<<20)
		f.must(err)
		if len(frames[root]) == 0 {
			f.Errorf("there is no payload")
		}
		f.equal("payload of a part", frames[part], frames[root])
		g := f.claimOne(f.register("w2"), "1", long, id)
		f.equal("claimed", g.BatchID, family["pending"].ID)
		frame, err := f.Frame(f.ctx, g.Lease)
		f.must(err)
		f.equal("payload of a lease", frame, frames[root])
	})
	t.Run("results of parts come in the order of their items", func(t *testing.T) {
		t.Parallel()
		f, id, _, _ := begin(t)
		s := f.register("w2")
		var want []itemValue
		settle := func(request string) {
			t.Helper()
			for _, g := range f.claim(s, request, long, 9, id) {
				f.settle(completedWith(g, request))
				for i := range int64(g.ItemCount) {
					want = append(want, itemValue{g.FirstItem + i, request})
				}
			}
		}
		f.retry(id, store.Retry{RequestID: "1"})
		for more := true; more; {
			_, more, _ = f.RetryStep(f.ctx, id, 1)
			settle(fmt.Sprint("claim ", len(want)))
		}
		slices.SortFunc(want, func(x, y itemValue) int { return int(x.Item - y.Item) })
		if len(want) != 7 {
			f.Errorf("%d items were handled, want 7", len(want))
		}
		for size := 1; size < 5; size++ {
			f.equal(fmt.Sprintf("%d a page", size), f.values(id, 0, size), want)
		}
		for item := range int64(17) {
			place, err := f.ResultsPlace(f.ctx, id, item)
			f.must(err)
			got := slices.DeleteFunc(f.values(id, place, 2), func(v itemValue) bool { return v.Item < item })
			f.equal(fmt.Sprintf("from the place of item %d on", item), got,
				slices.DeleteFunc(slices.Clone(want), func(v itemValue) bool { return v.Item < item }))
		}
	})
	t.Run("a retry moves each part once, and nothing that was split", func(t *testing.T) {
		t.Parallel()
		f, id, family, states := begin(t)
		split := family["split"]
		if _, err := f.RetryJob(f.ctx, id, store.Retry{RequestID: "0", Batches: []int64{split.ID}}); !errors.Is(err, store.ErrNothingToRetry) {
			f.Errorf("retry of a split batch: %v, want ErrNothingToRetry", err)
		}
		before := f.job(id)
		j := f.retry(id, store.Retry{RequestID: "1"})
		f.equal("taken back", j.TakenBack[job.ItemFailed], int64(6))
		for range 3 {
			n, more, err := f.RetryStep(f.ctx, id, 1)
			if n != 1 || !more || err != nil {
				f.Errorf("a step moved %d batches, more %v, %v", n, more, err)
			}
		}
		n, more, err := f.RetryStep(f.ctx, id, 1)
		if n != 0 || more || err != nil {
			f.Errorf("the last step moved %d batches, more %v, %v", n, more, err)
		}
		f.equal("states", states(), map[string]string{
			"split": "6", "stored": "2", "pending": "0", "failed 2": "0", "failed 4": "0", "failed 13": "0"})
		j = f.fold(id)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: before.ItemOutcomes[job.Stored]})
		f.equal("failed batches", j.Batches[job.BatchFailed], int64(0))
	})
}
