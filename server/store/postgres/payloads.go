package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// selectPayloads adds up lengths, which are known without reading the frames, before it reads those that fit. OFFSET 0
// makes each a search of the index per batch, not a join.
const selectPayloads = `
SELECT f.id, p.frame
FROM (
    SELECT w.id, r.root, sum(l.length) OVER (ORDER BY w.n) AS total
    FROM unnest($1::bigint[]) WITH ORDINALITY AS w(id, n)
    CROSS JOIN LATERAL (SELECT coalesce(b.root_id, b.id) AS root FROM batches b WHERE b.id = w.id OFFSET 0) r
    CROSS JOIN LATERAL (SELECT octet_length(frame) AS length FROM batch_payloads WHERE batch_id = r.root OFFSET 0) l
) f
CROSS JOIN LATERAL (SELECT frame FROM batch_payloads WHERE batch_id = f.root OFFSET 0) p
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
FROM batches b JOIN batch_payloads p ON p.batch_id = coalesce(b.root_id, b.id)
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
