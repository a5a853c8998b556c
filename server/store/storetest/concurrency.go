package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// concurrency: the same guarantees with many callers at once.
var concurrency = []scenario{
	{"no batch is granted twice, and the sums are right", func(f *fixture) {
		const callers, batches = 8, 200
		items := make([]int32, batches)
		for i := range items {
			items[i] = 1 + int32(i%3)
		}
		a, b := f.submit("a", items...), f.submit("b", items...)
		var mu sync.Mutex
		attempts := map[int64]int32{} // the last attempt granted
		finished := map[int64]int{}   // completions told
		var wg sync.WaitGroup
		for caller := range callers {
			session := f.register(fmt.Sprint("w", caller))
			random := rand.New(rand.NewPCG(1, uint64(caller)))
			wg.Go(func() {
				for round, idle := 0, 0; idle < 50; round++ {
					got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(session, strconv.Itoa(round), 4)},
						[]store.Turn{{JobID: a, Most: 2}, {JobID: b, Most: 2}})
					if err != nil {
						f.Errorf("claim: %v", err)
						return
					}
					var group []store.Settlement
					mu.Lock()
					for _, g := range got.Grants[0] {
						if g.Attempt <= attempts[g.BatchID] {
							f.Errorf("batch %d granted as attempt %d after %d", g.BatchID, g.Attempt, attempts[g.BatchID])
						}
						attempts[g.BatchID] = g.Attempt
						s := completed(g)
						if random.IntN(4) == 0 {
							s = ended(g, job.EndReleased)
						}
						group = append(group, s)
					}
					mu.Unlock()
					answers, _, err := f.Settle(f.ctx, group)
					if err != nil {
						f.Errorf("settle: %v", err)
						return
					}
					mu.Lock()
					for i, a := range answers {
						if a.Lost || a.Err != nil {
							f.Errorf("settling %+v: %+v", group[i].Lease, a)
						}
						if a.State == job.BatchCompleted {
							finished[group[i].BatchID]++
						}
					}
					done := len(finished) == 2*batches
					mu.Unlock()
					if done {
						return
					}
					if idle++; len(group) > 0 {
						idle = 0
					}
				}
			})
		}
		wg.Wait()
		for id, n := range finished {
			if n != 1 {
				f.Errorf("batch %d completed %d times", id, n)
			}
		}
		for _, id := range []int64{a, b} {
			f.wait("the rest", func() bool {
				for _, g := range f.claim(f.register("rest"), "rest", long, 100, id) {
					f.settle(completed(g))
				}
				return f.fold(id).State.Ended()
			})
			if j := f.audit(id, 0); j.State != job.Succeeded {
				f.Errorf("the job is %v", j.State)
			}
		}
	}},
	{"one of many settlements of a lease counts", func(f *fixture) {
		id := f.submit("a", 3)
		for round := range 10 {
			g := f.claimOne(f.register("w"), strconv.Itoa(round), long, id)
			var mu sync.Mutex
			var changed, lost int
			var wg sync.WaitGroup
			for i := range 6 {
				s := ended(g, []job.EndKind{job.EndReleased, job.EndCancelled, job.EndReleased}[i%3])
				wg.Go(func() {
					answers, _, err := f.Settle(f.ctx, []store.Settlement{s})
					if err != nil {
						f.Errorf("settle: %v", err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if answers[0].JobID != 0 {
						changed++
					}
					if answers[0].Lost {
						lost++
					}
				})
			}
			wg.Wait()
			if changed != 1 || (lost != 2 && lost != 4) {
				f.Errorf("%d settlements changed the batch, %d were lost", changed, lost)
			}
		}
		f.audit(id, 0)
	}},
	{"uploads, claims, beats, stops and reaps at once keep the books", func(f *fixture) {
		up := f.open("a")
		var wg sync.WaitGroup
		wg.Go(func() {
			at := up
			for i := range 30 {
				g := cut(at, 2, 3)
				if i == 29 {
					g.Finished = true
				}
				if err := f.CommitIngest(f.ctx, g); i > 25 && errors.Is(err, store.ErrJobStopped) {
					return
				} else if err != nil {
					f.Errorf("commit %d: %v", i, err)
					return
				}
				at.Position = g.Position
				if i == 25 {
					if _, err := f.StopJob(f.ctx, up.JobID, job.Cancelled, "enough"); err != nil {
						f.Errorf("stop: %v", err)
					}
				}
			}
		})
		for caller := range 4 {
			worker := fmt.Sprint("w", caller)
			session := f.register(worker)
			random := rand.New(rand.NewPCG(2, uint64(caller)))
			wg.Go(func() {
				for round := range 40 {
					lease := long
					if random.IntN(3) == 0 {
						lease = short
					}
					got, err := f.Claim(f.ctx, lease, []store.ClaimRequest{request(session, strconv.Itoa(round), 3)},
						[]store.Turn{{JobID: up.JobID, Most: 3}})
					if err != nil {
						f.Errorf("claim: %v", err)
						return
					}
					for _, g := range got.Grants[0] {
						var err error
						switch random.IntN(6) {
						case 0:
							_, _, err = f.Beat(f.ctx, lease, []store.Beat{{Lease: g.Lease, From: g.DoneItems, Outcomes: stored(1)}})
						case 1:
							_, _, err = f.Settle(f.ctx, []store.Settlement{ended(g, job.EndReleased)})
						case 2:
							_, _, err = f.Settle(f.ctx, []store.Settlement{ended(g, job.EndDied)})
						default:
							_, _, err = f.Settle(f.ctx, []store.Settlement{completed(g)})
						}
						if err != nil {
							f.Errorf("beat or settle: %v", err)
						}
					}
					if _, err := f.Reap(f.ctx, nil, 10); err != nil {
						f.Errorf("reap: %v", err)
					}
					if _, _, err := f.Fold(f.ctx, up.JobID); err != nil {
						f.Errorf("fold: %v", err)
					}
				}
				if _, err := f.EndSession(f.ctx, session, "done"); err != nil {
					f.Errorf("end session: %v", err)
				}
			})
		}
		wg.Wait()
		f.stop(up.JobID)
		f.sweep(up.JobID)
		if j := f.audit(up.JobID, 0); j.State != job.Cancelled {
			f.Errorf("the job is %v", j.State)
		}
	}},
}
