package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const selectWorkerDeaths = `
SELECT s.id, s.worker_id, s.kinds, a.batch_id, coalesce(b.root_id, a.batch_id), a.session_id, a.signal IS NOT NULL, a.ended_at,
       a.completed_before, coalesce(r.state = 2 AND r.ended_as = 'completed' AND e.worker_id <> s.worker_id, false)
FROM attempts a
JOIN sessions s ON s.worker_id = a.worker_id AND s.ended_at IS NULL AND s.drained_at IS NULL
LEFT JOIN batches b ON b.id = a.batch_id
LEFT JOIN batches r ON r.id = coalesce(b.root_id, b.id)
LEFT JOIN sessions e ON e.id = r.ended_session
WHERE a.ended_as = 'died' AND a.ended_at > (SELECT clock_timestamp() - $1::interval)
  AND a.session_id > coalesce((SELECT max(d.id) FROM sessions d WHERE d.worker_id = a.worker_id AND d.drained_at IS NOT NULL), 0)
ORDER BY a.ended_at DESC
LIMIT $2`

const selectCompleted = `SELECT id, worker_id, completed FROM sessions WHERE worker_id = ANY ($1::text[])`

const drainCondemned = `
UPDATE sessions s SET drained_at = clock_timestamp(), drain_reason = w.reason
FROM unnest($1::bigint[], $2::text[]) AS w(id, reason)
WHERE s.id = w.id AND s.ended_at IS NULL AND s.drained_at IS NULL
RETURNING s.id`

// lockAcquitted locks batches, and their parts, that died on workers and on no other ones.
const lockAcquitted = `
WITH RECURSIVE family(id) AS (
    SELECT unnest($1::bigint[])
    UNION
    SELECT p.id FROM family f JOIN batches p ON p.parent_id = f.id
)
SELECT b.id, b.job_id, coalesce(b.root_id, 0), b.state, b.crashes, b.losses, b.died_on
FROM batches b
WHERE b.id = ANY (ARRAY(SELECT id FROM family)) AND b.state <= 3 AND b.died_on = ANY ($2::text[])
ORDER BY b.id
FOR UPDATE`

const acquit = `
UPDATE batches SET crashes = 0, lone_deaths = 0, suspect = 0, died_on = '', avoid_until = NULL WHERE id = ANY ($1::bigint[])`

// selectLate finds batches that died on workers which were condemned meanwhile, as neither transaction could see the other.
const selectLate = `
SELECT b.id, a.worker_id
FROM attempts a
JOIN sessions s ON s.id = a.session_id AND s.drain_reason <> ''
JOIN batches b ON b.id = a.batch_id AND b.died_on = a.worker_id AND b.state <= 3
WHERE a.ended_as = 'died' AND a.ended_at > (SELECT clock_timestamp() - $1::interval)
ORDER BY a.ended_at DESC
LIMIT $2`

// JudgeWorkers implements store.Sessions. It waits for claims of the sessions that it drains.
func (s *Store) JudgeWorkers(ctx context.Context) ([]store.DrainedWorker, error) {
	var drained []store.DrainedWorker
	err := s.write(ctx, "judge workers", func(ctx context.Context, t *tx) error {
		drained = nil
		var (
			batches []int64 // to acquit
			workers []string
		)
		t.queue(`SELECT pg_advisory_xact_lock($1, 0)`, judgeLock)
		each(t.queue(selectLate, store.Judged, store.DeathsJudged), func(row pgx.Rows) error {
			var batch int64
			var worker string
			err := row.Scan(&batch, &worker)
			batches, workers = append(batches, batch), append(workers, worker)
			return err
		})
		guilty, died, err := condemn(ctx, t)
		if err != nil {
			return err
		}
		if len(guilty)+len(batches) == 0 {
			return errNothing
		}
		if err := drain(ctx, t, guilty); err != nil {
			return err
		}
		for _, w := range guilty {
			workers = append(workers, w.Worker)
		}
		jobs, err := acquitBatches(ctx, t, workers, append(batches, died...))
		if err != nil {
			return err
		}
		for i := range guilty {
			guilty[i].Jobs = jobs[guilty[i].Worker]
		}
		drained = guilty
		return nil
	})
	return drained, err
}

// condemn returns the workers that are to be drained, and the batches that died on them.
func condemn(ctx context.Context, t *tx) (guilty []store.DrainedWorker, batches []int64, err error) {
	var (
		deaths     []store.WorkerDeath
		colleagues []store.Colleague
	)
	each(t.queue(selectWorkerDeaths, store.Judged, store.DeathsJudged), func(row pgx.Rows) error {
		var d store.WorkerDeath
		err := row.Scan(&d.Session, &d.Live.ID, &d.Live.Kinds, &d.Batch, &d.Root, &d.DiedIn, &d.Reported, &d.At, &d.Completed, &d.Elsewhere)
		deaths = append(deaths, d)
		return err
	})
	readColleagues(t, &colleagues)
	if err := t.send(ctx); err != nil || len(deaths) == 0 {
		return nil, nil, err
	}
	defendants := store.Defendants(deaths)
	completed, err := readCompleted(ctx, t, defendants)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range defendants {
		reason := d.Judge(completed[d.Live.ID], colleagues)
		if reason == "" {
			continue
		}
		guilty = append(guilty, store.DrainedWorker{Session: d.Session, Worker: d.Live.ID, Reason: reason})
		batches = append(batches, d.Batches()...)
		colleagues = slices.DeleteFunc(colleagues, func(c store.Colleague) bool { return c.ID == d.Live.ID })
	}
	return guilty, batches, nil
}

// readCompleted returns what the sessions of workers have completed, by worker and session, what is not folded included.
func readCompleted(ctx context.Context, t *tx, defendants []store.Defendant) (map[string]map[int64]int64, error) {
	completed := map[string]map[int64]int64{}
	for _, d := range defendants {
		completed[d.Live.ID] = map[int64]int64{}
	}
	names := make([]string, 0, len(completed))
	for name := range completed {
		names = append(names, name)
	}
	// Deltas that are folded between the two statements are counted twice, which only speaks for the workers.
	unfolded := map[int64]sessionCount{}
	each(t.queue(`SELECT sessions FROM job_deltas`), func(row pgx.Rows) error {
		var data []byte
		if err := row.Scan(&data); err != nil {
			return err
		}
		return addSessions(unfolded, data)
	})
	each(t.queue(selectCompleted, names), func(row pgx.Rows) error {
		var (
			id, n  int64
			worker string
		)
		err := row.Scan(&id, &worker, &n)
		completed[worker][id] = n + unfolded[id].completed
		return err
	})
	return completed, t.send(ctx)
}

// drain drains the sessions of guilty workers, of which none has ended meanwhile.
func drain(ctx context.Context, t *tx, guilty []store.DrainedWorker) error {
	if len(guilty) == 0 {
		return nil
	}
	sessions, reasons := make([]int64, len(guilty)), make([]string, len(guilty))
	for i, w := range guilty {
		sessions[i], reasons[i] = w.Session, w.Reason
	}
	var drained []int64
	t.queue(lockSessions, sessionLock, slices.Sorted(slices.Values(sessions)))
	ids(t.queue(drainCondemned, sessions, reasons), &drained)
	if err := t.send(ctx); err != nil {
		return err
	}
	if len(drained) < len(guilty) {
		return errNothing // the next round sees what has changed
	}
	return nil
}

// acquitBatches acquits those batches that died on one of the workers and on no other, and returns their jobs by worker.
func acquitBatches(ctx context.Context, t *tx, workers []string, batches []int64) (map[string][]int64, error) {
	var (
		y    tally
		list []int64
		jobs = map[string][]int64{}
	)
	each(t.queue(lockAcquitted, batches, workers), func(row pgx.Rows) error {
		var b job.Batch
		if err := row.Scan(&b.ID, &b.JobID, &b.RootID, &b.State, &b.Crashes, &b.Losses, &b.DiedOn); err != nil {
			return err
		}
		list = append(list, b.ID)
		y.of(b.JobID).Acquit(&b)
		if !slices.Contains(jobs[b.DiedOn], b.JobID) {
			jobs[b.DiedOn] = append(jobs[b.DiedOn], b.JobID)
		}
		return nil
	})
	if err := t.send(ctx); err != nil {
		return nil, err
	}
	for _, ids := range jobs {
		slices.Sort(ids)
	}
	t.queue(acquit, list)
	y.queue(t)
	return jobs, nil
}
