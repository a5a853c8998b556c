package sqlite

import (
	"context"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// failureGroups bounds the groups of failures in statistics.
const failureGroups = 20

// ofJobs narrows rows with a job_id to a job (?2, 0 for all) and projects (?3, a JSON array, empty for all), and hides those of deleted
// jobs.
const ofJobs = ` AND (?2 = 0 OR x.job_id = ?2)
	AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = x.job_id AND j.deleted_at IS NULL AND (?3 = '[]' OR j.project IN (SELECT value FROM json_each(?3))))`

// GetStatistics implements store.Listings. Batches that ended are counted by whole minutes.
func (s *Store) GetStatistics(ctx context.Context, f store.StatisticsFilter) (store.Statistics, error) {
	var st store.Statistics
	projects := texts(f.Of())
	since := micros(time.Now().UTC().Add(-f.Window).Truncate(time.Minute))
	err := s.read(ctx, func(q *snapshot) error {
		st = store.Statistics{}
		err := each(q, func(row scanner) error {
			var ended [4]int64
			var crashed int64
			var data []byte
			if err := row.Scan(&ended[0], &ended[1], &ended[2], &ended[3], &crashed, &data); err != nil {
				return err
			}
			d, err := job.ParseDelta(data)
			if err != nil {
				return err
			}
			for i, n := range ended {
				st.Ended[int(job.BatchCompleted)+i] += n
			}
			st.Crashed += crashed
			st.Durations.Merge(&d.Durations)
			return nil
		}, `SELECT x.completed, x.failed, x.crashed, x.cancelled, x.with_crash - x.acquitted, x.durations
			FROM job_minutes x WHERE x.minute >= ?1`+ofJobs, since, f.JobID, projects)
		if err != nil {
			return err
		}
		st.Crashed = max(st.Crashed, 0) // what was acquitted may have crashed before the window
		slowest, err := collect(q, number, `SELECT x.batch_id FROM slowest_batches x
			WHERE x.ended_at >= ?1`+ofJobs+` ORDER BY x.duration_us DESC, x.batch_id LIMIT ?4`,
			since, f.JobID, projects, slowestShown)
		if err != nil {
			return err
		}
		for _, id := range slowest {
			rows, err := collect(q, scanBatch, batchQuery, id)
			if err != nil {
				return err
			}
			st.Slowest = append(st.Slowest, rows...)
		}
		st.Failures, err = collect(q, scanFailures, `SELECT x.message, x.ended_as, count(*) AS n, max(x.batch_id), max(x.ended_at)
			FROM attempts x WHERE x.ended_at >= ?1 AND x.ended_as IN ('failed', 'died', 'lost')`+ofJobs+`
			GROUP BY x.message, x.ended_as ORDER BY n DESC, max(x.ended_at) DESC, x.message LIMIT ?4`,
			since, f.JobID, projects, failureGroups)
		if err != nil {
			return err
		}
		st.Crashes, err = collect(q, scanCrashes, crashGroups, since, f.JobID, projects, failureGroups)
		return err
	})
	if err != nil {
		return store.Statistics{}, wrap("add up statistics", err)
	}
	return st, nil
}

// crashGroups reads of each group what its last attempt has: SQLite takes single columns from the row of the maximum.
const crashGroups = `SELECT x.fingerprint, x.signal, x.exit_code, count(*) AS n, count(DISTINCT x.batch_id), x.batch_id, max(x.ended_at), x.stderr
	FROM attempts x INDEXED BY attempts_died WHERE x.ended_as = 'died' AND x.ended_at >= ?1 AND x.fingerprint <> ''` + ofJobs + `
	GROUP BY x.fingerprint ORDER BY n DESC, max(x.ended_at) DESC, x.fingerprint LIMIT ?4`

func scanCrashes(row scanner) (g store.CrashGroup, err error) {
	var last int64
	var stderr string
	err = row.Scan(&g.Fingerprint, &g.Signal, &g.ExitCode, &g.Count, &g.Batches, &g.Example, &last, &stderr)
	g.LastAt, g.Stderr = time.UnixMicro(last).UTC(), store.FirstLine(stderr)
	return g, err
}

func scanFailures(row scanner) (g store.FailureGroup, err error) {
	var last int64
	err = row.Scan(&g.Message, &g.Kind, &g.Count, &g.Example, &last)
	g.LastAt = time.UnixMicro(last).UTC()
	return g, err
}
