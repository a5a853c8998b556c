package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	countOpen = `SELECT state, kind, count(*), sum(batches_pending), sum(batches_running) FROM jobs INDEXED BY jobs_open
		WHERE ended_at IS NULL AND deleted_at IS NULL GROUP BY state, kind`
	waitingQuery = "SELECT id, kind FROM jobs INDEXED BY jobs_open WHERE ended_at IS NULL AND state = 'running' AND deleted_at IS NULL AND batches_pending > 0"
	// Fresh batches are in the order in which they were cut.
	freshQuery = `SELECT b.ordinal, (SELECT p.created_at FROM batch_payloads p WHERE p.batch_id = b.id)
		FROM batches b WHERE b.job_id = ? AND b.state = 0 AND b.available_at IS NULL AND b.ordinal >= ?
		ORDER BY b.ordinal LIMIT 1`
	countSessions = `SELECT kinds, beat_at <= ?, drained_at IS NOT NULL, trouble <> '', count(*)
		FROM sessions WHERE ended_at IS NULL GROUP BY 1, 2, 3, 4`
	countEnded = `SELECT coalesce(sum(x.completed), 0), coalesce(sum(x.failed), 0), coalesce(sum(x.crashed), 0),
			coalesce(sum(x.cancelled), 0), coalesce(sum(x.with_crash - x.acquitted), 0)
		FROM job_minutes x
		WHERE x.minute >= ? AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = x.job_id AND j.deleted_at IS NULL)`
)

// returnedQueries ask for what was returned to a job, each by an index of its own.
var returnedQueries = []string{
	`SELECT available_at FROM batches WHERE job_id = ? AND state = 0 AND available_at IS NOT NULL AND solo = 0 AND avoid_until IS NULL
		ORDER BY available_at, id LIMIT 1`,
	`SELECT available_at FROM batches WHERE job_id = ? AND state = 0 AND available_at IS NOT NULL AND (solo <> 0 OR avoid_until IS NOT NULL)
		ORDER BY available_at, id LIMIT 1`,
}

// Figures implements store.Gauges.
func (s *Store) Figures(ctx context.Context, q store.FiguresQuery) (f store.Figures, err error) {
	err = s.read(ctx, func(r *snapshot) error {
		now := time.Now().UTC()
		f = store.Figures{Jobs: map[job.State]int64{}, Kinds: map[string]store.KindFigures{}, Floors: map[int64]int32{}}
		err := each(r, func(row scanner) error {
			var (
				state                  job.State
				kind                   string
				jobs, pending, running int64
			)
			err := row.Scan(&state, &kind, &jobs, &pending, &running)
			f.Open(state, kind, jobs, pending, running)
			return err
		}, countOpen)
		if err != nil {
			return err
		}
		if err := waits(r, &f, q.Floors, now); err != nil {
			return err
		}
		err = each(r, func(row scanner) error {
			var (
				list                      []byte
				kinds                     []string
				silent, draining, lacking bool
				n                         int64
			)
			if err := row.Scan(&list, &silent, &draining, &lacking, &n); err != nil {
				return err
			}
			if err := json.Unmarshal(list, &kinds); err != nil {
				return fmt.Errorf("decode kinds: %w", err)
			}
			f.Serve(kinds, silent, draining, lacking, n)
			return nil
		}, countSessions, micros(now.Add(-q.Silent)))
		if err != nil {
			return err
		}
		return one(r, []any{
			&f.Ended[job.BatchCompleted], &f.Ended[job.BatchFailed], &f.Ended[job.BatchCrashed], &f.Ended[job.BatchCancelled], &f.Crashed,
		}, countEnded, micros(now.Add(-q.Window).Truncate(time.Minute)))
	})
	if err != nil {
		return store.Figures{}, wrap("read figures", err)
	}
	f.Crashed = max(f.Crashed, 0) // what was acquitted may have crashed before the window
	return f, nil
}

// waits looks at the first batch that each running job has pending, of each kind that there is of them.
func waits(r *snapshot, f *store.Figures, floors map[int64]int32, now time.Time) error {
	type waiting struct {
		id   int64
		kind string
	}
	jobs, err := collect(r, func(row scanner) (w waiting, err error) {
		err = row.Scan(&w.id, &w.kind)
		return w, err
	}, waitingQuery)
	if err != nil {
		return err
	}
	for _, w := range jobs {
		since := func(us sql.NullInt64) {
			if us.Valid {
				f.Waits(w.kind, now.Sub(moment(us)))
			}
		}
		if floor, known := floors[w.id]; known {
			f.Floors[w.id] = floor
		}
		err := each(r, func(row scanner) error {
			var ordinal int32
			var created sql.NullInt64
			err := row.Scan(&ordinal, &created)
			f.Floors[w.id] = ordinal
			since(created)
			return err
		}, freshQuery, w.id, floors[w.id])
		if err != nil {
			return err
		}
		for _, query := range returnedQueries {
			err := each(r, func(row scanner) error {
				var available sql.NullInt64
				err := row.Scan(&available)
				since(available)
				return err
			}, query, w.id)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Pool implements store.Gauges: of those that read.
func (s *Store) Pool() store.Pool {
	p := s.readers.Stats()
	return store.Pool{
		Max: int64(p.MaxOpenConnections), InUse: int64(p.InUse), Idle: int64(p.Idle), Waits: p.WaitCount, Waited: p.WaitDuration,
	}
}
