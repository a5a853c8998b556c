package storetest

import (
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// items: what leads to the original bytes of items.
var items = []scenario{
	{"batches of items come in order, a page at a time, with how their items ended", func(f *fixture) {
		id := f.spoiled("a")
		f.submit("other", 1)
		pages := func(bad bool) []job.Batch { return f.itemBatches(id, bad, 1) }
		var want []job.Batch
		for _, b := range f.batches(id) {
			want = append(want, job.Batch{ID: b.ID, Ordinal: b.Ordinal, FirstItem: b.FirstItem, ItemCount: b.ItemCount, Outcomes: b.Outcomes})
		}
		f.equal("all", pages(false), want)
		f.equal("bad ones", pages(true), want[1:])
		list, err := f.ItemBatches(f.ctx, 12345, 0, 0, false, 9)
		f.must(err)
		f.equal("of an unknown job", list, []job.Batch{})
	}},
	{"frames of rejected items begin with the one that may hold an item", func(f *fixture) {
		up := f.open("a")
		for range 3 {
			g := cut(up)
			first := g.Position.Item + 1
			g.Rejected = []store.RejectedItems{{FirstItem: first, Items: 10, Frame: []byte{byte(first)}}}
			g.Position.Item += 10
			g.Position.Offset += 100
			up = f.commit(up, g)
		}
		for item, want := range map[int64][]int64{0: {1, 11, 21}, 1: {1, 11, 21}, 10: {1, 11, 21}, 11: {11, 21}, 99: {21}} {
			list, err := f.RejectedItems(f.ctx, up.JobID, item, 9)
			f.must(err)
			var got []int64
			for _, r := range list {
				got = append(got, r.FirstItem)
				if r.Items != 10 || len(r.Frame) != 1 || r.Frame[0] != byte(r.FirstItem) {
					f.Errorf("rejected items: %+v", r)
				}
			}
			f.equal("frames", got, want)
		}
		list, err := f.RejectedItems(f.ctx, up.JobID, 0, 2)
		f.must(err)
		f.equal("of a page", len(list), 2)
	}},
}

// itemBatches returns what leads to all items, page by page.
func (f *fixture) itemBatches(id int64, bad bool, size int) (list []job.Batch) {
	f.Helper()
	ordinal, item := int32(0), int64(0)
	for {
		page, err := f.ItemBatches(f.ctx, id, ordinal, item, bad, size)
		f.must(err)
		list = append(list, page...)
		if len(page) > size {
			f.Errorf("a page of %d batches has %d", size, len(page))
		}
		if len(page) < size { // as it says, there are no more
			return list
		}
		last := page[len(page)-1]
		ordinal, item = last.Ordinal, last.FirstItem+1
	}
}
