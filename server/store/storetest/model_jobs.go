package storetest

import (
	"errors"
	"slices"

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

func (m *model) elapseOne(t *rapid.T) { m.available(pick(t, m.waiting(), "batch")) }

func (m *model) available(b *knownBatch) {
	m.must(m.postpone(m.ctx, b.id, 0))
	m.touch(b, touched{settled: true})
	b.backedOff = false
}

// backOff makes sure that batches which failed wait, and has them wait until the sequence says otherwise.
func (m *model) backOff() {
	m.Helper()
	for b := range m.touched {
		if !b.backedOff {
			continue
		}
		row, attempts, err := m.GetBatch(m.ctx, b.id)
		m.must(err)
		if waits := row.AvailableAt.Sub(attempts[len(attempts)-1].EndedAt); waits < shortestBackoff {
			m.Errorf("batch %d failed %d times and is available again after %v", b.id, b.failures, waits)
		}
		m.must(m.postpone(m.ctx, b.id, long))
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
