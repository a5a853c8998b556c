package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const selectOpen = `
SELECT j.state, j.kind, count(*), sum(j.batches_pending)::bigint, sum(j.batches_running)::bigint
FROM jobs j
WHERE j.state IN ('running', 'paused', 'cancelling') AND j.deleted_at IS NULL
GROUP BY j.state, j.kind`

// selectOldest looks at the first batch of each of the three indexes of what a job has pending. Fresh batches are in the order in
// which they were cut. $1 and $2 are the jobs and their floors.
const selectOldest = `
SELECT j.id, j.kind, fresh.ordinal,
       coalesce(clock_timestamp() - least((SELECT p.created_at FROM batch_payloads p WHERE p.batch_id = fresh.id),
                                          returned.available_at, choosy.available_at), interval '0')
FROM jobs j
LEFT JOIN unnest($1::bigint[], $2::integer[]) AS w(job_id, floor) ON w.job_id = j.id
LEFT JOIN LATERAL (
    SELECT b.id, b.ordinal FROM batches b
    WHERE b.job_id = j.id AND b.state = 0 AND b.available_at IS NULL AND b.ordinal >= coalesce(w.floor, 0)
    ORDER BY b.ordinal LIMIT 1) fresh ON true
LEFT JOIN LATERAL (
    SELECT b.available_at FROM batches b
    WHERE b.job_id = j.id AND b.state = 0 AND b.available_at IS NOT NULL AND NOT b.solo AND b.avoid_until IS NULL
    ORDER BY b.available_at, b.id LIMIT 1) returned ON true
LEFT JOIN LATERAL (
    SELECT b.available_at FROM batches b
    WHERE b.job_id = j.id AND b.state = 0 AND b.available_at IS NOT NULL AND (b.solo OR b.avoid_until IS NOT NULL)
    ORDER BY b.available_at, b.id LIMIT 1) choosy ON true
WHERE j.state = 'running' AND j.deleted_at IS NULL AND j.batches_pending > 0`

// countSessions groups those that have not ended. $1 is the silence after which one counts as silent.
const countSessions = `
SELECT s.kinds, s.beat_at <= clock_timestamp() - $1::interval, s.drained_at IS NOT NULL, s.trouble <> '', count(*)
FROM sessions s WHERE s.ended_at IS NULL
GROUP BY 1, 2, 3, 4`

// selectDead is asked of the tables whose rows change.
const selectDead = `
SELECT t.relname::text, t.n_dead_tup FROM pg_stat_user_tables t
WHERE t.schemaname = current_schema() AND t.relname IN ('batches', 'jobs', 'job_deltas', 'uploads', 'sessions', 'attempts')`

// selectSnapshot is about what keeps dead rows of this database from being removed. Of vacuums themselves that is not said.
const selectSnapshot = `
SELECT coalesce(clock_timestamp() - min(t.at), interval '0')
FROM (
    SELECT a.xact_start AS at FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
      AND a.backend_type <> 'autovacuum worker'
    UNION ALL
    SELECT p.prepared FROM pg_prepared_xacts p WHERE p.database = current_database()
) t`

// Figures implements store.Gauges.
func (s *Store) Figures(ctx context.Context, q store.FiguresQuery) (store.Figures, error) {
	var f store.Figures
	err := s.call(ctx, "read figures", func(ctx context.Context) error {
		f = store.Figures{
			Jobs: map[job.State]int64{}, Kinds: map[string]store.KindFigures{}, Floors: map[int64]int32{},
			Database: store.DatabaseFigures{DeadTuples: map[string]int64{}},
		}
		var b pgx.Batch
		each(b.Queue(selectOpen), func(row pgx.Rows) error {
			var (
				state                  job.State
				kind                   string
				jobs, pending, running int64
			)
			err := row.Scan(&state, &kind, &jobs, &pending, &running)
			f.Open(state, kind, jobs, pending, running)
			return err
		})
		jobs := slices.Sorted(maps.Keys(q.Floors))
		floors := make([]int32, len(jobs))
		for i, id := range jobs {
			floors[i] = q.Floors[id]
		}
		each(b.Queue(selectOldest, jobs, floors), func(row pgx.Rows) error {
			var (
				id    int64
				kind  string
				fresh *int32
				age   time.Duration
			)
			err := row.Scan(&id, &kind, &fresh, &age)
			f.Waits(kind, age)
			switch floor, known := q.Floors[id]; {
			case fresh != nil:
				f.Floors[id] = *fresh
			case known:
				f.Floors[id] = floor
			}
			return err
		})
		each(b.Queue(countSessions, q.Silent), func(row pgx.Rows) error {
			var (
				kinds                     []string
				silent, draining, lacking bool
				n                         int64
			)
			err := row.Scan(&kinds, &silent, &draining, &lacking, &n)
			f.Serve(kinds, silent, draining, lacking, n)
			return err
		})
		b.Queue(selectEnded, q.Window).QueryRow(func(row pgx.Row) error {
			return row.Scan(&f.Ended[job.BatchCompleted], &f.Ended[job.BatchFailed], &f.Ended[job.BatchCrashed],
				&f.Ended[job.BatchCancelled], &f.Crashed)
		})
		each(b.Queue(selectDead), func(row pgx.Rows) error {
			var table string
			var dead int64
			err := row.Scan(&table, &dead)
			f.Database.DeadTuples[table] = dead
			return err
		})
		b.Queue(selectSnapshot).QueryRow(func(row pgx.Row) error { return row.Scan(&f.Database.OldestSnapshot) })
		return s.pool.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return store.Figures{}, err
	}
	f.Crashed = max(f.Crashed, 0) // what was acquitted may have crashed before the window
	return f, nil
}

// Pool implements store.Gauges.
func (s *Store) Pool() store.Pool {
	p := s.pool.Stat()
	return store.Pool{
		Max: int64(p.MaxConns()), InUse: int64(p.AcquiredConns()), Idle: int64(p.IdleConns()),
		Waits: p.EmptyAcquireCount(), Waited: p.EmptyAcquireWaitTime(),
	}
}
