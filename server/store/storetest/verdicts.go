package storetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// verdicts: a worker on which everything dies is told from batches that kill workers.
var verdicts = []scenario{
	{"a worker on which three batches died, of which two completed elsewhere, is drained, and the batches are acquitted", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1)
		bad, good := f.register("bad"), f.register("good")
		grants := f.dying(bad, id, 3)
		f.equal("before any completed", f.judge(), []store.DrainedWorker{})
		for n := range 2 {
			f.settle(completed(f.claimOne(good, fmt.Sprint("c", n), long, id)))
		}
		f.fold(id)
		f.equal("crashed, before", f.statistics().Crashed, int64(2))
		f.equal("crashed ever, before", f.audit(id, 0).CrashedEver, int64(3))
		open := f.batch(grants[2].BatchID)
		if open.DiedOn != "bad" || open.Suspect != 1 {
			f.Errorf("before: %+v", open.Batch)
		}

		got := f.judge()
		if len(got) != 1 || got[0].Session != bad || got[0].Worker != "bad" || len(got[0].Jobs) != 1 || got[0].Jobs[0] != id {
			f.Fatalf("drained %+v", got)
		}
		f.equal("again", f.judge(), []store.DrainedWorker{})
		w, err := f.GetWorker(f.ctx, "bad", 9, 9)
		f.must(err)
		if w.DrainedAt.IsZero() || w.DrainReason != got[0].Reason ||
			!strings.Contains(w.DrainReason, fmt.Sprintf("%d, %d, %d", grants[0].BatchID, grants[1].BatchID, grants[2].BatchID)) {
			f.Errorf("drained at %v because %q, told %q", w.DrainedAt, w.DrainReason, got[0].Reason)
		}
		f.equal("attempts", len(w.Attempts), 3)
		f.equal("told by its beats", f.touch(bad, good), []int64{bad})
		claimed, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(bad, "more", 1)}, []store.Turn{{JobID: id, Most: 1}})
		f.must(err)
		if !errors.Is(claimed.Errs[0], store.ErrSessionDrained) {
			f.Errorf("its claim: %v", claimed.Errs[0])
		}

		for _, g := range grants {
			b := f.batch(g.BatchID)
			if b.Crashes != 0 || b.Suspicion != (job.Suspicion{}) {
				f.Errorf("acquitted: %+v", b.Batch)
			}
		}
		f.equal("crashed ever", f.audit(id, 0).CrashedEver, int64(0))
		f.equal("crashed", f.statistics().Crashed, int64(0))
		// Suspicion begins anew: one death elsewhere names nobody.
		again := f.claimOne(good, "again", long, id)
		f.equal("granted again", again.BatchID, grants[2].BatchID)
		f.equal("state", f.settle(died(again, 0, 1, "SIGSEGV")).State, job.BatchPending)
		f.equal("crashed ever", f.audit(id, 0).CrashedEver, int64(1))
	}},
	{"what dies on a worker that is drained accuses nobody", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1)
		bad, good := f.register("bad"), f.register("good")
		held := f.claimOne(bad, "held", long, id)
		f.dying(bad, id, 3)
		f.complete(good, id, 3)
		f.equal("drained", len(f.judge()), 1)
		f.equal("state", f.settle(died(held, 0, 1, "SIGSEGV")).State, job.BatchPending)
		b := f.batch(held.BatchID)
		if b.Crashes != 0 || b.Suspicion != (job.Suspicion{}) {
			f.Errorf("it is accused: %+v", b.Batch)
		}
		f.equal("the attempt", f.attempts(held.BatchID)[0].Kind, job.EndDied)
		f.complete(good, id, 1)
		f.equal("ended as", f.audit(id, 0).State, job.Succeeded)
		f.equal("crashed", f.statistics().Crashed, int64(0))
	}},
	{"the last worker of a kind is not drained", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		bad, good := f.register("bad"), f.register("good")
		f.dying(bad, id, 3)
		f.complete(good, id, 3)
		_, err := f.EndSession(f.ctx, good, "")
		f.must(err)
		n := session("other")
		n.Kinds = []string{"another"}
		_, _, err = f.RegisterSession(f.ctx, n)
		f.must(err)
		f.equal("drained", f.judge(), []store.DrainedWorker{})
		f.register("third")
		f.equal("drained when there is another", len(f.judge()), 1)
	}},
	{"a worker that completes more than dies on it is not drained", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
		w, other := f.register("w"), f.register("other")
		for n := range 3 {
			f.dying(w, id, 1)
			f.settle(completed(f.claimOne(w, fmt.Sprint("ok", n), long, id)))
		}
		f.complete(other, id, 3)
		f.fold(id)
		f.equal("drained", f.judge(), []store.DrainedWorker{})
		f.dying(w, id, 1)
		f.equal("when more have died than completed", len(f.judge()), 1)
	}},
	{"batches that died together count as one, until their process has died three times", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
		good := f.register("good")
		var bad int64
		for life := range 4 {
			bad = f.register("bad") // ends the life before
			f.equal(fmt.Sprint("drained in life ", life), f.judge(), []store.DrainedWorker{})
			if life < 3 {
				f.equal("claimed", len(f.claim(bad, "1", long, 3, id)), 3)
			} else {
				f.complete(good, id, 9)
			}
		}
		got := f.judge()
		if len(got) != 1 || got[0].Session != bad {
			f.Fatalf("drained %+v, want session %d", got, bad)
		}
		f.audit(id, 0)
		bad = f.register("bad") // it died once more
		f.equal("drained from its birth", f.touch(bad), []int64{bad})
		f.equal("because", f.session(bad).DrainReason, got[0].Reason)
		_, err := f.EndSession(f.ctx, bad, "drained")
		f.must(err)
		bad = f.register("bad")
		f.equal("drained when it was started again", f.touch(bad), []int64{})
		f.equal("when it was started again", f.judge(), []store.DrainedWorker{})
		more := f.submit("b", 1, 1, 1)
		f.dying(bad, more, 2)
		f.complete(good, more, 2)
		f.equal("after two deaths", f.judge(), []store.DrainedWorker{})
		f.dying(bad, more, 1)
		f.equal("after the third", len(f.judge()), 1)
	}},
	{"a batch that dies on others too is none that completed elsewhere", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		bad, good := f.register("bad"), f.register("good")
		f.dying(bad, id, 3)
		f.complete(good, id, 1)
		for n := range 2 {
			f.settle(died(f.claimOne(good, fmt.Sprint("d", n), long, id), 0, 1, "SIGSEGV"))
		}
		f.equal("drained", f.judge(), []store.DrainedWorker{})
	}},
}

func (f *fixture) judge() []store.DrainedWorker {
	f.Helper()
	drained, err := f.JudgeWorkers(f.ctx)
	f.must(err)
	return drained
}

// dying has a session claim batches and die of them, one after the other.
func (f *fixture) dying(session int64, jobID int64, n int) []store.Grant {
	f.Helper()
	var grants []store.Grant
	for range n {
		g := f.claimOne(session, fmt.Sprint("dying ", f.now().UnixNano()), long, jobID)
		f.settle(died(g, 0, g.ItemCount, "SIGSEGV"))
		grants = append(grants, g)
	}
	return grants
}

// complete has a session complete batches, one after the other.
func (f *fixture) complete(session int64, jobID int64, n int) {
	f.Helper()
	for range n {
		f.settle(completed(f.claimOne(session, fmt.Sprint("complete ", f.now().UnixNano()), long, jobID)))
	}
}

// statistics returns those of the last hour.
func (f *fixture) statistics() store.Statistics {
	f.Helper()
	st, err := f.GetStatistics(f.ctx, store.StatisticsFilter{Window: time.Hour})
	f.must(err)
	return st
}
