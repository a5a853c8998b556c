package storetest

import (
	"errors"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// stopping: cancel, sweep, and how a stopped job ends.
var stopping = []scenario{
	{"a stopped job is cancelling, keeps its first reason, and is seen to have changed", func(f *fixture) {
		id := f.submit("a", 1)
		before := f.fold(id)
		j, err := f.StopJob(f.ctx, id, job.Failed, "first")
		f.must(err)
		if j.State != job.Cancelling || j.StopAs != job.Failed || j.Reason != "first" || j.Revision <= before.Revision {
			f.Errorf("stopped: %v as %v because %q at revision %d after %d", j.State, j.StopAs, j.Reason, j.Revision, before.Revision)
		}
		f.equal("as it is read", f.job(id), j)
		again, err := f.StopJob(f.ctx, id, job.Cancelled, "second")
		f.must(err)
		f.equal("stopped again", again, j)
		if _, err := f.StopJob(f.ctx, 12345, job.Cancelled, ""); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("unknown job: %v, want ErrNotFound", err)
		}
	}},
	{"an ended job stays as it ended", func(f *fixture) {
		id := f.submit("a")
		want := f.fold(id)
		got, err := f.StopJob(f.ctx, id, job.Cancelled, "late")
		f.must(err)
		f.equal("job", got, want)
		n, err := f.SweepJob(f.ctx, id, 10)
		f.must(err)
		f.equal("swept", n, 0)
	}},
	{"a sweep cancels pending batches in steps, and the job ends when nothing is open", func(f *fixture) {
		id := f.submit("a", 2, 2, 2, 2, 2)
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, id)
		f.beat(store.Beat{Lease: grants[1].Lease, Outcomes: stored(1)})
		back := ended(grants[1], job.EndReleased)
		back.From = 1
		f.settle(back)
		f.stop(id)
		cancelling, err := f.CancellingJobs(f.ctx)
		f.must(err)
		f.equal("cancelling jobs", cancelling, []int64{id})
		var swept []int
		for range 3 {
			n, err := f.SweepJob(f.ctx, id, 3)
			f.must(err)
			swept = append(swept, n)
		}
		f.equal("swept", swept, []int{3, 1, 0})
		j := f.audit(id, 0)
		if j.State != job.Cancelling {
			f.Errorf("the job is %v while a batch runs", j.State)
		}
		f.settle(ended(grants[0], job.EndCancelled))
		j = f.audit(id, 0)
		if j.State != job.Cancelled || j.ItemOutcomes[job.ItemCancelled] != 9 || j.ItemOutcomes[job.Stored] != 1 {
			f.Errorf("the job is %v with %v", j.State, j.ItemOutcomes)
		}
		if cancelling, err = f.CancellingJobs(f.ctx); err != nil || len(cancelling) != 0 {
			f.Errorf("cancelling jobs after the end: %v, %v", cancelling, err)
		}
	}},
	{"only jobs being stopped are swept", func(f *fixture) {
		id := f.submit("a", 1)
		n, err := f.SweepJob(f.ctx, id, 10)
		f.must(err)
		f.equal("swept", n, 0)
		f.audit(id, 0)
	}},
	{"a stopped job with nothing open ends with the next fold", func(f *fixture) {
		up := f.open("a")
		f.fold(up.JobID)
		f.stop(up.JobID)
		dirty, err := f.DirtyJobs(f.ctx)
		f.must(err)
		f.equal("dirty jobs", dirty, []int64{up.JobID})
		j, changed, err := f.Fold(f.ctx, up.JobID)
		f.must(err)
		if !changed || j.State != job.Cancelled || j.EndedAt.IsZero() {
			f.Errorf("folded: changed %v, %v", changed, j.State)
		}
		if dirty, err = f.DirtyJobs(f.ctx); err != nil || len(dirty) != 0 {
			f.Errorf("dirty jobs after the end: %v, %v", dirty, err)
		}
	}},
	{"claimable are the running jobs", func(f *fixture) {
		running, stopped := f.submit("a", 1), f.submit("b", 1)
		f.fold(f.submit("ended"))
		uploading := f.open("c").JobID
		f.stop(stopped)
		list, err := f.ClaimableJobs(f.ctx)
		f.must(err)
		got := map[int64]job.State{}
		for _, j := range list {
			got[j.ID] = j.State
			if j.Kind != "annotations" || j.Project == "" {
				f.Errorf("claimable job = %+v", j)
			}
		}
		f.equal("claimable", got, map[int64]job.State{running: job.Running, uploading: job.Running})
	}},
}
