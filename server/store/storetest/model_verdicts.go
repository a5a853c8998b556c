package storetest

import (
	"cmp"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// dieOnBad has the process die that handles a batch on the worker on which everything does, if another worker lives.
func (m *model) dieOnBad(t *rapid.T, c *coordinator, b *knownBatch) {
	if !slices.ContainsFunc(m.colleagues(), func(w store.Colleague) bool { return w.ID != m.poison.bad }) {
		return // nobody could tell them apart
	}
	suspect := int32(0)
	if dice(t, 3, "known") > 0 {
		suspect = b.done() + 1
	}
	m.settleThese(c, []store.Settlement{died(b.grant(false), b.done(), suspect, "SIGSEGV")})
}

// colleagues are the workers that live and take batches.
func (m *model) colleagues() []store.Colleague {
	var list []store.Colleague
	for _, s := range m.sessions {
		if s.takes() && !s.broken {
			list = append(list, store.Colleague{ID: s.worker, Kinds: session(s.worker).Kinds})
		}
	}
	return list
}

// judgeWorkers has workers judged, and makes sure that nobody is drained but the bad one, that it is as soon as what died
// and what completed say so, and that this acquits what died on it and nothing else.
func (m *model) judgeWorkers(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	want := []store.DrainedWorker{}
	for _, d := range store.Defendants(m.workerDeaths()) {
		completed := map[int64]int64{}
		for _, s := range m.sessions {
			if s.worker == d.Live.ID {
				completed[s.id] = s.completed
			}
		}
		reason := d.Judge(completed, m.colleagues())
		if reason == "" {
			continue
		}
		if d.Live.ID != m.poison.bad {
			m.Fatalf("%s is drained, and is innocent: %s", d.Live.ID, reason)
		}
		s := m.session(d.Session)
		s.drained, s.condemned = true, true
		want = append(want, store.DrainedWorker{Session: s.id, Worker: s.worker, Reason: reason, Jobs: m.acquit(s.worker, d.Batches())})
	}
	got, err := c.JudgeWorkers(c.ctx)
	m.must(err)
	m.equal("drained workers", got, append([]store.DrainedWorker{}, want...))
}

// workerDeaths are those on workers that live, the last first.
func (m *model) workerDeaths() []store.WorkerDeath {
	var list []store.WorkerDeath
	for _, s := range m.sessions {
		if !s.takes() {
			continue
		}
		after := int64(0)
		for _, x := range m.sessions {
			if x.worker == s.worker && x.drained {
				after = max(after, x.id)
			}
		}
		for _, b := range m.batches {
			for _, e := range b.ends {
				if e.kind == job.EndDied && e.worker == s.worker && e.lease.SessionID > after {
					list = append(list, store.WorkerDeath{
						Live: store.Colleague{ID: s.worker, Kinds: session(s.worker).Kinds}, Session: s.id, Batch: b.id, Root: b.root().id,
						DiedIn: e.lease.SessionID, Reported: e.crash != nil, At: time.Unix(int64(e.at), 0), Completed: e.completed,
						Elsewhere: b.root().completedBut(s.worker),
					})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b store.WorkerDeath) int { return b.At.Compare(a.At) })
	return list
}

// completedBut tells whether a batch was completed, whole, by another worker than this one.
func (b *knownBatch) completedBut(worker string) bool {
	if b.state != job.BatchCompleted || len(b.ends) == 0 {
		return false
	}
	last := b.ends[len(b.ends)-1]
	return last.kind == job.EndCompleted && last.worker != worker
}

// acquit takes back that batches, and parts of them, died on a worker and on no other, and returns their jobs.
func (m *model) acquit(worker string, ids []int64) []int64 {
	jobs := []int64{}
	for _, b := range m.batches {
		kin := b
		for kin != nil && !slices.Contains(ids, kin.id) {
			kin = kin.parent
		}
		if kin == nil || b.DiedOn != worker || b.state > job.BatchFailed {
			continue
		}
		if b.parent == nil && b.crashes > 0 && b.losses == 0 {
			b.crashed = false
		}
		b.crashes, b.shunned, b.avoided = 0, false, false
		b.Suspicion = job.Suspicion{Solo: b.Solo}
		b.job.dirty = true
		jobs = append(jobs, b.job.id)
	}
	slices.SortFunc(jobs, cmp.Compare[int64])
	return slices.Compact(jobs)
}
