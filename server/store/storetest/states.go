package storetest

import (
	"slices"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// worst is what a map shows of the batches that have one ordinal: of a family, what ended worst of it.
var worst = []job.BatchState{job.BatchCrashed, job.BatchFailed, job.BatchCancelled, job.BatchSplit, job.BatchRunning, job.BatchPending, job.BatchCompleted}

// statesOf returns the states of batches by ordinal, from their rows.
func statesOf(rows []store.BatchRow) []job.BatchState {
	var states []job.BatchState
	for _, r := range rows {
		for int(r.Ordinal) >= len(states) {
			states = append(states, job.BatchCompleted)
		}
		if slices.Index(worst, r.State) < slices.Index(worst, states[r.Ordinal]) {
			states[r.Ordinal] = r.State
		}
	}
	return states
}

// checkStates compares the map of a job with its rows.
func (m *model) checkStates(c *coordinator, jobID int64, rows []store.BatchRow) {
	m.Helper()
	got, err := c.BatchStates(c.ctx, jobID)
	m.must(err)
	if want := statesOf(rows); !slices.Equal(got, want) {
		m.Errorf("the map of job %d is %v, want %v", jobID, got, want)
	}
}

// states: the map of a job's batches.
var states = []scenario{
	{"the map of a job has the state of each batch", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1, 1, 1)
		other := f.submit("b", 1, 1)
		look := func(what string, want ...job.BatchState) {
			f.Helper()
			got, err := f.BatchStates(f.ctx, id)
			f.must(err)
			f.equal(what, got, want)
			f.equal(what+", by its rows", statesOf(f.batches(id)), want)
		}
		const p, r, c, b, k = job.BatchPending, job.BatchRunning, job.BatchCompleted, job.BatchFailed, job.BatchCancelled
		look("fresh", p, p, p, p, p, p, p)
		grants := f.claim(f.register("w"), "1", long, 5, id)
		look("some run", r, r, r, r, r, p, p)
		_, _, err := f.Settle(f.ctx, []store.Settlement{
			completed(grants[0]), ended(grants[1], job.EndFailed), completed(grants[3]), ended(grants[4], job.EndReleased),
		})
		f.must(err)
		look("some ended", c, b, r, c, p, p, p)
		f.stop(id)
		_, err = f.SweepJob(f.ctx, id, 10)
		f.must(err)
		look("stopped", c, b, r, c, k, k, k)
		untouched, err := f.BatchStates(f.ctx, other)
		f.must(err)
		f.equal("another job", untouched, []job.BatchState{p, p})
		none, err := f.BatchStates(f.ctx, 12345)
		f.must(err)
		if len(none) != 0 {
			f.Errorf("a job that is not there has the states %v", none)
		}
	}},
}
