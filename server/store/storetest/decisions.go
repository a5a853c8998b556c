package storetest

import (
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// decisions: that the store applies what package job decides, over several attempts.
var decisions = []scenario{
	{"attempts strictly grow", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		for want := int32(1); want <= 6; want++ {
			g := f.claimOne(s, string('a'+want), long, id)
			if g.Attempt != want {
				f.Fatalf("attempt %d, want %d", g.Attempt, want)
			}
			f.settle(ended(g, job.EndReleased))
		}
		var numbers []int32
		for _, a := range f.attempts(f.batches(id)[0].ID) {
			numbers = append(numbers, a.Attempt)
		}
		f.equal("attempts, oldest first", numbers, []int32{1, 2, 3, 4, 5, 6})
	}},
	{"a release accuses nobody", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		for i := range 5 {
			f.settle(ended(f.claimOne(s, string(rune('a'+i)), long, id), job.EndReleased))
		}
		b := f.batches(id)[0]
		if b.State != job.BatchPending || b.Failures+b.Crashes+b.Losses != 0 {
			f.Errorf("after five releases: %+v", b.Batch)
		}
		if j := f.audit(id, 0); j.CrashedEver != 0 {
			f.Errorf("%d batches crashed", j.CrashedEver)
		}
	}},
	{"the last failure ends the batch, its durable items keep their outcome", func(f *fixture) {
		n := header("a")
		n.Policy.MaxAttempts = 2
		up, err := f.OpenUpload(f.ctx, n)
		f.must(err)
		g := cut(up, 5)
		g.Finished = true
		f.commit(up, g)
		s := f.register("w")
		first := ended(f.claimOne(s, "1", long, up.JobID), job.EndFailed)
		first.Retryable, first.Outcomes = true, stored(2)
		f.equal("first", f.settle(first).State, job.BatchPending)
		var again []store.Grant
		f.wait("the retry", func() bool { again = f.claim(s, "2", long, 1, up.JobID); return len(again) > 0 })
		second := ended(again[0], job.EndFailed)
		second.Retryable, second.Outcomes = true, []job.Run{{Count: 1, Outcome: job.Rejected}}
		f.equal("second", f.settle(second).State, job.BatchFailed)
		b := f.batch(again[0].BatchID)
		f.equal("outcomes", b.Outcomes, []job.Run{
			{Count: 2, Outcome: job.Stored}, {Count: 1, Outcome: job.Rejected}, {Count: 2, Outcome: job.ItemFailed},
		})
		if j := f.audit(up.JobID, 0); j.State != job.CompletedWithErrors {
			f.Errorf("the job is %v", j.State)
		}
	}},
	{"the item that is left is the culprit, and the only one of its batch; durable items keep their outcome", func(f *fixture) {
		id := f.submit("a", 4, 1)
		s := f.register("w")
		grants := f.claim(s, "0", long, 2, id)
		f.settle(completed(grants[1]))
		f.settle(ended(grants[0], job.EndReleased))
		for i, state := range []job.BatchState{job.BatchPending, job.BatchPending, job.BatchSplit} {
			g := f.claimOne(s, string(rune('a'+i)), long, id)
			if i == 1 {
				f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(3)})
				g.DoneItems = 3
			}
			f.equal("state", f.settle(ended(g, job.EndDied)).State, state)
		}
		f.equal("family", f.shown(id, grants[0].BatchID), []string{
			"0 split, items 1 to 4, 3 done", "2 completed, items 1 to 3, 3 done", "3 crashed, items 4 to 4, 1 done",
		})
		list, err := f.ListBatches(f.ctx, store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchCrashed}}, store.Page{Size: 9})
		f.must(err)
		b := list[0]
		f.equal("documents of what crashed", b.Documents, f.batches(id)[0].Documents[3:])
		f.equal("outcomes", b.Outcomes, []job.Run{{Count: 1, Outcome: job.ItemCrashed}})
		j := f.audit(id, 0)
		if len(list) != 1 || b.Crashes != 3 || j.CrashedEver != 1 || j.State != job.CompletedWithErrors {
			f.Errorf("%d crashes, %d batches crashed, the job is %v", b.Crashes, j.CrashedEver, j.State)
		}
	}},
	{"an attempt that died after its last item was durable completed", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", long, id)
		f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(2)})
		end := ended(g, job.EndDied)
		end.From = 2
		f.equal("state", f.settle(end).State, job.BatchCompleted)
		f.equal("repeated", f.settle(end), store.SettleAnswer{State: job.BatchCompleted})
		if kept := f.attempts(g.BatchID); len(kept) != 1 || kept[0].Kind != job.EndDied || kept[0].State != job.BatchCompleted {
			f.Errorf("attempts = %+v", kept)
		}
		if j := f.audit(id, 0); j.State != job.Succeeded || j.CrashedEver != 1 {
			f.Errorf("the job is %v, %d batches crashed", j.State, j.CrashedEver)
		}
	}},
	{"what ends while the job is being stopped is cancelled", func(f *fixture) {
		id := f.submit("a", 2, 2, 2, 2)
		grants := f.claim(f.register("w"), "1", long, 4, id)
		f.stop(id)
		retry := ended(grants[1], job.EndFailed)
		retry.Retryable = true
		answers, _, err := f.Settle(f.ctx, []store.Settlement{
			ended(grants[0], job.EndReleased), retry, ended(grants[2], job.EndFailed), completed(grants[3]),
		})
		f.must(err)
		var states []job.BatchState
		for _, a := range answers {
			states = append(states, a.State)
		}
		f.equal("states", states, []job.BatchState{job.BatchCancelled, job.BatchCancelled, job.BatchFailed, job.BatchCompleted})
		j := f.audit(id, 0)
		if j.State != job.Cancelled || j.ItemOutcomes[job.ItemCancelled] != 4 || j.ItemOutcomes[job.ItemFailed] != 2 {
			f.Errorf("the job is %v with %v", j.State, j.ItemOutcomes)
		}
	}},
}
