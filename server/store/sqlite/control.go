package sqlite

import (
	"context"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// PauseJob implements store.Jobs.
func (s *Store) PauseJob(ctx context.Context, id int64) (job.Job, error) {
	return s.halt(ctx, "pause job", id, job.Running, job.Paused)
}

// ResumeJob implements store.Jobs.
func (s *Store) ResumeJob(ctx context.Context, id int64) (job.Job, error) {
	return s.halt(ctx, "resume job", id, job.Paused, job.Running)
}

// halt moves a job between running and paused.
func (s *Store) halt(ctx context.Context, what string, id int64, from, to job.State) (j job.Job, err error) {
	err = s.write(ctx, settling, func(t *tx) error {
		if j, err = getJob(t, id); err != nil {
			return err
		}
		if j.State.Stopping() {
			return store.ErrJobStopped
		}
		if j.State != from {
			return nil
		}
		if to == job.Running {
			if err := t.touchUpload(id); err != nil {
				return err
			}
		}
		err = t.only("UPDATE jobs SET state = ?, revision = revision + 1, updated_at = ? WHERE id = ? AND state = ?",
			to, micros(t.now), id, from)
		if err != nil {
			return err
		}
		j, err = getJob(t, id)
		return err
	})
	if err != nil {
		return job.Job{}, wrap(what, err)
	}
	return j, nil
}

// touchUpload gives an unfinished upload its whole time again.
func (t *tx) touchUpload(id int64) error {
	return t.exec("UPDATE uploads SET active_at = ? WHERE job_id = ? AND finished_at IS NULL", micros(t.now), id)
}
