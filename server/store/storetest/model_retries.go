package storetest

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// retryOne retries a job by hand: all that ended badly, some states, or some batches, which may not be its own; or it
// repeats a request that may have been answered.
func (m *model) retryOne(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.jobs, "job")
	r := store.Retry{RequestID: m.name("retry")}
	if j.retry != "" && dice(t, 5, "repeated") == 0 {
		r.RequestID = j.retry
	}
	for _, s := range []job.BatchState{job.BatchFailed, job.BatchCrashed, job.BatchCancelled} {
		if dice(t, 4, "state") == 0 {
			r.States = append(r.States, s)
		}
	}
	if dice(t, 3, "named") == 0 {
		of := pick(t, m.jobs, "batches of")
		for _, b := range of.batches {
			if dice(t, 2, "this") == 0 {
				r.Batches = append(r.Batches, b.id)
			}
		}
	}
	m.send(t, c, func() { m.retryThis(c, j, r) })
}

func (m *model) retryThis(c *coordinator, j *knownJob, r store.Retry) {
	got, err := c.RetryJob(c.ctx, j.id, r)
	var named []*knownBatch
	found := false
	for _, b := range j.batches {
		if !r.Set().Has(b.state) {
			continue
		}
		found = found || len(r.Batches) == 0
		if slices.Contains(r.Batches, b.id) {
			named = append(named, b)
		}
	}
	resumable := j.state.Ended() && !j.up.Finished && len(r.Batches)+len(r.States) == 0
	switch {
	case j.deleted:
		m.wantError("retry a deleted job", err, store.ErrNotFound)
		return
	case r.RequestID == j.retry:
		m.must(err)
		m.look(j, got)
		return
	case j.state == job.Cancelling:
		m.wantError("retry a job that is being stopped", err, store.ErrJobOpen)
		return
	case !found && len(named) == 0 && !resumable:
		m.wantError("retry a job that has nothing to retry", err, store.ErrNothingToRetry)
		return
	}
	m.must(err)
	if found {
		j.retrying |= r.Set()
	}
	// All that is moved later is taken back now, and what is neither moved now nor later is forgiven.
	for _, b := range named {
		m.reopen(b)
	}
	for _, b := range j.batches {
		b.takenBack = j.retrying.Has(b.state)
	}
	left := j.counters()
	for o := range left.ItemOutcomes {
		j.seen.ItemOutcomes[o] = min(j.seen.ItemOutcomes[o], left.ItemOutcomes[o])
	}
	j.seen.ForgivenBad = left.ItemOutcomes[job.ItemFailed] + left.ItemOutcomes[job.ItemCrashed]
	j.seen.TakenBack = j.takenBack()
	j.retryFrom = place{}
	j.retry = r.RequestID
	if j.state.Ended() {
		j.state = job.Running
	}
	if !got.RetriedAt.After(j.seen.RetriedAt) {
		m.Errorf("retried at %v after %v", got.RetriedAt, j.seen.RetriedAt)
	}
	j.seen.State, j.seen.StopAs, j.seen.Reason, j.seen.EndedAt, j.seen.RetriedAt = j.state, "", "", got.EndedAt, got.RetriedAt
	j.seen.Retrying = j.retrying
	j.seen.Run++
	j.seen.Revision++
	j.bare = true
	m.look(j, got)
}

// reopen has a batch that ended badly pending, with what handlers gave.
func (m *model) reopen(b *knownBatch) {
	m.touch(b, touched{settled: true})
	for n := len(b.outcomes); n > 0 && !b.outcomes[n-1].ByHandler(); n-- {
		b.outcomes = b.outcomes[:n-1]
	}
	b.state, b.failures, b.crashes, b.losses, b.crashed, b.takenBack = job.BatchPending, 0, 0, 0, false, false
	b.Suspicion = job.Suspicion{}
	for i := range int64(b.cut.Items) {
		delete(b.job.deaths, b.cut.FirstItem+i) // it is accused anew, or not at all
	}
	b.returned, b.job.dirty = true, true
}

// takenBack is the items of the batches that a retry still moves, by the outcome that it took back.
func (j *knownJob) takenBack() (n [9]int64) {
	for _, b := range j.batches {
		if b.takenBack {
			for _, o := range b.outcomes {
				if !o.ByHandler() {
					n[o]++
				}
			}
		}
	}
	return n
}

// endRetry has what a retry took back and has not moved ended again.
func (j *knownJob) endRetry() {
	for _, b := range j.batches {
		b.takenBack = false
	}
	j.retrying, j.seen.Retrying, j.seen.TakenBack = 0, 0, [9]int64{}
}

func (m *model) retryStepOne(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.jobs, "job")
	m.send(t, c, func() { m.retryStep(c, j) })
}

// retryStep looks at the next batch of a job that is being retried. One at a time: a step that takes long may be shorter
// than was asked for.
func (m *model) retryStep(c *coordinator, j *knownJob) {
	list, err := c.RetryingJobs(c.ctx)
	m.must(err)
	if want := j.retrying != 0 && !j.deleted; slices.Contains(list, j.id) != want {
		m.Fatalf("job %d is among those that are retried, %v: want %v", j.id, list, want)
	}
	moved, more, err := c.RetryStep(c.ctx, j.id, 1)
	m.must(err)
	wantMoved, wantMore := 0, false
	if j.retrying != 0 && !j.deleted {
		i := slices.IndexFunc(j.batches, func(b *knownBatch) bool { return j.retryFrom.before(b.place) && job.Bad.Has(b.state) })
		if wantMore = i >= 0; wantMore {
			b := j.batches[i]
			j.retryFrom = b.place
			if b.takenBack {
				m.reopen(b)
				wantMoved = 1
				j.seen.TakenBack = j.takenBack()
			}
		} else {
			j.endRetry()
		}
	}
	if moved != wantMoved || more != wantMore {
		m.Fatalf("a step moved %d batches, and there may be more: %v, want %d, %v", moved, more, wantMoved, wantMore)
	}
}
