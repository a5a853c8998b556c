package storetest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// project of the jobs of submitIn.
const project = "shared"

// submitIn is submit for the project that jobs share.
func (f *fixture) submitIn(id string, items ...int32) int64 {
	f.Helper()
	h := header(id)
	h.Project = project
	up, err := f.OpenUpload(f.ctx, h)
	f.must(err)
	g := cut(up, items...)
	g.Finished = true
	f.commit(up, g)
	return up.JobID
}

// limitedTurn is one of a job that may have n batches running.
func limitedTurn(id int64, most, n int) store.Turn {
	return store.Turn{JobID: id, Most: most, JobLimit: n}
}

// sharingTurn is one of a job whose project may have n batches running.
func sharingTurn(id int64, most, n int) store.Turn {
	return store.Turn{JobID: id, Most: most, Project: project, ProjectLimit: n}
}

// take claims for one request, as much as it gets, in turns.
func (f *fixture) take(sessionID int64, name string, turns ...store.Turn) ([]store.Grant, map[int64]store.Took) {
	f.Helper()
	got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(sessionID, name, 100)}, turns)
	f.must(err)
	f.must(got.Errs[0])
	return got.Grants[0], got.Took
}

// running: no more at a time than limits say.
var running = []scenario{
	{"a job runs no more batches than its limit, however they end", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1, 1, 1)
		s := f.register("w")
		first, took := f.take(s, "1", limitedTurn(id, 9, 2))
		f.equal("first", ordinals(first), []int32{0, 1})
		f.equal("took", took, map[int64]store.Took{id: {Batches: 2, Fresh: 2, Last: 1, Held: 7, Full: true}})
		f.fold(id)
		none, took := f.take(s, "2", limitedTurn(id, 9, 2))
		f.equal("at the limit", ordinals(none), []int32{})
		f.equal("took", took, map[int64]store.Took{id: {Held: 9, Full: true}})

		f.settle(completed(first[0]))
		second, _ := f.take(s, "3", limitedTurn(id, 9, 2))
		f.equal("after one completed", ordinals(second), []int32{2})
		f.fold(id)
		f.settle(ended(first[1], job.EndReleased))
		third, took := f.take(s, "4", limitedTurn(id, 9, 2))
		f.equal("after one came back", ordinals(third), []int32{1})
		f.equal("took", took, map[int64]store.Took{id: {Batches: 1, Held: 8, Full: true}})
		f.settle(ended(third[0], job.EndReleased))
		fourth, _ := f.take(s, "5", limitedTurn(id, 9, 4))
		f.equal("with a higher limit", ordinals(fourth), []int32{1, 3, 4})
		none, _ = f.take(s, "6", limitedTurn(id, 9, 2))
		f.equal("with a lower one", ordinals(none), []int32{})
		_, err := f.EndSession(f.ctx, s, "done")
		f.must(err)
		fifth, _ := f.take(f.register("v"), "7", limitedTurn(id, 9, 2))
		f.equal("after their session has ended", len(fifth), 2)
		f.audit(id, 0)
	}},
	{"expired leases make room once they are reaped", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s := f.register("w")
		g := f.claimOne(s, "1", short, id)
		f.expire(g)
		none, _ := f.take(s, "2", limitedTurn(id, 9, 1))
		f.equal("before", ordinals(none), []int32{})
		f.reap()
		got, _ := f.take(s, "3", limitedTurn(id, 9, 1))
		f.equal("after", len(got), 1)
		f.audit(id, 0)
	}},
	{"a limited job that has no more is not full", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		_, took := f.take(s, "1", limitedTurn(id, 9, 3))
		f.equal("took", took, map[int64]store.Took{id: {Batches: 2, Fresh: 2, Last: 1, Held: 6}})
		_, took = f.take(s, "2", limitedTurn(id, 9, 3))
		f.equal("took then", took, map[int64]store.Took{id: {Held: 8}})
	}},
	{"a limit is nothing to other jobs", func(f *fixture) {
		a, b := f.submit("a", 1, 1, 1), f.submit("b", 1, 1, 1)
		s := f.register("w")
		_, took := f.take(s, "1", limitedTurn(a, 9, 1), store.Turn{JobID: b, Most: 2})
		f.equal("took", took, map[int64]store.Took{
			a: {Batches: 1, Fresh: 1, Held: 8, Full: true}, b: {Batches: 2, Fresh: 2, Last: 1}})
		_, took = f.take(s, "2", limitedTurn(a, 9, 1), store.Turn{JobID: b, Most: 9})
		f.equal("took then", took, map[int64]store.Took{a: {Held: 9, Full: true}, b: {Batches: 1, Fresh: 1, Last: 2}})
		f.audit(a, 0)
		f.audit(b, 0)
	}},
	{"the jobs of a project share its limit", func(f *fixture) {
		a, b, other := f.submitIn("a", 1, 1, 1, 1), f.submitIn("b", 1, 1, 1, 1), f.submit("c", 1, 1, 1, 1)
		s := f.register("w")
		first, took := f.take(s, "1", sharingTurn(a, 2, 3), sharingTurn(b, 2, 3),
			store.Turn{JobID: other, Most: 3, Project: "project-c", ProjectLimit: 3})
		f.equal("took", took, map[int64]store.Took{
			a:     {Batches: 2, Fresh: 2, Last: 1, Full: true},
			b:     {Batches: 1, Fresh: 1, Held: 1, Full: true},
			other: {Batches: 3, Fresh: 3, Last: 2, Full: true}})
		f.fold(a)
		f.settle(completed(first[0]))
		_, took = f.take(s, "2", sharingTurn(b, 9, 3))
		f.equal("took after one of the other job completed", took, map[int64]store.Took{
			b: {Batches: 1, Fresh: 1, Last: 1, Held: 8, Full: true}})
		// A job that is being stopped counts as long as its batches run.
		f.stop(b)
		f.fold(b)
		_, took = f.take(s, "3", sharingTurn(a, 9, 3))
		f.equal("took while the other is being stopped", took, map[int64]store.Took{a: {Held: 9, Full: true}})
		got, took := f.take(s, "4", store.Turn{JobID: a, Most: 9, JobLimit: 2, Project: project, ProjectLimit: 9})
		f.equal("with a limit of the job, too", ordinals(got), []int32{2})
		f.equal("took", took, map[int64]store.Took{a: {Batches: 1, Fresh: 1, Last: 2, Held: 8, Full: true}})
		for _, id := range []int64{a, b, other} {
			f.audit(id, 0)
		}
	}},
	{"what one job of a project leaves is said to be there", func(f *fixture) {
		a, b := f.submitIn("a", 1), f.submitIn("b", 1, 1, 1, 1)
		s := f.register("w")
		first, took := f.take(s, "1", sharingTurn(a, 9, 3), sharingTurn(b, 9, 3))
		if took[a].Full && len(first) < 3 || took[b].Full != (len(first) == 3) {
			f.Errorf("%d grants, took %+v", len(first), took)
		}
		then, _ := f.take(s, "2", sharingTurn(b, 9, 3))
		f.equal("in the end", len(first)+len(then), 3)
	}},
	{"no two claims pass a limit together", func(f *fixture) {
		const callers, batches, ofJob, ofProject = 8, 120, 3, 5
		items := make([]int32, batches)
		for i := range items {
			items[i] = 1
		}
		a, b := f.submitIn("a", items...), f.submitIn("b", items...)
		var mu sync.Mutex
		held, most := map[int64]int{}, map[int64]int{} // by job, and of both under 0
		left := 2 * batches
		count := func(grants []store.Grant, n int) (done bool) {
			mu.Lock()
			defer mu.Unlock()
			for _, g := range grants {
				for _, id := range []int64{g.JobID, 0} {
					held[id] += n
					most[id] = max(most[id], held[id])
				}
			}
			return left == 0
		}
		var wg sync.WaitGroup
		for caller := range callers {
			session := f.register(fmt.Sprint("w", caller))
			random := rand.New(rand.NewPCG(2, uint64(caller)))
			wg.Go(func() {
				for round, stuck := 0, 0; stuck < 20_000; round++ {
					got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(session, strconv.Itoa(round), 4)}, []store.Turn{
						{JobID: a, Most: 4, JobLimit: ofJob, Project: project, ProjectLimit: ofProject},
						{JobID: b, Most: 4, Project: project, ProjectLimit: ofProject},
					})
					if err != nil {
						f.Errorf("claim: %v", err)
						return
					}
					grants := got.Grants[0]
					if count(grants, 1) {
						return
					}
					stuck++
					if len(grants) == 0 {
						continue
					}
					stuck = 0
					for id, limit := range map[int64]int{a: ofJob, b: ofProject} {
						runs, err := f.ListBatches(f.ctx, store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchRunning}},
							store.Page{Size: batches})
						if err != nil || len(runs) > limit {
							f.Errorf("%d batches of job %d run, the limit is %d (%v)", len(runs), id, limit, err)
						}
					}
					if random.IntN(4) == 0 {
						if _, _, err := f.Fold(f.ctx, a); err != nil {
							f.Errorf("fold: %v", err)
						}
					}
					// They are let go of before that is said, and were held when it was known: more than that cannot run.
					count(grants, -1)
					var group []store.Settlement
					finished := 0
					for _, g := range grants {
						if random.IntN(4) == 0 {
							group = append(group, ended(g, job.EndReleased))
							continue
						}
						group = append(group, completed(g))
						finished++
					}
					if _, _, err := f.Settle(f.ctx, group); err != nil {
						f.Errorf("settle: %v", err)
						return
					}
					mu.Lock()
					left -= finished
					mu.Unlock()
				}
				f.Errorf("nothing was granted for too long")
			})
		}
		wg.Wait()
		if most[a] > ofJob || most[0] > ofProject {
			f.Errorf("%d of the limited job ran at a time, limit %d; %d of the project, limit %d", most[a], ofJob, most[0], ofProject)
		}
		for _, id := range []int64{a, b} {
			f.fold(id)
			if j := f.audit(id, 0); j.State != job.Succeeded {
				f.Errorf("job %d is %v", id, j.State)
			}
		}
	}},
}
