package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	selectWorker = sessionColumns + ` WHERE s.worker_id = $1 ORDER BY s.id DESC LIMIT 1`

	listHeld = `
WITH listed AS (SELECT b.id FROM batches b WHERE b.session_id = $1 ORDER BY b.id LIMIT $2)` + batchRow + ` ORDER BY b.id`

	listAttemptsOfSession = attemptColumns + ` WHERE session_id = $1 ORDER BY ended_at DESC, batch_id DESC LIMIT $2`
)

// GetWorker implements store.Workers.
func (s *Store) GetWorker(ctx context.Context, workerID string, held, attempts int) (store.Worker, error) {
	const what = "read worker"
	var sessions []store.Session
	err := s.call(ctx, what, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, selectWorker, store.CleanText(workerID, store.MaxName))
		if err != nil {
			return err
		}
		sessions, err = pgx.CollectRows(rows, scanSession)
		return err
	})
	if err != nil {
		return store.Worker{}, err
	}
	if len(sessions) == 0 {
		return store.Worker{}, fmt.Errorf("worker %s: %w", workerID, store.ErrNotFound)
	}
	w := store.Worker{Session: sessions[0]}
	if w.Held, err = s.batches(ctx, what, listHeld, w.ID, held); err != nil {
		return store.Worker{}, err
	}
	w.Attempts, err = s.attempts(ctx, what, listAttemptsOfSession, w.ID, attempts)
	return w, err
}
