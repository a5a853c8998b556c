package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// endedPlaces looks, for each of the states $1, through the jobs that ended in it at least $2 ago, from behind the
// place ($3, $4) on, and takes $5 of all these.
const endedPlaces = `
SELECT e.id
FROM unnest($1::text[]) AS s(state)
CROSS JOIN LATERAL (
    SELECT j.ended_at, j.id
    FROM jobs j
    WHERE j.state = s.state AND j.ended_at IS NOT NULL AND j.deleted_at IS NULL
      AND j.ended_at <= (SELECT clock_timestamp() - $2::interval) AND (j.ended_at, j.id) > ($3, $4)
    ORDER BY j.ended_at, j.id
    LIMIT $5
) e
ORDER BY e.ended_at, e.id
LIMIT $5`

const listEndedJobs = `
SELECT ` + jobColumns + ` FROM jobs WHERE id = ANY (ARRAY(` + endedPlaces + `)) AND ended_at IS NOT NULL
ORDER BY ended_at, id`

// The rows are locked as DeleteJob does it, uploads before jobs, and in the order of their ids. deleteEnded asks again,
// now that nobody changes them any more.
const (
	lockUploadsOfJobs = `SELECT u.job_id FROM uploads u WHERE u.job_id = ANY ($1::bigint[]) ORDER BY u.job_id FOR UPDATE`
	lockJobs          = `SELECT j.id FROM jobs j WHERE j.id = ANY ($1::bigint[]) ORDER BY j.id FOR UPDATE`

	deleteEnded = `
UPDATE jobs SET deleted_at = clock_timestamp()
WHERE id = ANY ($1::bigint[]) AND state = ANY ($2::text[]) AND deleted_at IS NULL
  AND ended_at <= (SELECT clock_timestamp() - $3::interval)
RETURNING ` + jobColumns

	deleteUploadsOfJobs = `
DELETE FROM uploads u USING jobs j
WHERE u.job_id = ANY ($1::bigint[]) AND j.id = u.job_id AND j.deleted_at IS NOT NULL`
)

func ends(f store.EndedFilter) []string {
	var names []string
	for _, state := range f.Ends() {
		names = append(names, string(state))
	}
	return names
}

// EndedJobs implements store.Retention.
func (s *Store) EndedJobs(ctx context.Context, f store.EndedFilter, page store.EndedPage) ([]job.Job, error) {
	return s.jobs(ctx, "list ended jobs", listEndedJobs, ends(f), f.Age, page.EndedAt, page.ID, max(page.Size, 1))
}

// DeleteEndedJobs implements store.Retention.
func (s *Store) DeleteEndedJobs(ctx context.Context, f store.EndedFilter, limit int) ([]job.Job, error) {
	states := ends(f)
	var list []job.Job
	err := s.write(ctx, "delete ended jobs", func(ctx context.Context, t *tx) error {
		list = nil
		var old, locked []int64
		ids(t.queue(endedPlaces, states, f.Age, time.Time{}, int64(0), max(limit, 1)), &old)
		if err := t.send(ctx); err != nil {
			return err
		}
		if len(old) == 0 {
			return errNothing
		}
		ids(t.queue(lockUploadsOfJobs, old), &locked)
		ids(t.queue(lockJobs, old), &locked)
		t.queue(deleteEnded, old, states, f.Age).Query(func(rows pgx.Rows) (err error) {
			list, err = pgx.CollectRows(rows, scanJob)
			return err
		})
		t.queue(deleteUploadsOfJobs, old)
		return nil
	})
	if err != nil {
		return nil, err
	}
	store.SortEnded(list)
	return list, nil
}

// forgetSessions leaves those that hold something still: who ends their leases must know whose they are.
const forgetSessions = `
DELETE FROM sessions WHERE id = ANY (ARRAY(
    SELECT s.id FROM sessions s
    WHERE s.ended_at IS NOT NULL AND s.ended_at <= (SELECT clock_timestamp() - $1::interval)
      AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.session_id = s.id)
    ORDER BY s.ended_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED))`

// ForgetSessions implements store.Retention.
func (s *Store) ForgetSessions(ctx context.Context, age time.Duration, limit int) (int, error) {
	var n int64
	err := s.write(ctx, "forget ended sessions", func(_ context.Context, t *tx) error {
		t.queue(forgetSessions, age, max(limit, 1)).Exec(func(tag pgconn.CommandTag) error {
			n = tag.RowsAffected()
			return nil
		})
		return nil
	})
	return int(n), err
}
