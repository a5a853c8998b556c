package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// lockExpired locks those of the given batches whose leases have expired.
const lockExpired = `
SELECT ` + heldColumns + `
FROM batches b
WHERE b.id = ANY ($1::bigint[]) AND b.session_id IS NOT NULL AND b.lease_expires_at <= (SELECT clock_timestamp())
ORDER BY b.id
LIMIT $2
FOR UPDATE SKIP LOCKED`

// lockAllExpired does the same among all running batches, which are found by the small index of these. The condition is
// repeated where the rows are locked.
const lockAllExpired = `
WITH expired AS MATERIALIZED (
    SELECT r.id FROM batches r WHERE r.session_id IS NOT NULL AND r.lease_expires_at <= (SELECT clock_timestamp())
)
SELECT ` + heldColumns + `
FROM batches b
WHERE b.id = ANY (ARRAY(SELECT id FROM expired ORDER BY id LIMIT $1))
  AND b.session_id IS NOT NULL AND b.lease_expires_at <= (SELECT clock_timestamp())
ORDER BY b.id
FOR UPDATE SKIP LOCKED`

// Reap implements store.Leases.
func (s *Store) Reap(ctx context.Context, batches []int64, limit int) (store.Reaped, error) {
	var (
		now   time.Time
		ended []store.Ended
	)
	err := s.write(ctx, "end expired leases", func(ctx context.Context, t *tx) error {
		e := ending{tally: new(tally)}
		ended = nil
		t.queue(selectNow).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
		switch {
		case batches == nil:
			e.lock(t, lockAllExpired, limit)
		case len(batches) > 0:
			e.lock(t, lockExpired, batches, limit)
		}
		if err := e.prepare(ctx, t); err != nil {
			return err
		}
		if len(e.order) == 0 {
			return errNothing
		}
		e.endAll(func(h holder) (job.EndKind, string) {
			if h.broken {
				return job.EndDied, store.BrokenMessage
			}
			return job.EndLost, store.LostMessage
		})
		ended = e.ended
		e.queue(t)
		return nil
	})
	if err != nil {
		return store.Reaped{}, err
	}
	return store.Reaped{Ended: ended, Now: now}, nil
}
