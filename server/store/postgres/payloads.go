package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// selectPayloads adds up lengths, which are known without reading the frames, before it reads those that fit.
const selectPayloads = `
SELECT p.batch_id, p.frame
FROM (
    SELECT l.batch_id, sum(octet_length(l.frame)) OVER (ORDER BY w.n) AS total
    FROM unnest($1::bigint[]) WITH ORDINALITY AS w(id, n) JOIN batch_payloads l ON l.batch_id = w.id
) f
JOIN batch_payloads p ON p.batch_id = f.batch_id
WHERE f.total <= $2`

// Payloads implements store.Leases.
func (s *Store) Payloads(ctx context.Context, batches []int64, maxBytes int64) (map[int64][]byte, error) {
	frames := make(map[int64][]byte, len(batches))
	err := s.call(ctx, "read payloads", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, selectPayloads, batches, maxBytes)
		if err != nil {
			return err
		}
		var (
			id    int64
			frame []byte
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &frame}, func() error {
			frames[id] = frame
			frame = nil // the next scan must not write into what is kept
			return nil
		})
		return err
	})
	return frames, err
}

const selectFrame = `
SELECT p.frame
FROM batches b JOIN batch_payloads p ON p.batch_id = b.id
WHERE b.id = $1 AND b.attempt = $2 AND b.session_id IS NOT DISTINCT FROM $3::bigint`

// Frame implements store.Leases.
func (s *Store) Frame(ctx context.Context, lease job.Lease) ([]byte, error) {
	var frame []byte
	err := s.call(ctx, "read payload", func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, selectFrame, lease.BatchID, lease.Attempt, lease.SessionID).Scan(&frame)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("lease of batch %d: %w", lease.BatchID, store.ErrNotFound)
		}
		return err
	})
	return frame, err
}
