package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	// OFFSET 0 makes it one search of the index per batch, not a join.
	itemBatches = `
SELECT b.id, b.ordinal, b.first_item, b.item_count, b.outcomes
FROM (SELECT p.batch_id FROM batch_payloads p WHERE p.job_id = $1 AND p.ordinal >= $2 ORDER BY p.ordinal LIMIT $3) p
CROSS JOIN LATERAL (SELECT w.id, w.ordinal, w.first_item, w.item_count, w.outcomes FROM batches w WHERE w.id = p.batch_id OFFSET 0) b
ORDER BY b.ordinal`

	badItemBatches = `
SELECT b.id, b.ordinal, b.first_item, b.item_count, b.outcomes
FROM batches b
WHERE b.job_id = $1 AND b.ordinal >= $2 AND b.state IN (3, 4, 5)
ORDER BY b.ordinal
LIMIT $3`

	rejectedItems = `
SELECT r.first_item, r.items, r.frame
FROM rejected_items r
WHERE r.job_id = $1 AND r.first_item >= coalesce((
    SELECT max(w.first_item) FROM rejected_items w WHERE w.job_id = $1 AND w.first_item <= $2), 0)
ORDER BY r.first_item
LIMIT $3`
)

// ItemBatches implements store.Listings.
func (s *Store) ItemBatches(ctx context.Context, jobID int64, from int32, bad bool, size int) ([]job.Batch, error) {
	sql := itemBatches
	if bad {
		sql = badItemBatches
	}
	var list []job.Batch
	err := s.call(ctx, "list batches of items", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, jobID, from, max(size, 1))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b job.Batch, err error) {
			var outcomes []byte
			if err := row.Scan(&b.ID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &outcomes); err != nil {
				return b, err
			}
			b.Outcomes, err = job.ParseRuns(outcomes)
			return b, err
		})
		return err
	})
	return list, err
}

// RejectedItems implements store.Listings.
func (s *Store) RejectedItems(ctx context.Context, jobID, item int64, size int) ([]store.RejectedItems, error) {
	var list []store.RejectedItems
	err := s.call(ctx, "list rejected items", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, rejectedItems, jobID, item, max(size, 1))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r store.RejectedItems, err error) {
			err = row.Scan(&r.FirstItem, &r.Items, &r.Frame)
			return r, err
		})
		return err
	})
	return list, err
}
