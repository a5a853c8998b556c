package postgres

import (
	"context"
	"errors"
	"hash/fnv"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// lockLimits takes what has limits for this transaction, as far as nobody else has it.
const lockLimits = `
SELECT w.n, pg_try_advisory_xact_lock(w.class, w.key)
FROM unnest($1::integer[], $2::integer[]) WITH ORDINALITY AS w(class, key, n)`

// selectRunning returns what jobs, and all open ones of projects, have running as of their last folds, with each delta
// since. It is one statement, so that a fold comes before or after it as a whole.
const selectRunning = `
SELECT j.id, j.project, j.batches_running, d.delta
FROM jobs j LEFT JOIN LATERAL (SELECT delta FROM job_deltas WHERE job_id = j.id OFFSET 0) d ON true
WHERE j.id = ANY (ARRAY(
    SELECT unnest($1::bigint[])
    UNION
    SELECT o.id FROM jobs o
    WHERE cardinality($2::text[]) > 0 AND o.state IN ('running', 'paused', 'cancelling') AND o.project = ANY ($2::text[])))`

// rooms counts what runs of the limited jobs and projects of turns, once nobody else can add to it before this transaction
// has ended. What another claim is adding to has no room: it is not waited for. Without limits it does nothing.
func (t *tx) rooms(ctx context.Context, turns []store.Turn) (*store.Rooms, error) {
	r := store.NewRooms(turns)
	jobs, projects := r.Jobs(), r.Projects()
	if len(jobs)+len(projects) == 0 {
		return r, nil
	}
	var classes, keys []int32
	for _, id := range jobs {
		classes, keys = append(classes, jobLock), append(keys, int32(id%2147483647))
	}
	for _, project := range projects {
		h := fnv.New32a()
		h.Write([]byte(project))
		classes, keys = append(classes, projectLock), append(keys, int32(h.Sum32()))
	}
	each(t.queue(lockLimits, classes, keys), func(row pgx.Rows) error {
		var (
			n      int
			locked bool
		)
		err := row.Scan(&n, &locked)
		switch {
		case locked || err != nil:
		case n <= len(jobs):
			r.CloseJob(jobs[n-1])
		default:
			r.CloseProject(projects[n-1-len(jobs)])
		}
		return err
	})
	// A statement of its own, so that it sees what those who had the locks before have committed.
	counted := map[int64]bool{}
	each(t.queue(selectRunning, jobs, projects), func(row pgx.Rows) error {
		var (
			id      int64
			project string
			running int
			data    []byte
		)
		if err := row.Scan(&id, &project, &running, &data); err != nil {
			return err
		}
		if !counted[id] {
			counted[id] = true
			r.Running(id, project, running)
		}
		if data == nil {
			return nil
		}
		d, err := job.ParseDelta(data)
		if errors.Is(err, job.ErrDelta) {
			// What a newer program changed is not known here.
			r.Close(id, project)
			return nil
		}
		if err != nil {
			return err
		}
		r.Running(id, project, int(d.Batches[job.BatchRunning]))
		return nil
	})
	return r, t.send(ctx)
}
