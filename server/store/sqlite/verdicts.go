package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const workerDeaths = `SELECT s.id, s.worker_id, s.kinds, a.batch_id, coalesce(b.root_id, a.batch_id), a.session_id, a.signal IS NOT NULL,
		a.ended_at, a.completed_before, coalesce(r.state = 2 AND r.ended_as = 'completed' AND e.worker_id <> s.worker_id, 0)
	FROM attempts a INDEXED BY attempts_died
	JOIN sessions s ON s.worker_id = a.worker_id AND s.ended_at IS NULL AND s.drained_at IS NULL
	LEFT JOIN batches b ON b.id = a.batch_id
	LEFT JOIN batches r ON r.id = coalesce(b.root_id, b.id)
	LEFT JOIN sessions e ON e.id = r.ended_session
	WHERE a.ended_as = 'died' AND a.ended_at > ? AND a.session_id > coalesce((
		SELECT max(d.id) FROM sessions d WHERE d.worker_id = a.worker_id AND d.drained_at IS NOT NULL), 0)
	ORDER BY a.ended_at DESC LIMIT ?`

// diedOnlyOn finds batches, and their parts, that died on a worker and on no other one.
const diedOnlyOn = `WITH RECURSIVE kin(id) AS (
		SELECT value FROM json_each(?1) UNION SELECT p.id FROM kin k JOIN batches p ON p.parent_id = k.id)
	SELECT ` + heldColumns + ` FROM batches WHERE id IN (SELECT id FROM kin) AND state <= 3 AND died_on = ?2 ORDER BY id`

// JudgeWorkers implements store.Sessions.
func (s *Store) JudgeWorkers(ctx context.Context) ([]store.DrainedWorker, error) {
	var drained []store.DrainedWorker
	err := s.write(ctx, settling, func(t *tx) error {
		drained = nil
		deaths, err := collect(t, func(row scanner) (d store.WorkerDeath, err error) {
			var kinds []byte
			var at int64
			err = row.Scan(&d.Session, &d.Live.ID, &kinds, &d.Batch, &d.Root, &d.DiedIn, &d.Reported, &at, &d.Completed, &d.Elsewhere)
			if err != nil {
				return d, err
			}
			d.At = time.UnixMicro(at)
			return d, json.Unmarshal(kinds, &d.Live.Kinds)
		}, workerDeaths, micros(t.now.Add(-store.Judged)), store.DeathsJudged)
		if err != nil {
			return fmt.Errorf("read deaths: %w", err)
		}
		g := newGroup(t)
		for _, d := range store.Defendants(deaths) {
			w, err := g.judge(&d)
			if err != nil {
				return err
			}
			if w.Session != 0 {
				drained = append(drained, w)
			}
		}
		return g.flush()
	})
	if err != nil {
		return nil, wrap("judge workers", err)
	}
	return drained, nil
}

// judge drains a worker if it is guilty, and returns the zero value if it is not.
func (g *group) judge(d *store.Defendant) (store.DrainedWorker, error) {
	completed := map[int64]int64{}
	err := each(g, func(row scanner) error {
		var id, n int64
		err := row.Scan(&id, &n)
		completed[id] = n
		return err
	}, "SELECT id, completed FROM sessions WHERE worker_id = ?", d.Live.ID)
	if err != nil {
		return store.DrainedWorker{}, fmt.Errorf("read sessions of worker: %w", err)
	}
	workers, err := g.colleagues()
	if err != nil {
		return store.DrainedWorker{}, err
	}
	w := store.DrainedWorker{Session: d.Session, Worker: d.Live.ID, Reason: d.Judge(completed, workers)}
	if w.Reason == "" {
		return store.DrainedWorker{}, nil
	}
	err = g.only("UPDATE sessions SET drained_at = ?, drain_reason = ? WHERE id = ? AND ended_at IS NULL AND drained_at IS NULL",
		micros(g.now), w.Reason, d.Session)
	if err != nil {
		return w, fmt.Errorf("drain session %d: %w", d.Session, err)
	}
	list, err := collect(g, scanHeld, diedOnlyOn, array(d.Batches()), w.Worker)
	if err != nil {
		return w, fmt.Errorf("look for batches to acquit: %w", err)
	}
	for i := range list {
		if err := g.acquit(&list[i].Batch); err != nil {
			return w, err
		}
		w.Jobs = append(w.Jobs, list[i].JobID)
	}
	slices.Sort(w.Jobs)
	w.Jobs = slices.Compact(w.Jobs)
	return w, nil
}

func (g *group) acquit(b *job.Batch) error {
	g.delta(b.JobID).Acquit(b)
	err := g.only(`UPDATE batches SET crashes = 0, lone_deaths = 0, suspect = 0, died_on = '', avoid_until = NULL WHERE id = ?`, b.ID)
	if err != nil {
		return fmt.Errorf("acquit batch %d: %w", b.ID, err)
	}
	return nil
}
