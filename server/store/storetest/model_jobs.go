package storetest

import (
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *model) jobActions() []action {
	return []action{
		{"stop job", 1, nil, m.stopOne},
		{"pause or resume job", 3, nil, m.pauseOne},
		{"retry job", 3, nil, m.retryOne},
		{"step of a retry", 4, m.retried, m.retryStepOne},
		{"delete job", 1, nil, m.deleteOne},
		{"remove deleted jobs", 1, nil, m.deleteStep},
		{"let a backoff elapse", 3, func() bool { return len(m.waiting()) > 0 }, m.elapseOne},
		{"offer to all workers again", 3, func() bool { return len(m.shunnedOnes()) > 0 }, m.unshunOne},
		{"wait for a session that holds nothing", 3, func() bool { return len(m.soloOnes()) > 0 }, m.waitSolo},
	}
}

func (m *model) stopOne(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.jobs, "job")
	as := pick(t, []job.State{job.Cancelled, job.Failed}, "as")
	reason := m.name("reason")
	m.send(t, c, func() {
		got, err := c.StopJob(c.ctx, j.id, as, reason)
		if j.deleted {
			m.wantError("stop a deleted job", err, store.ErrNotFound)
			return
		}
		m.must(err)
		if !j.state.Stopping() {
			j.stop(as, reason)
		}
		m.look(j, got)
	})
}

func (m *model) pauseOne(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.jobs, "job")
	pause := j.state != job.Paused
	if dice(t, 4, "once more") == 0 {
		pause = !pause
	}
	m.send(t, c, func() { m.pauseThis(c, j, pause) })
}

func (m *model) pauseThis(c *coordinator, j *knownJob, pause bool) {
	call, to := c.ResumeJob, job.Running
	if pause {
		call, to = c.PauseJob, job.Paused
	}
	got, err := call(c.ctx, j.id)
	switch {
	case j.deleted:
		m.wantError("pause or resume a deleted job", err, store.ErrNotFound)
		return
	case j.state.Stopping():
		m.wantError("pause or resume a job that is "+string(j.state), err, store.ErrJobStopped)
		return
	}
	m.must(err)
	if j.state != to {
		j.state, j.seen.State, j.bare = to, to, true
		j.seen.Revision++
	}
	m.look(j, got)
}

// retried tells whether a retry still moves batches.
func (m *model) retried() bool {
	return slices.ContainsFunc(m.jobs, func(j *knownJob) bool { return j.retrying != 0 })
}

// sweepOne cancels pending batches of a job. Which of them come first is the store's to choose.
func (m *model) sweepOne(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.jobs, "job")
	m.send(t, c, func() { m.sweepStep(c, j) })
}

func (m *model) sweepStep(c *coordinator, j *knownJob) int {
	// One at a time: a step that takes long may be shorter than was asked for.
	n, err := c.SweepJob(c.ctx, j.id, 1)
	m.must(err)
	want := 0
	if j.state == job.Cancelling && slices.ContainsFunc(j.batches, func(b *knownBatch) bool { return b.state == job.BatchPending }) {
		want = 1
	}
	if n != want {
		m.Fatalf("a step of sweeping cancelled %d batches, want %d", n, want)
	}
	if n == 0 {
		return 0
	}
	for _, row := range m.rows(c.fixture, j) {
		if b := m.batches[row.ID]; b.state == job.BatchPending && row.State == job.BatchCancelled {
			m.touch(b, touched{settled: true})
			b.cancel()
			return 1
		}
	}
	m.Fatalf("no batch was cancelled by the step that says so")
	return 0
}

func (m *model) deleteOne(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.jobs, "job")
	m.send(t, c, func() { m.remove(c, j) })
}

func (m *model) remove(c *coordinator, j *knownJob) {
	err := c.DeleteJob(c.ctx, j.id)
	switch {
	case j.deleted:
		m.wantError("delete again", err, store.ErrNotFound)
	case !j.state.Ended():
		m.wantError("delete an open job", err, store.ErrJobOpen)
	default:
		m.must(err)
		j.deleted = true
	}
}

func (m *model) deleteStep(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	_, err := c.DeleteStep(c.ctx, rapid.IntRange(1, 5).Draw(t, "rows"))
	m.must(err)
}

// waiting returns the batches that failed and are not to be claimed yet.
func (m *model) waiting() []*knownBatch {
	var waiting []*knownBatch
	for _, j := range m.jobs {
		for _, b := range j.batches {
			if b.backedOff {
				waiting = append(waiting, b)
			}
		}
	}
	return waiting
}

func (m *model) elapseOne(t *rapid.T) { m.ready(pick(t, m.waiting(), "batch")) }

func (m *model) ready(b *knownBatch) {
	m.must(m.cluster.Postpone(m.ctx, b.id, 0))
	m.touch(b, touched{settled: true})
	b.backedOff = false
}

// shunnedOnes returns the batches that are offered to other workers first.
func (m *model) shunnedOnes() []*knownBatch {
	return m.pending(func(b *knownBatch) bool { return b.avoided })
}

// unshunOne lets the time pass in which a batch is offered to other workers first.
func (m *model) unshunOne(t *rapid.T) { m.unshun(pick(t, m.shunnedOnes(), "batch")) }

func (m *model) unshun(b *knownBatch) {
	m.must(m.cluster.Shun(m.ctx, b.id, -time.Second))
	b.avoided = false
}

// soloOnes returns the solo batches that are available, and may have to wait for their session.
func (m *model) soloOnes() []*knownBatch {
	return m.pending(func(b *knownBatch) bool { return b.Solo && !b.backedOff && !b.waited })
}

// waitSolo has a solo batch wait for longer than it has patience.
func (m *model) waitSolo(t *rapid.T) {
	b := pick(t, m.soloOnes(), "batch")
	m.must(m.cluster.Postpone(m.ctx, b.id, -time.Minute))
	m.touch(b, touched{settled: true})
	b.waited = true
}

// freshen makes sure that no other solo batch has waited for long, however slow the machine is.
func (m *model) freshen() {
	now := m.now()
	for _, b := range m.soloOnes() {
		if now.Sub(b.row.AvailableAt) > time.Second {
			m.must(m.cluster.Postpone(m.ctx, b.id, 0))
			b.row.AvailableAt = m.batch(b.id).AvailableAt
			m.touch(b, touched{settled: true})
		}
	}
}

// pending returns some of the pending batches.
func (m *model) pending(some func(*knownBatch) bool) []*knownBatch {
	var list []*knownBatch
	for _, j := range m.jobs {
		for _, b := range j.batches {
			if !j.deleted && b.state == job.BatchPending && some(b) {
				list = append(list, b)
			}
		}
	}
	return list
}

// backOff makes sure that batches which failed wait, and has them wait until the sequence says otherwise.
func (m *model) backOff() {
	m.Helper()
	for b := range m.touched {
		if b.avoided {
			m.must(m.cluster.Shun(m.ctx, b.id, long))
		}
		if !b.backedOff {
			continue
		}
		row, attempts, err := m.GetBatch(m.ctx, b.id)
		m.must(err)
		if waits := row.AvailableAt.Sub(attempts[len(attempts)-1].EndedAt); waits < shortestBackoff {
			m.Errorf("batch %d failed %d times and is available again after %v", b.id, b.failures, waits)
		}
		m.must(m.cluster.Postpone(m.ctx, b.id, long))
	}
}

func (m *model) foldSome(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.jobs, "job")
	m.send(t, c, func() { m.foldJob(c, j) })
}

// foldJob counts what has changed of a job, which may end it.
func (m *model) foldJob(c *coordinator, j *knownJob) {
	m.Helper()
	if dirty, err := c.DirtyJobs(c.ctx); err != nil {
		m.must(err)
	} else if j.dirty && !slices.Contains(dirty, j.id) {
		m.Fatalf("job %d has changed and is not among %v", j.id, dirty)
	}
	before := j.seen
	got, changed, err := c.Fold(c.ctx, j.id)
	if j.deleted {
		m.wantError("fold a deleted job", err, store.ErrNotFound)
		return
	}
	m.must(err)
	counters := j.counters()
	was := j.state
	if j.limited(counters) {
		if got.Reason == "" {
			m.Errorf("job %d was stopped by a limit and says not why", j.id)
		}
		j.state, j.retrying = job.Cancelling, 0
		j.seen.StopAs, j.seen.Reason, j.seen.Retrying = job.Failed, got.Reason, 0
	}
	state := j.end(counters)
	if want := j.dirty || state != was; changed != want {
		m.Fatalf("folding changed the job: %v, want %v", changed, want)
	}
	if changed {
		if j.retrying == 0 {
			j.endRetry()
			counters = j.counters()
		}
		j.seen.Counters, j.seen.IngestDone, j.seen.State = counters, j.up.Finished, state
		j.seen.Revision++
		j.state, j.dirty, j.bare, j.faulty = state, false, true, false
		if started := counters.BatchesTotal() > counters.Batches[job.BatchPending]; j.seen.StartedAt.IsZero() && started {
			j.seen.StartedAt = got.StartedAt
			if got.StartedAt.IsZero() {
				m.Errorf("the job has begun and says not when")
			}
		}
		if state.Ended() && before.EndedAt.IsZero() {
			j.seen.EndedAt = got.EndedAt
		}
	}
	m.look(j, got)
}

// look compares a job's row with what it was when it was last seen, and what the steps since made of it.
func (m *model) look(j *knownJob, got job.Job) {
	m.Helper()
	if got.UpdatedAt.Before(j.seen.UpdatedAt) || j.bare != got.UpdatedAt.After(j.seen.UpdatedAt) {
		m.Errorf("job %d was changed: %v; it says that it was at %v, before at %v", j.id, j.bare, got.UpdatedAt, j.seen.UpdatedAt)
	}
	if got.State.Ended() != !got.EndedAt.IsZero() {
		m.Errorf("job %d is %v and ended at %v", j.id, got.State, got.EndedAt)
	}
	if total := got.ItemsEnded() + got.ItemsOpen(); total != got.ItemsTotal || got.ItemsOpen() < got.ItemsInFlight {
		m.Errorf("%d items ended or open, %d in flight, total %d", total, got.ItemsInFlight, got.ItemsTotal)
	}
	if got.Run == j.run && got.ItemsEnded() < j.ended {
		m.Errorf("in run %d %d items have ended after %d", j.run, got.ItemsEnded(), j.ended)
	}
	j.run, j.ended = got.Run, got.ItemsEnded()
	j.seen.UpdatedAt, j.bare = got.UpdatedAt, false
	m.equal("a job", got, j.seen)
}

func (m *model) wantError(what string, got, want error) {
	m.Helper()
	if !errors.Is(got, want) {
		m.Fatalf("%s: %v, want %v", what, got, want)
	}
}
