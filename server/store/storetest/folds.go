package storetest

import (
	"errors"
	"sync"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// folds: how deltas become the job's numbers.
var folds = []scenario{
	{"a fold without deltas changes nothing", func(f *fixture) {
		id := f.submit("a", 1)
		want := f.fold(id)
		got, changed, err := f.Fold(f.ctx, id)
		f.must(err)
		if changed {
			f.Errorf("changed without deltas")
		}
		f.equal("job", got, want)
		if _, _, err := f.Fold(f.ctx, 12345); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("unknown job: %v, want ErrNotFound", err)
		}
	}},
	{"revisions grow with every fold that changes something", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		last := f.fold(id)
		for i := range 2 {
			g := f.claimOne(s, string(rune('a'+i)), long, id)
			f.settle(completed(g))
			dirty, err := f.DirtyJobs(f.ctx)
			f.must(err)
			f.equal("dirty jobs", dirty, []int64{id})
			j, changed, err := f.Fold(f.ctx, id)
			f.must(err)
			if !changed || j.Revision <= last.Revision || j.UpdatedAt.Before(last.UpdatedAt) {
				f.Errorf("changed %v, revision %d after %d, updated %v after %v", changed, j.Revision, last.Revision, j.UpdatedAt, last.UpdatedAt)
			}
			f.equal("as it is read", f.job(id), j)
			if dirty, err = f.DirtyJobs(f.ctx); err != nil || len(dirty) != 0 {
				f.Errorf("dirty jobs after the fold: %v, %v", dirty, err)
			}
			last = j
		}
		if last.State != job.Succeeded {
			f.Errorf("the job is %v", last.State)
		}
	}},
	{"what was not folded is not shown, and is not lost", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		f.fold(id)
		s := f.register("w")
		for _, g := range f.claim(s, "1", long, 3, id) {
			f.settle(completed(g))
		}
		if j := f.job(id); j.ItemOutcomes[job.Stored] != 0 {
			f.Errorf("%d items stored before the fold", j.ItemOutcomes[job.Stored])
		}
		if j := f.audit(id, 0); j.ItemOutcomes[job.Stored] != 3 {
			f.Errorf("%d items stored after the fold", j.ItemOutcomes[job.Stored])
		}
	}},
	{"a job ends by the worst of its outcomes", func(f *fixture) {
		for _, c := range []struct {
			outcome job.Outcome
			want    job.State
		}{
			{job.Stored, job.Succeeded}, {job.StoredWarnings, job.Succeeded}, {job.Skipped, job.Succeeded},
			{job.Rejected, job.CompletedWithErrors}, {job.DocumentMissing, job.CompletedWithErrors},
		} {
			name := c.outcome.String()
			id := f.submit(name, 2)
			s := completed(f.claimOne(f.register(name), "1", long, id))
			s.Outcomes = []job.Run{{Count: 1, Outcome: job.Stored}, {Count: 1, Outcome: c.outcome}}
			f.settle(s)
			f.equal(name, f.audit(id, 0).State, c.want)
		}
	}},
	{"an error found in a stored item is an end with errors", func(f *fixture) {
		id := f.submit("a", 1)
		s := completed(f.claimOne(f.register("w"), "1", long, id))
		s.Findings = []store.Finding{{Item: 1, Severity: store.Error, Code: "LOST"}}
		f.settle(s)
		f.equal("state", f.audit(id, 0).State, job.CompletedWithErrors)
	}},
	{"concurrent folds count everything once and end the job once", func(f *fixture) {
		items := make([]int32, 60)
		for i := range items {
			items[i] = 1
		}
		id := f.submit("a", items...)
		s := f.register("w")
		grants := f.claim(s, "1", long, len(items), id)
		var mu sync.Mutex
		var endings int
		revisions := map[int64]job.Counters{}
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for i := worker; i < len(grants); i += 4 {
					_, _, err := f.Settle(f.ctx, []store.Settlement{completed(grants[i])})
					if err != nil {
						f.Errorf("settle: %v", err)
						return
					}
					j, changed, err := f.Fold(f.ctx, id)
					if err != nil {
						f.Errorf("fold: %v", err)
						return
					}
					if !changed {
						continue
					}
					mu.Lock()
					if j.State.Ended() {
						endings++
					}
					if other, ok := revisions[j.Revision]; ok {
						f.Errorf("revision %d twice: %+v and %+v", j.Revision, other, j.Counters)
					}
					revisions[j.Revision] = j.Counters
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		j := f.audit(id, 0)
		if j.State != job.Succeeded || endings != 1 {
			f.Errorf("the job is %v and was ended %d times", j.State, endings)
		}
	}},
}
