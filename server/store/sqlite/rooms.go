package sqlite

import (
	"errors"
	"fmt"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// rooms counts what runs of the limited jobs and projects of turns. Nobody else writes until the transaction ends.
func (t *tx) rooms(turns []store.Turn) (*store.Rooms, error) {
	r := store.NewRooms(turns)
	type one struct {
		id      int64
		project string
		running int
	}
	scan := func(row scanner) (o one, err error) {
		err = row.Scan(&o.id, &o.project, &o.running)
		return o, err
	}
	counted := map[int64]bool{}
	count := func(query string, arg any) error {
		list, err := collect(t, scan, query, arg)
		if err != nil {
			return fmt.Errorf("read what runs: %w", err)
		}
		for _, o := range list {
			if counted[o.id] {
				continue
			}
			counted[o.id] = true
			running, err := t.runningOf(o.id)
			if errors.Is(err, job.ErrDelta) {
				// What a newer program changed is not known here.
				r.Close(o.id, o.project)
				continue
			}
			if err != nil {
				return err
			}
			r.Running(o.id, o.project, o.running+running)
		}
		return nil
	}
	for _, project := range r.Projects() {
		err := count(`SELECT id, project, batches_running FROM jobs INDEXED BY jobs_open
			WHERE state IN ('running', 'paused', 'cancelling') AND ended_at IS NULL AND project = ?`, project)
		if err != nil {
			return nil, err
		}
	}
	for _, id := range r.Jobs() {
		if err := count("SELECT id, project, batches_running FROM jobs WHERE id = ?", id); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// runningOf returns what the deltas of a job add to its running batches.
func (t *tx) runningOf(jobID int64) (int, error) {
	var n int64
	err := each(t, func(row scanner) error {
		d, err := scanDelta(row)
		if err == nil {
			n += d.Batches[job.BatchRunning]
		}
		return err
	}, "SELECT delta FROM job_deltas WHERE job_id = ?", jobID)
	if err != nil {
		return 0, fmt.Errorf("read what runs of job %d: %w", jobID, err)
	}
	return int(n), nil
}
