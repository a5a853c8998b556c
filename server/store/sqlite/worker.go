package sqlite

import (
	"context"

	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	workerQuery   = "SELECT " + sessionColumns + " FROM sessions s WHERE s.worker_id = ? ORDER BY s.id DESC LIMIT 1"
	heldQuery     = "SELECT id FROM batches WHERE session_id = ? ORDER BY id LIMIT ?"
	attemptsQuery = "SELECT " + attemptColumns + ` FROM attempts WHERE session_id = ?
		ORDER BY ended_at DESC, batch_id DESC LIMIT ?`
)

// GetWorker implements store.Workers.
func (s *Store) GetWorker(ctx context.Context, workerID string, held, attempts int) (w store.Worker, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		w = store.Worker{}
		sessions, err := collect(q, scanSession, workerQuery, workerID)
		if err != nil {
			return err
		}
		if len(sessions) == 0 {
			return store.ErrNotFound
		}
		w.Session = sessions[0]
		ids, err := collect(q, number, heldQuery, w.ID, held)
		if err != nil {
			return err
		}
		for _, id := range ids {
			rows, err := collect(q, scanBatch, batchQuery, id)
			if err != nil {
				return err
			}
			w.Held = append(w.Held, rows...)
		}
		w.Attempts, err = collect(q, scanAttempt, attemptsQuery, w.ID, attempts)
		return err
	})
	return w, wrap("read worker", err)
}
