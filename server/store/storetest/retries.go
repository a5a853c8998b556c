package storetest

import (
	"errors"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// retries: what ended badly is tried again by hand.
var retries = []scenario{
	{"an ended job runs again with what ended badly, and nothing else", func(f *fixture) {
		id := f.spoiled("a")
		before := f.fold(id)
		f.equal("state", before.State, job.CompletedWithErrors)
		batches := f.batches(id)
		history := f.attempts(batches[1].ID)

		j := f.retry(id, store.Retry{RequestID: "r"})
		f.equal("outcomes at once", j.ItemOutcomes, [9]int64{job.Stored: 6})
		if j.State != job.Running || j.Run != 2 || j.Revision <= before.Revision || !j.EndedAt.IsZero() || j.RetriedAt.IsZero() ||
			j.StopAs != "" || j.Reason != "" {
			f.Errorf("retried: %+v", j)
		}
		f.equal("as it is read", f.job(id), j)
		if again := f.retry(id, store.Retry{RequestID: "r"}); again.Run != 2 || again.Revision != j.Revision {
			f.Errorf("the same request again: run %d at revision %d after %d", again.Run, again.Revision, j.Revision)
		}
		if j := f.fold(id); j.State != job.Running {
			f.Errorf("before the first step the job is %v", j.State)
		}
		ids, err := f.RetryingJobs(f.ctx)
		f.must(err)
		f.equal("retrying jobs", ids, []int64{id})
		var moved []int
		for more := true; more; {
			var n int
			n, more, err = f.RetryStep(f.ctx, id, 1)
			f.must(err)
			moved = append(moved, n)
		}
		f.equal("moved by steps of one", moved, []int{1, 1, 0})
		ids, err = f.RetryingJobs(f.ctx)
		f.must(err)
		f.equal("retrying jobs at the end", ids, []int64{})

		j = f.audit(id, 0)
		f.equal("outcomes", j.ItemOutcomes, [9]int64{job.Stored: 6})
		f.equal("batches", j.Batches, [7]int64{job.BatchPending: 2, job.BatchCompleted: 1})
		after := f.batches(id)
		f.equal("the completed batch", after[0], batches[0])
		for i, b := range after[1:] {
			old := batches[i+1]
			if b.State != job.BatchPending || b.Attempt != old.Attempt || b.Failures+b.Crashes+b.Losses != 0 || b.DoneItems != int32(1-i) ||
				b.Suspicion != (job.Suspicion{}) || !b.SettledAt.IsZero() || b.AvailableAt.After(f.now()) {
				f.Errorf("retried batch: %+v, before %+v", b, old)
			}
		}
		f.equal("history", f.attempts(batches[1].ID), history)

		s := f.register("w2")
		grants := f.claim(s, "1", long, 5, id)
		if len(grants) != 2 {
			f.Fatalf("claimed %d batches, want 2", len(grants))
		}
		for _, g := range grants {
			if g.Attempt != f.attemptsOf(batches, g.BatchID)+1 {
				f.Errorf("granted %+v", g)
			}
			f.settle(completed(g))
		}
		j = f.audit(id, 0)
		if j.State != job.Succeeded || j.ItemOutcomes[job.Stored] != 9 || j.Run != 2 || j.EndedAt.Before(j.RetriedAt) {
			f.Errorf("ended as %v with %v in run %d", j.State, j.ItemOutcomes, j.Run)
		}
		if again := f.retry(id, store.Retry{RequestID: "r"}); again.Run != 2 || !again.State.Ended() {
			f.Errorf("the same request after the end: %v in run %d", again.State, again.Run)
		}
		f.refused("a job without bad batches", id, store.Retry{RequestID: "s"}, store.ErrNothingToRetry)
	}},
	{"a retry may be of some states or some batches", func(f *fixture) {
		id := f.spoiled("a")
		f.fold(id)
		b := f.batches(id)
		f.refused("cancelled ones", id, store.Retry{RequestID: "1", States: []job.BatchState{job.BatchCancelled}}, store.ErrNothingToRetry)
		f.refused("a completed one", id, store.Retry{RequestID: "2", Batches: []int64{b[0].ID, 12345}}, store.ErrNothingToRetry)
		f.refused("a crashed one as failed", id, store.Retry{
			RequestID: "3", Batches: []int64{b[2].ID}, States: []job.BatchState{job.BatchFailed}}, store.ErrNothingToRetry)
		other := f.spoiled("b")
		f.fold(other)
		f.refused("one of another job", id, store.Retry{RequestID: "4", Batches: []int64{f.batches(other)[1].ID}}, store.ErrNothingToRetry)
		f.equal("runs", f.job(id).Run, int32(1))

		f.retry(id, store.Retry{RequestID: "4", Batches: []int64{b[2].ID, b[0].ID, 12345}})
		j := f.audit(id, 0)
		f.equal("batches", j.Batches, [7]int64{job.BatchPending: 1, job.BatchCompleted: 1, job.BatchFailed: 1})
		f.equal("state", j.State, job.Running)
		f.retry(id, store.Retry{RequestID: "5", States: []job.BatchState{job.BatchFailed}})
		f.steps(id)
		j = f.audit(id, 0)
		f.equal("batches", j.Batches, [7]int64{job.BatchPending: 2, job.BatchCompleted: 1})
		f.equal("runs", j.Run, int32(3))
	}},
	{"a batch that fails again while a retry goes on is not moved again", func(f *fixture) {
		id := f.spoiled("a")
		f.fold(id)
		f.retry(id, store.Retry{RequestID: "r"})
		_, _, err := f.RetryStep(f.ctx, id, 2)
		f.must(err)
		s := f.register("w2")
		g := f.claimOne(s, "1", long, id)
		f.settle(store.Settlement{Lease: g.Lease, End: job.End{Kind: job.EndFailed, From: g.DoneItems, Message: "again"}})
		if j := f.audit(id, 0); j.State != job.Running {
			f.Errorf("while the retry goes on the job is %v", j.State)
		}
		f.steps(id)
		f.equal("batches", f.audit(id, 0).Batches, [7]int64{job.BatchPending: 1, job.BatchCompleted: 1, job.BatchFailed: 1})
		f.settle(completed(f.claimOne(s, "2", long, id)))
		f.equal("state", f.audit(id, 0).State, job.CompletedWithErrors)
	}},
	{"a running or paused job is retried as it goes on, one being stopped is not", func(f *fixture) {
		id := f.submit("a", 2, 2, 2)
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, id)
		f.settle(store.Settlement{Lease: grants[0].Lease, End: job.End{Kind: job.EndFailed, Message: "no"}})
		f.refused("of crashed ones", id, store.Retry{RequestID: "0", States: []job.BatchState{job.BatchCrashed}}, store.ErrNothingToRetry)
		j := f.retry(id, store.Retry{RequestID: "1"})
		f.equal("state", j.State, job.Running)
		f.steps(id)
		f.equal("batches", f.audit(id, 0).Batches, [7]int64{job.BatchPending: 2, job.BatchRunning: 1})
		f.settle(store.Settlement{Lease: grants[1].Lease, End: job.End{Kind: job.EndFailed, Message: "no"}})
		_, err := f.PauseJob(f.ctx, id)
		f.must(err)
		j = f.retry(id, store.Retry{RequestID: "2"})
		f.equal("state", j.State, job.Paused)
		f.stop(id)
		f.refused("while it is being stopped", id, store.Retry{RequestID: "3"}, store.ErrJobOpen)
		n, more, err := f.RetryStep(f.ctx, id, 10)
		if n != 0 || more || err != nil {
			f.Errorf("a step of a stopped job: %d, %v, %v", n, more, err)
		}
		f.sweep(id)
		f.equal("state", f.audit(id, 0).State, job.Cancelled)
		f.retry(id, store.Retry{RequestID: "4"})
		f.steps(id)
		f.equal("batches", f.audit(id, 0).Batches, [7]int64{job.BatchPending: 3})
		for _, g := range f.claim(s, "2", long, 3, id) {
			f.settle(completed(g))
		}
		f.equal("state", f.audit(id, 0).State, job.Succeeded)
	}},
	{"a retry that finds nothing lets its job end", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, id)
		f.settle(store.Settlement{Lease: grants[0].Lease, End: job.End{Kind: job.EndFailed, Message: "no"}})
		f.retry(id, store.Retry{RequestID: "1"})
		f.retry(id, store.Retry{RequestID: "2", Batches: []int64{grants[0].BatchID}})
		f.settle(completed(f.claimOne(s, "2", long, id)))
		f.settle(completed(grants[1]))
		if j := f.fold(id); j.State != job.Running {
			f.Errorf("before the first step the job is %v", j.State)
		}
		f.steps(id)
		dirty, err := f.DirtyJobs(f.ctx)
		f.must(err)
		f.equal("jobs that can end", dirty, []int64{id})
		f.equal("state", f.fold(id).State, job.Succeeded)
	}},
	{"an abandoned upload's job runs again, and the upload may be resumed", func(f *fixture) {
		up := f.open("a")
		up = f.commit(up, cut(up, 2))
		f.pass(f.now().Add(50 * time.Millisecond))
		ids, err := f.AbandonUploads(f.ctx, 50*time.Millisecond)
		f.must(err)
		f.equal("abandoned", ids, []int64{up.JobID})
		f.sweep(up.JobID)
		f.equal("state", f.fold(up.JobID).State, job.Failed)
		j := f.retry(up.JobID, store.Retry{RequestID: "r"})
		if j.State != job.Running || j.Reason != "" || j.StopAs != "" {
			f.Errorf("retried: %v as %q because %q", j.State, j.StopAs, j.Reason)
		}
		f.steps(up.JobID)
		ids, err = f.AbandonUploads(f.ctx, patient)
		f.must(err)
		f.equal("abandoned again", ids, []int64{})
		up = f.open("a")
		g := cut(up, 1)
		g.Finished = true
		f.commit(up, g)
		for _, g := range f.claim(f.register("w"), "1", long, 2, up.JobID) {
			f.settle(completed(g))
		}
		j = f.audit(up.JobID, 0)
		if j.State != job.Succeeded || j.ItemsTotal != 3 {
			f.Errorf("ended as %v with %d items", j.State, j.ItemsTotal)
		}
	}},
	{"an upload of which nothing came is resumed after a retry, one that is complete is not", func(f *fixture) {
		up := f.open("a")
		f.stop(up.JobID)
		f.equal("state", f.fold(up.JobID).State, job.Cancelled)
		f.refused("of failed ones", up.JobID, store.Retry{RequestID: "1", States: []job.BatchState{job.BatchFailed}}, store.ErrNothingToRetry)
		f.equal("state", f.retry(up.JobID, store.Retry{RequestID: "2"}).State, job.Running)
		f.equal("state", f.fold(up.JobID).State, job.Running)
		up = f.open("a")
		g := cut(up)
		g.Finished, g.Fail = true, "unreadable"
		f.must(f.CommitIngest(f.ctx, g))
		f.equal("state", f.fold(up.JobID).State, job.Failed)
		f.refused("an unreadable upload", up.JobID, store.Retry{RequestID: "3"}, store.ErrNothingToRetry)
	}},
	{"a deleted job is not retried, a retried one not deleted", func(f *fixture) {
		id, other := f.submitted("a"), f.submitted("b")
		f.must(f.DeleteJob(f.ctx, id))
		f.refused("a deleted job", id, store.Retry{RequestID: "1"}, store.ErrNotFound)
		f.refused("an unknown job", 12345, store.Retry{RequestID: "1"}, store.ErrNotFound)
		f.retry(other, store.Retry{RequestID: "1"})
		if err := f.DeleteJob(f.ctx, other); !errors.Is(err, store.ErrJobOpen) {
			f.Errorf("delete: %v, want ErrJobOpen", err)
		}
	}},
	{"a retried batch is among the slowest when it ends again, with its last duration", func(f *fixture) {
		id := f.spoiled("a")
		f.fold(id)
		slow := func() []int64 { return f.batchIDs(store.BatchFilter{JobID: id, Slowest: true}, store.Page{Size: 9}) }
		f.equal("slowest", len(slow()), 3)
		f.retry(id, store.Retry{RequestID: "1"})
		f.steps(id)
		f.fold(id)
		f.equal("slowest while they wait", slow(), []int64{f.batches(id)[0].ID})
		for _, g := range f.claim(f.register("w2"), "1", long, 3, id) {
			f.settle(completed(g))
		}
		f.fold(id)
		f.equal("slowest at the end", len(slow()), 3)
	}},
	{"a settlement from before a retry gets its first answer and changes nothing", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", long, id)
		failed := store.Settlement{Lease: g.Lease, End: job.End{Kind: job.EndFailed, Message: "no"}}
		f.equal("settled", f.settle(failed).State, job.BatchFailed)
		f.fold(id)
		f.retry(id, store.Retry{RequestID: "1", Batches: []int64{g.BatchID}})
		if a := f.settle(failed); a.State != job.BatchFailed || a.Lost || a.JobID != 0 {
			f.Errorf("settled again: %+v", a)
		}
		if a := f.settle(completed(g)); !a.Lost {
			f.Errorf("settled otherwise: %+v", a)
		}
		f.equal("batch", f.batch(g.BatchID).State, job.BatchPending)
		f.audit(id, 0)
	}},
	{"concurrent steps, claims and folds count everything once", func(f *fixture) {
		items := make([]int32, 40)
		for i := range items {
			items[i] = 1
		}
		id := f.submit("a", items...)
		f.stop(id)
		f.sweep(id)
		f.equal("state", f.fold(id).State, job.Cancelled)
		f.retry(id, store.Retry{RequestID: "1"})
		var wg sync.WaitGroup
		for worker := range 3 {
			s := f.register(string(rune('a' + worker)))
			wg.Go(func() {
				for n := 0; ; n++ {
					_, more, err := f.RetryStep(f.ctx, id, 3)
					if err != nil {
						f.Errorf("step: %v", err)
						return
					}
					got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, string(rune('a'+n)), 5)},
						[]store.Turn{{JobID: id, Most: 5}})
					if err != nil {
						f.Errorf("claim: %v", err)
						return
					}
					for _, g := range got.Grants[0] {
						if _, _, err := f.Settle(f.ctx, []store.Settlement{completed(g)}); err != nil {
							f.Errorf("settle: %v", err)
						}
					}
					if _, _, err := f.Fold(f.ctx, id); err != nil {
						f.Errorf("fold: %v", err)
					}
					if !more && len(got.Grants[0]) == 0 {
						return
					}
				}
			})
		}
		wg.Wait()
		j := f.audit(id, 0)
		if j.State != job.Succeeded || j.ItemOutcomes[job.Stored] != 40 {
			f.Errorf("ended as %v with %v", j.State, j.ItemOutcomes)
		}
	}},
}

// spoiled is a job of three batches, of five items, three and one: the first completed, the second failed with its first item
// stored, and the third crashed.
func (f *fixture) spoiled(id string) int64 {
	f.Helper()
	n := header(id)
	n.Policy.MaxAttempts = 1
	up, err := f.OpenUpload(f.ctx, n)
	f.must(err)
	g := cut(up, 5, 3, 1)
	g.Finished = true
	f.commit(up, g)
	s := f.register("worker of " + id)
	grants := f.claim(s, "1", long, 3, up.JobID)
	f.settle(completed(grants[0]))
	f.settle(store.Settlement{Lease: grants[1].Lease, End: job.End{Kind: job.EndFailed, Message: "no", Outcomes: stored(1)}})
	f.crash(s, grants[2])
	return up.JobID
}

// retry retries a job.
func (f *fixture) retry(id int64, r store.Retry) job.Job {
	f.Helper()
	j, err := f.RetryJob(f.ctx, id, r)
	f.must(err)
	return j
}

func (f *fixture) refused(what string, id int64, r store.Retry, want error) {
	f.Helper()
	if _, err := f.RetryJob(f.ctx, id, r); !errors.Is(err, want) {
		f.Errorf("retry %s: %v, want %v", what, err, want)
	}
}

// steps moves what a retry is about to the last batch.
func (f *fixture) steps(id int64) {
	f.Helper()
	f.wait("the retry to end", func() bool {
		_, more, err := f.RetryStep(f.ctx, id, 2)
		f.must(err)
		return !more
	})
}

// attemptsOf returns the attempts that a batch had.
func (f *fixture) attemptsOf(list []store.BatchRow, id int64) int32 {
	for _, b := range list {
		if b.ID == id {
			return b.Attempt
		}
	}
	return -1
}
