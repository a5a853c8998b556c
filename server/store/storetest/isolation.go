package storetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// isolation: batches that kill workers are split, down to the item that does.
var isolation = []scenario{
	{"a death on a known item splits the batch around it, and the second names the culprit", func(f *fixture) {
		id := f.submit("a", 2, 9)
		s := f.register("w")
		first := f.claimOne(s, "0", long, id)
		f.settle(completed(first))
		g := f.claimOne(s, "1", long, id)
		f.equal("state", f.settle(died(g, 2, 5, "SIGSEGV")).State, job.BatchSplit)
		f.equal("family", f.shown(id, g.BatchID), []string{
			"0 split, items 3 to 11, 2 done", "1 completed, items 3 to 4, 2 done", "2 pending, items 5 to 6, 0 done",
			"3 pending, items 7 to 7, 0 done", "4 pending, items 8 to 11, 0 done",
		})
		f.equal("repeated", f.settle(died(g, 2, 5, "SIGSEGV")).State, job.BatchSplit)
		j := f.audit(id, 0)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 4})
		f.equal("crashed ever", j.CrashedEver, int64(1))
		f.equal("batches", j.Batches, [7]int64{job.BatchPending: 3, job.BatchCompleted: 2, job.BatchSplit: 1})

		parts := f.claim(s, "2", long, 9, id)
		var ids []int64
		for _, p := range parts {
			f.equal("ancestors", p.Ancestors, []int64{g.BatchID})
			ids = append(ids, p.BatchID)
		}
		frames, err := f.Payloads(f.ctx, ids, 1<<20)
		f.must(err)
		for _, p := range parts {
			one, err := f.Frame(f.ctx, p.Lease)
			f.must(err)
			f.equal("frame", one, frames[p.BatchID])
			items, err := store.Items(one, &job.Batch{FirstItem: p.FirstItem, ItemCount: p.ItemCount})
			f.must(err)
			f.equal("first item", items[0].Number, p.FirstItem)
			f.equal("documents", f.batch(p.BatchID).Documents[0], document(p.FirstItem))
			f.equal("number of documents", f.batch(p.BatchID).Total, int(p.ItemCount))
			if p.ItemCount > 1 {
				f.settle(completed(p))
				continue
			}
			f.equal("the suspect", f.settle(died(p, 0, 1, "SIGSEGV")).State, job.BatchCrashed)
			f.equal("it alone", f.batch(p.BatchID).Outcomes, []job.Run{{Count: 1, Outcome: job.ItemCrashed}})
		}
		j = f.audit(id, 0)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 10, job.ItemCrashed: 1})
		if j.State != job.CompletedWithErrors || j.Errors != 1 {
			f.Errorf("ended as %v with %d errors", j.State, j.Errors)
		}
		found := f.findings(store.FindingFilter{JobID: id})
		if len(found) != 1 || found[0].Item != 7 || found[0].Document != document(7) || found[0].Line != 7 ||
			found[0].Code != store.ItemCrashed || !strings.Contains(found[0].Message, "SIGSEGV") {
			f.Errorf("findings %+v", found)
		}
		a := f.attempts(g.BatchID)[0]
		if a.Decision == "" || a.Crash == nil || a.Crash.Suspect != 5 || a.Crash.Signal != "SIGSEGV" || a.Crash.ExitCode != 0 ||
			a.Crash.PeakMemory != 1<<20 || a.Crash.Stderr != "it fell" || a.Crash.Fingerprint != "f" {
			f.Errorf("attempt %+v of crash %+v", a, a.Crash)
		}
		f.gone(id)
	}},
	{"deaths without a suspect halve the batch, down to the item", func(f *fixture) {
		id := f.submit("a", 8)
		s := f.register("w")
		deaths := 0
		for n := 0; ; n++ {
			grants := f.claim(s, strconv.Itoa(n), long, 1, id)
			if len(grants) == 0 {
				break
			}
			g := grants[0]
			if g.FirstItem > 6 || g.FirstItem+int64(g.ItemCount) <= 6 {
				f.settle(completed(g))
				continue
			}
			deaths++
			f.settle(died(g, 0, 0, "SIGKILL"))
		}
		if deaths != 6 { // of 8, 8, 4, 2, 1 and 1 items
			f.Errorf("%d deaths, want 6", deaths)
		}
		j := f.audit(id, 0)
		if j.State != job.CompletedWithErrors || j.ItemOutcomes != [9]int64{job.Stored: 7, job.ItemCrashed: 1} {
			f.Errorf("ended as %v with %v", j.State, j.ItemOutcomes)
		}
		f.equal("crashed ever", j.CrashedEver, int64(1))
		for _, b := range f.batches(id) {
			if b.State == job.BatchCrashed && b.FirstItem != 6 {
				f.Errorf("batch %d, item %d is called the culprit", b.ID, b.FirstItem)
			}
		}
		f.gone(id)
	}},
	{"batches that died together are tried again alone", func(f *fixture) {
		id := f.submit("a", 3, 3, 3, 3)
		s := f.register("w")
		grants := f.claim(s, "1", long, 3, id)
		f.beat(store.Beat{Lease: grants[2].Lease, Waiting: true})
		f.breaks(s, grants)
		var got []string
		for _, e := range f.reap() {
			got = append(got, fmt.Sprint(e.Kind, " ", e.State))
		}
		f.equal("ended", got, []string{"died pending", "died pending", "released pending"})

		again := f.register("w")
		solo := f.claim(again, "1", long, 8, id)
		if len(solo) != 1 || !solo[0].Solo || solo[0].BatchID != grants[0].BatchID {
			f.Fatalf("granted %+v, want the first batch alone", solo)
		}
		f.equal("repeated", f.claim(again, "1", long, 8, id)[0].Solo, true)
		f.equal("while it runs", len(f.claim(again, "2", long, 8, id)), 0)
		f.settle(completed(solo[0]))
		next := f.claim(again, "3", long, 8, id)
		if len(next) != 1 || !next[0].Solo {
			f.Fatalf("granted %+v, want the second batch alone", next)
		}
		f.settle(completed(next[0]))
		rest := f.claim(again, "4", long, 8, id)
		f.equal("ordinals of the rest", ordinals(rest), []int32{2, 3})
		f.audit(id, 0)
	}},
	{"what fell silent before its worker started again had died with the rest", func(f *fixture) {
		id := f.submit("a", 3, 3)
		s := f.register("w")
		f.expire(f.claimOne(s, "1", short, id))
		held := f.claimOne(s, "2", long, id)
		f.equal("ended by silence", len(f.reap()), 1)
		f.register("w")
		if b := f.batch(held.BatchID); b.State != job.BatchPending || !b.Solo || b.LoneDeaths != 0 {
			f.Errorf("the other batch is accused alone: %+v", b.Batch)
		}
	}},
	{"a child that died before its worker did was not with the rest", func(f *fixture) {
		id := f.submit("a", 3, 3)
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, id)
		f.settle(died(grants[0], 0, 0, "SIGSEGV"))
		f.register("w")
		if b := f.batch(grants[1].BatchID); b.State != job.BatchPending || b.LoneDeaths != 1 {
			f.Errorf("the batch that was held is not accused: %+v", b.Batch)
		}
	}},
	{"the last beat says whether a batch has begun", func(f *fixture) {
		id := f.submit("a", 3, 3, 3)
		s := f.register("w")
		grants := f.claim(s, "1", long, 3, id)
		_, _, err := f.Beat(f.ctx, long, []store.Beat{
			{Lease: grants[0].Lease, Waiting: true}, {Lease: grants[1].Lease, Waiting: true}, {Lease: grants[2].Lease},
			{Lease: grants[0].Lease, Outcomes: stored(1)}, {Lease: grants[1].Lease}, {Lease: grants[2].Lease, Waiting: true},
			{Lease: job.Lease{BatchID: grants[1].BatchID, Attempt: grants[1].Attempt - 1, SessionID: s}, Waiting: true},
		})
		f.must(err)
		f.register("w")
		var kinds []job.EndKind
		for _, g := range grants {
			kinds = append(kinds, f.attempts(g.BatchID)[0].Kind)
		}
		f.equal("ended as", kinds, []job.EndKind{job.EndDied, job.EndDied, job.EndReleased})
	}},
	{"a solo batch is not given to a session that holds something", func(f *fixture) {
		id := f.submit("a", 3, 3, 3, 3)
		s := f.register("w")
		f.breaks(s, f.claim(s, "1", long, 2, id))
		f.reap()
		busy := f.register("w")
		_ = f.claim(busy, "1", long, 1, f.submit("b", 1))
		f.equal("ordinals to one that is busy", ordinals(f.claim(busy, "2", long, 8, id)), []int32{2, 3})
	}},
	{"a batch that died is not given to the same worker while others live", func(f *fixture) {
		id := f.submit("a", 5, 1, 1)
		s, other := f.register("w"), f.register("other")
		g := f.claimOne(s, "1", long, id)
		f.equal("state", f.settle(died(g, 0, 3, "SIGSEGV")).State, job.BatchPending)
		f.equal("what it is given", ordinals(f.claim(s, "2", long, 1, id)), []int32{1})
		again := f.claimOne(other, "1", long, id)
		f.equal("what the other is given", again.Ordinal, int32(0))
		f.equal("state after the same death elsewhere", f.settle(died(again, 0, 3, "SIGSEGV")).State, job.BatchSplit)
		f.equal("family", f.shown(id, g.BatchID), []string{
			"0 split, items 1 to 5, 0 done", "3 pending, items 1 to 2, 0 done", "4 crashed, items 3 to 3, 1 done", "5 pending, items 4 to 5, 0 done",
		})
		list, err := f.ListBatches(f.ctx, store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchCrashed}}, store.Page{Size: 9})
		f.must(err)
		if len(list) != 1 || list[0].WorkerID != "other" || list[0].Error != "the process was ended by SIGSEGV" || list[0].ClaimedAt.IsZero() {
			f.Errorf("the culprit is shown as %+v", list)
		}
		f.audit(id, 0)
	}},
	{"the last worker is given it again", func(f *fixture) {
		id := f.submit("a", 5)
		n := session("other")
		n.Kinds = []string{"another"}
		_, _, err := f.RegisterSession(f.ctx, n)
		f.must(err)
		s := f.register("w")
		f.equal("state", f.settle(died(f.claimOne(s, "1", long, id), 0, 0, "SIGSEGV")).State, job.BatchPending)
		f.claimOne(s, "2", long, id)
	}},
	{"what is left when no more is to be split fails", func(f *fixture) {
		id := f.limited("a", job.Policy{MaxSplits: -1}, 5)
		s := f.register("w")
		f.equal("state", f.settle(died(f.claimOne(s, "1", long, id), 1, 3, "SIGSEGV")).State, job.BatchFailed)
		j := f.audit(id, 0)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 1, job.ItemFailed: 4})
		if a := f.attempts(f.batches(id)[0].ID); !strings.Contains(a[0].Decision, "max_splits") {
			f.Errorf("decided: %q", a[0].Decision)
		}
	}},
	{"parts are swept, paged and retried like other batches", func(f *fixture) {
		id := f.submit("a", 9, 1)
		s := f.register("w")
		f.settle(died(f.claimOne(s, "1", long, id), 2, 5, "SIGSEGV"))
		f.stop(id)
		f.sweep(id)
		j := f.audit(id, 0)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 2, job.ItemCancelled: 8})
		var paged []int64
		for page := (store.Page{Size: 1}); ; {
			list, err := f.ListBatches(f.ctx, store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchCancelled}}, page)
			f.must(err)
			if len(list) == 0 {
				break
			}
			paged = append(paged, list[0].ID)
			page.After, page.AfterID = int64(list[0].Ordinal)+1, list[0].ID
		}
		f.equal("cancelled ones, in pages", len(paged), 4)
		f.retry(id, store.Retry{RequestID: "r"})
		f.steps(id)
		for _, g := range f.claim(s, "2", long, 9, id) {
			f.settle(completed(g))
		}
		if j := f.audit(id, 0); j.State != job.Succeeded || j.ItemOutcomes[job.Stored] != 10 {
			f.Errorf("ended as %v with %v", j.State, j.ItemOutcomes)
		}
		f.gone(id)
	}},
	{"an item whose payload cannot be read fails with its batch", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 4)
		g.Batches[0].Frame, g.Finished = []byte("no frame"), true
		f.commit(up, g)
		end := f.settle(died(f.claimOne(f.register("w"), "1", long, up.JobID), 0, 2, "SIGSEGV"))
		f.equal("state", end.State, job.BatchFailed)
		f.equal("outcomes", f.audit(up.JobID, 0).ItemOutcomes, [9]int64{job.ItemFailed: 4})
	}},
}

// died reports the death of a child process, after so many items were done, with the one at a place in the batch at hand; 0
// when that is unknown.
func died(g store.Grant, done, suspect int32, signal string) store.Settlement {
	s := ended(g, job.EndDied)
	s.Message = "the process was ended by " + signal
	s.Crash = &job.Crash{Suspect: suspect, Signal: signal, PeakMemory: 1 << 20, Stderr: "it fell", Fingerprint: "f"}
	if done > g.DoneItems {
		s.Outcomes = stored(done - g.DoneItems)
	}
	return s
}

// family returns a batch and its parts.
func (f *fixture) family(jobID, root int64) []store.BatchRow {
	f.Helper()
	var list []store.BatchRow
	for _, b := range f.batches(jobID) {
		if b.ID == root || b.RootID == root {
			list = append(list, b)
		}
	}
	return list
}

// shown describes a batch and its parts, by their distance in ids.
func (f *fixture) shown(jobID, root int64) []string {
	f.Helper()
	var list []string
	for _, b := range f.family(jobID, root) {
		list = append(list, fmt.Sprintf("%d %v, items %d to %d, %d done", b.ID-root, b.State, b.FirstItem,
			b.FirstItem+int64(b.ItemCount)-1, b.DoneItems))
	}
	return list
}

// breaks has the process of a session die, and the leases it held run out.
func (f *fixture) breaks(session int64, grants []store.Grant) {
	f.Helper()
	epoch, err := f.OpenStream(f.ctx, session)
	f.must(err)
	f.must(f.BreakStream(f.ctx, session, epoch, short))
	for _, g := range grants {
		f.expire(g)
	}
}

// gone deletes a job and sees that nothing is left of its batches.
func (f *fixture) gone(id int64) {
	f.Helper()
	list := f.batches(id)
	if !f.job(id).State.Ended() {
		f.Fatalf("job %d has not ended", id)
	}
	f.must(f.DeleteJob(f.ctx, id))
	for more := true; more; {
		var err error
		more, err = f.DeleteStep(f.ctx, 2)
		f.must(err)
	}
	if slices.ContainsFunc(list, func(b store.BatchRow) bool { _, _, err := f.GetBatch(f.ctx, b.ID); return err == nil }) {
		f.Errorf("batches of a deleted job are left")
	}
}
