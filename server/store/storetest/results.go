package storetest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// value is a result of an item, as frames of the suite hold it.
type value struct {
	Position int32
	Text     string
}

// valuesAt are results of the items at some positions of a batch, with the same text.
func valuesAt(text string, positions ...int32) store.Results {
	list := make([]value, len(positions))
	for i, p := range positions {
		list[i] = value{p, text}
	}
	return valuesOf(list)
}

func valuesOf(list []value) store.Results {
	if len(list) == 0 {
		return store.Results{}
	}
	frame, err := json.Marshal(list)
	if err != nil {
		panic(err) // it is text and numbers
	}
	return store.Results{Frame: frame, Last: list[len(list)-1].Position}
}

// itemValue is a result as it was kept: items of the suite's batches are numbered without gaps.
type itemValue struct {
	Item int64
	Text string
}

// values returns the results of a job from a place on, read in pages of some size.
func (f *fixture) values(jobID, place int64, size int) []itemValue {
	f.Helper()
	var all []itemValue
	for {
		page, err := f.ResultFrames(f.ctx, jobID, place, size)
		f.must(err)
		for _, r := range page {
			if r.Place < place || r.Place != r.FirstItem+int64(r.From) {
				f.Errorf("a frame at %d from %d on: %+v", r.Place, place, r)
			}
			place = r.Place + 1
			var list []value
			f.must(json.Unmarshal(r.Frame, &list))
			for _, v := range list {
				if v.Position >= r.ItemCount {
					f.Errorf("batch %d has %d items and a result of %d", r.BatchID, r.ItemCount, v.Position)
				}
				if v.Position >= r.From {
					all = append(all, itemValue{r.FirstItem + int64(v.Position), v.Text})
				}
			}
		}
		if len(page) < size {
			return all
		}
	}
}

// results: what handlers made of items, kept with their outcomes.
var results = []scenario{
	{"results are recorded with the outcome of their item, once", func(f *fixture) {
		id := f.submit("a", 6)
		g := f.claimOne(f.register("w"), "1", long, id)
		beat := store.Beat{Lease: g.Lease, Outcomes: stored(2), Results: valuesAt("first", 0, 1)}
		f.beat(beat)
		f.beat(beat)
		want := []itemValue{{1, "first"}, {2, "first"}}
		f.equal("after the first beat, twice", f.values(id, 0, 9), want)
		f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(2), Results: valuesAt("other", 0, 1)})
		f.beat(store.Beat{Lease: g.Lease, From: 1, Outcomes: stored(2), Results: valuesAt("second", 1, 2)})
		want = append(want, itemValue{3, "second"})
		f.equal("after an overlapping beat", f.values(id, 0, 9), want)
		f.beat(store.Beat{Lease: g.Lease, From: 4, Outcomes: stored(1), Results: valuesAt("gap", 4)})
		f.beat(store.Beat{Lease: g.Lease, From: 3, Outcomes: stored(9), Results: valuesAt("past the end", 3)})
		f.equal("after beats that do not fit", f.values(id, 0, 9), want)
		end := store.Settlement{
			Lease: g.Lease, Results: valuesAt("end", 2, 4),
			End: job.End{Kind: job.EndCompleted, From: 2, Outcomes: stored(3)},
		}
		if a := f.settle(end); a.Err == nil {
			f.Errorf("a settlement that lacks an item was answered with %+v", a)
		}
		f.equal("after a settlement that lacks an item", f.values(id, 0, 9), want)
		end.Outcomes = stored(4)
		f.settle(end)
		f.settle(end)
		want = append(want, itemValue{5, "end"})
		f.equal("after the end, twice", f.values(id, 0, 9), want)
		f.equal("in pages of one", f.values(id, 0, 1), want)
		f.audit(id, 0)
	}},
	{"results of items that are not reported are dropped", func(f *fixture) {
		id := f.submit("a", 3)
		s := f.register("w")
		g := f.claimOne(s, "1", long, id)
		f.beat(store.Beat{Lease: g.Lease, Results: valuesAt("a renewal", 0)})
		f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(1), Results: valuesAt("too far", 2)})
		set := ended(g, job.EndReleased)
		set.From, set.Results = 1, valuesAt("without outcomes", 1)
		f.settle(set)
		f.settle(completedWith(f.claimOne(s, "2", long, id), "done"))
		f.equal("results", f.values(id, 0, 9), []itemValue{{2, "done"}, {3, "done"}})
	}},
	{"two beats of one lease in one group record their results one after the other", func(f *fixture) {
		id := f.submit("a", 5)
		g := f.claimOne(f.register("w"), "1", long, id)
		_, _, err := f.Beat(f.ctx, long, []store.Beat{
			{Lease: g.Lease, Outcomes: stored(2), Results: valuesAt("1", 1)},
			{Lease: g.Lease, From: 1, Outcomes: stored(3), Results: valuesAt("2", 1, 3)},
			{Lease: g.Lease, Outcomes: stored(4), Results: valuesAt("3", 3)},
		})
		f.must(err)
		f.equal("results", f.values(id, 0, 9), []itemValue{{2, "1"}, {4, "2"}})
	}},
	{"results come in the order of items, whatever the order in which batches end", func(f *fixture) {
		id, other := f.submit("a", 2, 3, 1, 4), f.submit("b", 2)
		s := f.register("w")
		grants := f.claim(s, "1", long, 9, id)
		f.settle(completedWith(f.claimOne(s, "2", long, other), "other"))
		for _, i := range []int{3, 1, 0, 2} {
			f.settle(completedWith(grants[i], fmt.Sprint("batch ", i)))
		}
		want := []itemValue{
			{1, "batch 0"}, {2, "batch 0"}, {3, "batch 1"}, {4, "batch 1"}, {5, "batch 1"}, {6, "batch 2"},
			{7, "batch 3"}, {8, "batch 3"}, {9, "batch 3"}, {10, "batch 3"},
		}
		for _, size := range []int{1, 2, 3, 4, 5} {
			f.equal(fmt.Sprint("in pages of ", size), f.values(id, 0, size), want)
		}
		for item := range int64(13) {
			place, err := f.ResultsPlace(f.ctx, id, item)
			f.must(err)
			got := slices.DeleteFunc(f.values(id, place, 2), func(v itemValue) bool { return v.Item < item })
			f.equal(fmt.Sprintf("from %d, the place of item %d, on", place, item), got,
				slices.DeleteFunc(slices.Clone(want), func(v itemValue) bool { return v.Item < item }))
			if place < min(item, 10)-3 {
				f.Errorf("the place of item %d is %d", item, place)
			}
		}
		f.equal("of the other job", f.values(other, 0, 9), []itemValue{{1, "other"}, {2, "other"}})
		f.equal("of an unknown job", f.values(12345, 0, 9), []itemValue{})
		place, err := f.ResultsPlace(f.ctx, 12345, 9)
		f.must(err)
		f.equal("place in an unknown job", place, int64(0))
	}},
	{"every end of an attempt records the results of what it reports, a lost one none", func(f *fixture) {
		id := f.submit("a", 2, 2, 2, 2, 2)
		s := f.register("w")
		grants := f.claim(s, "1", long, 9, id)
		for i, kind := range []job.EndKind{job.EndFailed, job.EndReleased, job.EndCancelled, job.EndCompleted} {
			set := ended(grants[i], kind)
			set.Outcomes, set.Results = stored(1), valuesAt(string(kind), 0)
			if kind == job.EndCompleted {
				set.Outcomes = stored(2)
			}
			f.settle(set)
		}
		lost := completedWith(grants[4], "lost")
		lost.Attempt++
		if a := f.settle(lost); !a.Lost {
			f.Errorf("a settlement of nobody's lease: %+v", a)
		}
		lost = completedWith(grants[3], "late")
		lost.SessionID = f.register("v")
		if a := f.settle(lost); !a.Lost {
			f.Errorf("a settlement of another's lease: %+v", a)
		}
		want := []itemValue{{1, "failed"}, {3, "released"}, {5, "cancelled"}, {7, "completed"}}
		f.equal("results", f.values(id, 0, 9), want)
	}},
	{"another attempt adds the results of what was left, also after a retry by hand", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 4)
		g.Finished = true
		f.commit(up, g)
		id, s := up.JobID, f.register("w")
		grant := f.claimOne(s, "1", long, id)
		f.beat(store.Beat{Lease: grant.Lease, Outcomes: stored(1), Results: valuesAt("first attempt", 0)})
		f.settle(ended(grant, job.EndReleased))
		grant = f.claimOne(s, "2", long, id)
		set := ended(grant, job.EndFailed)
		set.Outcomes, set.Results = stored(2), valuesAt("second attempt", 2)
		f.settle(set)
		if j := f.audit(id, 0); !j.State.Ended() {
			f.Fatalf("the job is %v", j.State)
		}
		_, err := f.RetryJob(f.ctx, id, store.Retry{RequestID: "1"})
		f.must(err)
		for more := true; more; {
			_, more, err = f.RetryStep(f.ctx, id, 10)
			f.must(err)
		}
		want := []itemValue{{1, "first attempt"}, {3, "second attempt"}}
		f.equal("before the third attempt", f.values(id, 0, 9), want)
		f.settle(completedWith(f.claimOne(s, "3", long, id), "third attempt"))
		f.equal("after it", f.values(id, 0, 9), append(want, itemValue{4, "third attempt"}))
		f.audit(id, 0)
	}},
	{"results of a job that was stopped stay", func(f *fixture) {
		id := f.submit("a", 3, 1)
		grant := f.claimOne(f.register("w"), "1", long, id)
		f.beat(store.Beat{Lease: grant.Lease, Outcomes: stored(1), Results: valuesAt("before", 0)})
		f.stop(id)
		set := ended(grant, job.EndCancelled)
		set.From, set.Outcomes, set.Results = 1, stored(1), valuesAt("after", 1)
		f.settle(set)
		f.sweep(id)
		if j := f.audit(id, 0); !j.State.Ended() {
			f.Fatalf("the job is %v", j.State)
		}
		f.equal("results", f.values(id, 0, 9), []itemValue{{1, "before"}, {2, "after"}})
	}},
}

// completedWith settles a grant with all that its batch still lacks stored, each with a result.
func completedWith(g store.Grant, text string) store.Settlement {
	set := completed(g)
	var positions []int32
	for i := g.DoneItems; i < g.ItemCount; i++ {
		positions = append(positions, i)
	}
	set.Results = valuesAt(text, positions...)
	return set
}
