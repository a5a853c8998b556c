package reaper

import (
	"context"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// retentionInterval is the time between two looks for what has been kept for long enough.
const retentionInterval = time.Minute

// retentionStep is how many jobs are hidden, or sessions forgotten, in one transaction.
const retentionStep = 100

// RetainOnce hides the jobs whose time is over, whose rows then go in steps as those of every deleted job do, and
// forgets the sessions that ended as long ago as the oldest job may have.
func (r *Reaper) RetainOnce(ctx context.Context) error {
	err := r.retain(ctx, r.cfg.Retention, job.Succeeded)
	if err == nil {
		err = r.retain(ctx, r.cfg.RetentionWithErrors, job.CompletedWithErrors, job.Failed, job.Cancelled)
	}
	if err != nil || r.cfg.Retention <= 0 || r.cfg.RetentionWithErrors <= 0 {
		return err
	}
	for {
		n, err := r.cfg.Store.ForgetSessions(ctx, max(r.cfg.Retention, r.cfg.RetentionWithErrors), retentionStep)
		if err != nil || n == 0 {
			return err
		}
	}
}

// retain hides the jobs that ended in one of the states longer ago than so; 0 keeps them for ever.
func (r *Reaper) retain(ctx context.Context, age time.Duration, states ...job.State) error {
	if age <= 0 {
		return nil
	}
	hidden := 0
	defer func() {
		if hidden > 0 {
			r.cfg.Logger.Info("old jobs deleted", "jobs", hidden, "ended_before", age, "states", states)
		}
	}()
	for {
		jobs, err := r.cfg.Store.DeleteEndedJobs(ctx, store.EndedFilter{Age: age, States: states}, retentionStep)
		hidden += len(jobs)
		if err != nil || len(jobs) == 0 {
			return err
		}
	}
}
