package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Bounds of what statistics list.
const (
	slowestListed  = 20
	failuresListed = 20
)

// windowStart is the start of the minute in which a window of length $1 begins.
const windowStart = `(SELECT date_trunc('minute', clock_timestamp() - $1::interval))`

// ofFilter narrows to a job $2 and projects $3, and hides deleted jobs.
const ofFilter = `($2 = 0 OR j.id = $2) AND (cardinality($3::text[]) = 0 OR j.project = ANY ($3::text[])) AND j.deleted_at IS NULL`

const selectMinutes = `
SELECT m.completed, m.failed, m.crashed, m.cancelled, m.with_crash - m.acquitted, m.durations
FROM job_minutes m JOIN jobs j ON j.id = m.job_id
WHERE m.minute >= ` + windowStart + ` AND ($2 = 0 OR m.job_id = $2) AND ` + ofFilter

const selectSlowestInWindow = `
WITH listed AS (
    SELECT s.batch_id AS id, s.duration_us
    FROM slowest_batches s JOIN jobs j ON j.id = s.job_id
    WHERE s.ended_at >= ` + windowStart + ` AND ($2 = 0 OR s.job_id = $2) AND ` + ofFilter + `
    ORDER BY s.duration_us DESC, s.batch_id
    LIMIT $4
)` + batchRow + ` ORDER BY l.duration_us DESC, b.id`

const selectFailures = `
SELECT a.message, a.ended_as, count(*), max(a.batch_id), max(a.ended_at)
FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.ended_at >= ` + windowStart + ` AND ($2 = 0 OR a.job_id = $2) AND ` + ofFilter + `
  AND a.ended_as IN ('failed', 'died', 'lost')
GROUP BY a.message, a.ended_as
ORDER BY count(*) DESC, max(a.ended_at) DESC
LIMIT $4`

// selectCrashes groups first, so that of standard error only the last one's of each group is looked at.
const selectCrashes = `
SELECT g.fingerprint, a.signal, a.exit_code, g.n, g.batches, g.batch_id, g.ended_at, a.stderr
FROM (
    SELECT a.fingerprint, count(*) AS n, count(DISTINCT a.batch_id) AS batches, max(a.ended_at) AS ended_at,
           (array_agg(a.batch_id ORDER BY a.ended_at DESC, a.batch_id DESC))[1] AS batch_id,
           (array_agg(a.attempt ORDER BY a.ended_at DESC, a.batch_id DESC))[1] AS attempt
    FROM attempts a JOIN jobs j ON j.id = a.job_id
    WHERE a.ended_as = 'died' AND a.ended_at >= ` + windowStart + ` AND a.fingerprint <> ''
      AND ($2 = 0 OR a.job_id = $2) AND ` + ofFilter + `
    GROUP BY a.fingerprint
    ORDER BY count(*) DESC, max(a.ended_at) DESC, a.fingerprint
    LIMIT $4
) g
JOIN attempts a ON a.batch_id = g.batch_id AND a.attempt = g.attempt
ORDER BY g.n DESC, g.ended_at DESC, g.fingerprint`

// selectEnded adds up, of all jobs, what selectMinutes lists.
const selectEnded = `
SELECT coalesce(sum(m.completed), 0)::bigint, coalesce(sum(m.failed), 0)::bigint, coalesce(sum(m.crashed), 0)::bigint,
       coalesce(sum(m.cancelled), 0)::bigint, coalesce(sum(m.with_crash - m.acquitted), 0)::bigint
FROM job_minutes m JOIN jobs j ON j.id = m.job_id
WHERE m.minute >= ` + windowStart + ` AND j.deleted_at IS NULL`

// GetStatistics implements store.Listings.
func (s *Store) GetStatistics(ctx context.Context, f store.StatisticsFilter) (store.Statistics, error) {
	var stats store.Statistics
	projects := f.Of()
	err := s.call(ctx, "read statistics", func(ctx context.Context) error {
		var b pgx.Batch
		each(b.Queue(selectMinutes, f.Window, f.JobID, projects), func(row pgx.Rows) error {
			var (
				ended     [6]int64
				withCrash int64
				durations []byte
			)
			err := row.Scan(&ended[job.BatchCompleted], &ended[job.BatchFailed], &ended[job.BatchCrashed],
				&ended[job.BatchCancelled], &withCrash, &durations)
			if err != nil {
				return err
			}
			h, err := parseDurations(durations)
			stats.Durations.Merge(&h)
			stats.Crashed += withCrash
			for state, n := range ended {
				stats.Ended[state] += n
			}
			return err
		})
		b.Queue(selectSlowestInWindow, f.Window, f.JobID, projects, slowestListed).Query(func(rows pgx.Rows) (err error) {
			stats.Slowest, err = pgx.CollectRows(rows, scanBatch)
			return err
		})
		b.Queue(selectFailures, f.Window, f.JobID, projects, failuresListed).Query(func(rows pgx.Rows) (err error) {
			stats.Failures, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.FailureGroup, error) {
				var g store.FailureGroup
				err := row.Scan(&g.Message, &g.Kind, &g.Count, &g.Example, &g.LastAt)
				return g, err
			})
			return err
		})
		b.Queue(selectCrashes, f.Window, f.JobID, projects, failuresListed).Query(func(rows pgx.Rows) (err error) {
			stats.Crashes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.CrashGroup, error) {
				var g store.CrashGroup
				var stderr string
				err := row.Scan(&g.Fingerprint, &g.Signal, &g.ExitCode, &g.Count, &g.Batches, &g.Example, &g.LastAt, &stderr)
				g.Stderr = store.FirstLine(stderr)
				return g, err
			})
			return err
		})
		return s.pool.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return store.Statistics{}, err
	}
	stats.Crashed = max(stats.Crashed, 0) // what was acquitted may have crashed before the window
	return stats, nil
}
