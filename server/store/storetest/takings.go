package storetest

import (
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// takings: what a retry takes back it takes back as its run begins, and gives again when it is stopped; what it forgets.
var takings = []scenario{
	{"a retry takes back what is not counted yet, too", func(f *fixture) {
		id := f.spoiled("a")
		j := f.retry(id, store.Retry{RequestID: "r", States: []job.BatchState{job.BatchFailed}})
		f.equal("outcomes while nothing is counted", j.ItemOutcomes, [9]int64{})
		want := [9]int64{job.Stored: 6, job.ItemCrashed: 1}
		f.equal("counted", f.fold(id).ItemOutcomes, want)
		f.steps(id)
		f.equal("after the steps", f.fold(id).ItemOutcomes, want)
		f.retry(id, store.Retry{RequestID: "s", Batches: f.batchIDs(store.BatchFilter{JobID: id}, store.Page{Size: 9})})
		f.equal("after another one", f.audit(id, 0).ItemOutcomes, [9]int64{job.Stored: 6})
	}},
	{"stopping a retried job gives what was not moved its outcomes again, each item one", func(f *fixture) {
		id := f.spoiled("a")
		f.fold(id)
		f.equal("retried", f.retry(id, store.Retry{RequestID: "r"}).ItemOutcomes, [9]int64{job.Stored: 6})
		_, _, err := f.RetryStep(f.ctx, id, 1)
		f.must(err)
		f.equal("after a step", f.audit(id, 0).ItemOutcomes, [9]int64{job.Stored: 6})
		f.stop(id)
		f.audit(id, 0)
		f.sweep(id)
		j := f.audit(id, 0)
		f.equal("state", j.State, job.Cancelled)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 6, job.ItemCrashed: 1, job.ItemCancelled: 2})
		f.equal("retried again", f.retry(id, store.Retry{RequestID: "s"}).ItemOutcomes, [9]int64{job.Stored: 6})
		f.steps(id)
		j = f.audit(id, 0)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 6})
		f.equal("batches", j.Batches, [7]int64{job.BatchPending: 2, job.BatchCompleted: 1})
	}},
	{"a retry may be stopped before anything is counted", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", long, id)
		f.fold(id) // it counts the items as in flight, and goes on to
		f.settle(ended(g, job.EndFailed))
		f.retry(id, store.Retry{RequestID: "r"})
		f.stop(id)
		j := f.audit(id, 0)
		f.equal("state", j.State, job.Cancelled)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.ItemFailed: 2})
	}},
	{"a second retry takes over what the first has not moved, and what ended since", func(f *fixture) {
		id := f.spoiled("a")
		f.fold(id)
		f.retry(id, store.Retry{RequestID: "1", States: []job.BatchState{job.BatchFailed}})
		_, _, err := f.RetryStep(f.ctx, id, 1)
		f.must(err)
		g := f.claimOne(f.register("w2"), "1", long, id)
		f.settle(store.Settlement{Lease: g.Lease, End: job.End{Kind: job.EndFailed, From: g.DoneItems, Message: "again"}})
		f.equal("failed again", f.fold(id).ItemOutcomes, [9]int64{job.Stored: 6, job.ItemFailed: 2, job.ItemCrashed: 1})
		j := f.retry(id, store.Retry{RequestID: "2", States: []job.BatchState{job.BatchCrashed}})
		f.equal("retried", j.ItemOutcomes, [9]int64{job.Stored: 6})
		f.equal("forgiven", j.ForgivenBad, int64(0))
		f.steps(id)
		j = f.audit(id, 0)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 6})
		f.equal("batches", j.Batches, [7]int64{job.BatchPending: 2, job.BatchCompleted: 1})
	}},
	{"batches named by a second retry are not taken back twice", func(f *fixture) {
		id := f.spoiled("a")
		f.fold(id)
		b := f.batches(id)
		f.retry(id, store.Retry{RequestID: "1"})
		want := [9]int64{job.Stored: 6}
		f.equal("retried", f.retry(id, store.Retry{RequestID: "2", Batches: []int64{b[2].ID}}).ItemOutcomes, want)
		f.equal("counted", f.audit(id, 0).ItemOutcomes, want)
		f.steps(id)
		f.equal("batches", f.audit(id, 0).Batches, [7]int64{job.BatchPending: 2, job.BatchCompleted: 1})
	}},
	{"limits count while a retry moves batches", func(f *fixture) {
		n := header("a")
		n.Policy.MaxAttempts, n.Policy.MaxBadItems = 1, 2
		up, err := f.OpenUpload(f.ctx, n)
		f.must(err)
		g := cut(up, 1, 1, 3, 1)
		g.Finished = true
		f.commit(up, g)
		s := f.register("w")
		fail := func(request string, n int) {
			f.Helper()
			for _, g := range f.claim(s, request, long, n, up.JobID) {
				f.settle(store.Settlement{Lease: g.Lease, End: job.End{Kind: job.EndFailed, From: g.DoneItems, Message: "no"}})
			}
			f.fold(up.JobID)
		}
		fail("1", 2)
		f.equal("state", f.retry(up.JobID, store.Retry{RequestID: "1"}).State, job.Running)
		_, _, err = f.RetryStep(f.ctx, up.JobID, 1)
		f.must(err)
		fail("2", 2) // the batch that was moved, and a fresh one
		j := f.job(up.JobID)
		if j.State != job.Cancelling || j.Retrying != 0 || j.TakenBack != (job.Job{}).TakenBack {
			f.Errorf("past its limit the job is %v with %v taken back", j.State, j.TakenBack)
		}
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.ItemFailed: 5})
		f.sweep(up.JobID)
		j = f.audit(up.JobID, 0)
		f.equal("state", j.State, job.Failed)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.ItemFailed: 5, job.ItemCancelled: 1})
	}},
	{"a retry forgets losses, and how many of them were in a row", func(f *fixture) {
		id := f.submit("a", 3)
		other, s := f.register("other"), f.register("w")
		f.pass(f.now().Add(margin))
		lose := func(request string) job.EndKind {
			f.Helper()
			g := f.claimOne(s, request, short, id)
			f.touch(other)
			f.expire(g)
			got := f.reap()
			if len(got) != 1 {
				f.Fatalf("ended %+v, want one", got)
			}
			return got[0].Kind
		}
		for _, request := range []string{"1", "2"} {
			f.equal("end", lose(request), job.EndLost)
		}
		f.stop(id)
		f.sweep(id)
		if b := f.batches(id)[0]; b.State != job.BatchCancelled || b.Losses != 2 {
			f.Errorf("stopped: %+v", b.Batch)
		}
		f.equal("state", f.audit(id, 0).State, job.Cancelled)
		f.retry(id, store.Retry{RequestID: "r"})
		f.steps(id)
		f.equal("losses", f.batches(id)[0].Losses, int32(0))
		f.equal("end after the retry", lose("3"), job.EndLost)
		f.audit(id, 0)
	}},
}
