package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// haltJob moves a job between running and paused.
const haltJob = `
UPDATE jobs SET state = $2, revision = revision + 1, updated_at = clock_timestamp()
WHERE id = $1 AND state = $3 AND deleted_at IS NULL`

// touchUpload gives an unfinished upload its whole time again.
const touchUpload = `UPDATE uploads SET active_at = clock_timestamp() WHERE job_id = $1 AND finished_at IS NULL`

// PauseJob implements store.Jobs.
func (s *Store) PauseJob(ctx context.Context, id int64) (job.Job, error) {
	return s.halt(ctx, "pause job", id, job.Running, job.Paused)
}

// ResumeJob implements store.Jobs.
func (s *Store) ResumeJob(ctx context.Context, id int64) (job.Job, error) {
	return s.halt(ctx, "resume job", id, job.Paused, job.Running)
}

func (s *Store) halt(ctx context.Context, what string, id int64, from, to job.State) (job.Job, error) {
	var list []job.Job
	err := s.write(ctx, what, func(_ context.Context, t *tx) error {
		list = nil
		if to == job.Running {
			t.queue(touchUpload, id)
		}
		t.queue(haltJob, id, string(to), string(from))
		t.queue(selectJob, id).Query(func(rows pgx.Rows) (err error) {
			list, err = pgx.CollectRows(rows, scanJob)
			return err
		})
		return nil
	})
	switch {
	case err != nil:
		return job.Job{}, err
	case len(list) == 0:
		return job.Job{}, fmt.Errorf("job %d: %w", id, store.ErrNotFound)
	case list[0].State.Stopping():
		return job.Job{}, fmt.Errorf("job %d: %w", id, store.ErrJobStopped)
	}
	return list[0], nil
}
