package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// retention: what has been kept for long enough goes, and nothing else.
var retention = []scenario{
	{"jobs are found by how long ago they ended, and in which state, the first to end at the front", func(f *fixture) {
		bad, good, stopped := f.submitted("bad"), f.succeeded("good"), f.submit("stopped", 1)
		f.stop(stopped)
		f.sweep(stopped)
		f.fold(stopped)
		open := f.submit("open", 1)
		last := f.succeeded("last")
		between := f.job(stopped).EndedAt
		f.pass(f.job(last).EndedAt)
		for _, c := range []struct {
			name   string
			filter store.EndedFilter
			want   []int64
		}{
			{"all", store.EndedFilter{}, []int64{bad, good, stopped, last}},
			{"of long ago", store.EndedFilter{Age: time.Hour}, nil},
			{"those that succeeded", store.EndedFilter{States: []job.State{job.Succeeded}}, []int64{good, last}},
			{"the others", store.EndedFilter{States: []job.State{job.Failed, job.Cancelled, job.CompletedWithErrors}}, []int64{bad, stopped}},
			{"of a state that is no end", store.EndedFilter{States: []job.State{job.Running}}, nil},
		} {
			f.equal(c.name, f.endedJobs(c.filter, 3), c.want)
		}
		// What is old enough grows while somebody asks.
		f.wait("those that ended before the last one to be found alone", func() bool {
			age := f.now().Sub(between)
			return slices.Equal(f.endedJobs(store.EndedFilter{Age: age}, 3), []int64{bad, good, stopped})
		})
		if f.job(open).State != job.Running {
			f.Errorf("the open job is %v", f.job(open).State)
		}
	}},
	{"old jobs are hidden as if deleted, some at a time, and only those", func(f *fixture) {
		var want []int64
		for i := range 5 {
			want = append(want, f.succeeded(fmt.Sprint("old ", i)))
		}
		other, open := f.submitted("with errors"), f.submit("open", 1)
		f.pass(f.job(other).EndedAt)
		filter := store.EndedFilter{States: []job.State{job.Succeeded}}
		none, err := f.DeleteEndedJobs(f.ctx, store.EndedFilter{Age: time.Hour}, 9)
		f.must(err)
		f.equal("deleted that ended long ago", jobIDs(none), []int64{})
		for _, step := range [][]int64{want[:2], want[2:4], want[4:], nil} {
			got, err := f.DeleteEndedJobs(f.ctx, filter, 2)
			f.must(err)
			f.equal("deleted", jobIDs(got), step)
			for _, j := range got {
				if j.State != job.Succeeded || j.EndedAt.IsZero() || j.ItemsTotal != 2 {
					f.Errorf("returned as %+v", j)
				}
			}
		}
		for _, id := range want {
			if _, err := f.GetJob(f.ctx, id); !errors.Is(err, store.ErrNotFound) {
				f.Errorf("job %d: %v, want ErrNotFound", id, err)
			}
		}
		if up := f.open("old 1"); up.JobID == want[1] {
			f.Errorf("the upload id of a deleted job leads to it")
		}
		f.wait("the jobs to be gone", func() bool {
			more, err := f.DeleteStep(f.ctx, 3)
			f.must(err)
			return !more
		})
		f.audit(other, 0)
		f.audit(open, 0)
	}},
	{"sessions that ended go, those that live stay", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		gone, idle, living := f.register("gone"), f.register("idle"), f.register("living")
		f.settle(ended(f.claimOne(gone, "1", long, id), job.EndFailed))
		failed := f.batches(id)[0]
		f.claimOne(living, "2", long, id)
		_, err := f.EndSession(f.ctx, gone, "")
		f.must(err)
		_, err = f.EndSession(f.ctx, idle, "")
		f.must(err)
		sessions, err := f.ListSessions(f.ctx, true, store.Page{Size: 9})
		f.must(err)
		f.pass(sessions[1].EndedAt)
		if n, err := f.ForgetSessions(f.ctx, time.Hour, 9); n != 0 || err != nil {
			f.Errorf("%d sessions of long ago, %v", n, err)
		}
		for _, want := range []int{1, 1, 0} {
			if n, err := f.ForgetSessions(f.ctx, 0, 1); n != want || err != nil {
				f.Errorf("forgot %d sessions, want %d; %v", n, want, err)
			}
		}
		sessions, err = f.ListSessions(f.ctx, true, store.Page{Size: 9})
		f.must(err)
		if len(sessions) != 1 || sessions[0].ID != living || sessions[0].Running != 1 {
			f.Errorf("left are %+v", sessions)
		}
		if a := f.attempts(failed.ID); len(a) != 1 || a[0].WorkerID != "gone" {
			f.Errorf("attempts of a batch whose worker is forgotten: %+v", a)
		}
		f.equal("that batch", f.batch(failed.ID).Attempt, failed.Attempt)
		f.audit(id, 0)
	}},
}

// succeeded is a job of one batch of two items, which are stored.
func (f *fixture) succeeded(id string) int64 {
	f.Helper()
	jobID := f.submit(id, 2)
	s := f.register("worker of " + id)
	f.settle(completed(f.claimOne(s, "1", long, jobID)))
	if j := f.fold(jobID); j.State != job.Succeeded {
		f.Fatalf("the job is %v", j.State)
	}
	return jobID
}

// endedJobs returns all jobs that a filter chooses, read in pages.
func (f *fixture) endedJobs(filter store.EndedFilter, size int) []int64 {
	f.Helper()
	var all []int64
	page := store.EndedPage{Size: size}
	for {
		list, err := f.EndedJobs(f.ctx, filter, page)
		f.must(err)
		all = append(all, jobIDs(list)...)
		if len(list) < size {
			return all
		}
		last := list[len(list)-1]
		page.EndedAt, page.ID = last.EndedAt, last.ID
	}
}

func jobIDs(list []job.Job) []int64 {
	ids := make([]int64, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids
}
