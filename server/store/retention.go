package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// EndedFilter chooses jobs that have ended.
type EndedFilter struct {
	Age    time.Duration // they ended at least so long ago, by the database's clock
	States []job.State   // in which they ended; empty for all ends, and what is none chooses nothing
}

// Ends returns the states that the filter chooses.
func (f EndedFilter) Ends() []job.State {
	ends := []job.State{job.Succeeded, job.CompletedWithErrors, job.Failed, job.Cancelled}
	if len(f.States) == 0 {
		return ends
	}
	return slices.DeleteFunc(ends, func(end job.State) bool { return !slices.Contains(f.States, end) })
}

// EndedPage bounds a list of ended jobs: at most Size of those that ended after a place, the zero place being the
// beginning. A Size below 1 is 1.
type EndedPage struct {
	Size    int
	EndedAt time.Time // of the last job already seen
	ID      int64     // its id
}

// Retention is what removes that which has been kept for long enough.
type Retention interface {
	// EndedJobs returns jobs that have ended, the one that ended first at the front.
	EndedJobs(ctx context.Context, f EndedFilter, page EndedPage) ([]job.Job, error)
	// DeleteEndedJobs hides at most limit jobs, those that ended first, as DeleteJob does, and returns them as they
	// were. What is asked of a job is asked again at the moment when it is hidden, so that one which is retried
	// meanwhile stays: fewer than limit may be hidden though there are more.
	DeleteEndedJobs(ctx context.Context, f EndedFilter, limit int) ([]job.Job, error)
	// ForgetSessions removes at most limit sessions that ended at least age ago and hold nothing, and returns how many.
	// Attempts keep the names of their workers; a batch that such a session completed shows none any more.
	ForgetSessions(ctx context.Context, age time.Duration, limit int) (int, error)
}

// SortEnded puts jobs into the order of EndedJobs.
func SortEnded(jobs []job.Job) {
	slices.SortFunc(jobs, func(a, b job.Job) int {
		return cmp.Or(a.EndedAt.Compare(b.EndedAt), cmp.Compare(a.ID, b.ID))
	})
}
