package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	// One batch more than asked for is looked at, since of the first all parts may come before the item. OFFSET 0 makes it
	// one search of an index per batch, not a join. The order of the page is that of the index, so that of what follows it
	// only the parts of its last batch are read.
	itemBatches = `
SELECT b.id, b.ordinal, b.first_item, b.item_count, b.outcomes
FROM (SELECT p.batch_id, p.ordinal FROM batch_payloads p WHERE p.job_id = $1 AND p.ordinal >= $2 ORDER BY p.ordinal LIMIT $4 + 1) p
CROSS JOIN LATERAL (
    SELECT w.id, w.ordinal, w.first_item, w.item_count, w.outcomes FROM batches w WHERE w.id = p.batch_id AND w.state <> 6
    UNION ALL
    SELECT w.id, w.ordinal, w.first_item, w.item_count, w.outcomes FROM batches w
    WHERE w.job_id = $1 AND w.ordinal = p.ordinal AND w.root_id IS NOT NULL AND w.state <> 6
    OFFSET 0
) b
WHERE b.first_item >= $3
ORDER BY p.ordinal, b.first_item
LIMIT $4`

	// What is sorted is a page with all parts of its last batch, however many batches follow.
	badItemBatches = `
SELECT b.id, b.ordinal, b.first_item, b.item_count, b.outcomes
FROM (
    SELECT w.id, w.ordinal, w.first_item, w.item_count, w.outcomes
    FROM batches w
    WHERE w.job_id = $1 AND w.ordinal >= $2 AND w.first_item >= $3 AND w.state IN (3, 4, 5)
    ORDER BY w.ordinal
    FETCH FIRST $4 ROWS WITH TIES
) b
ORDER BY b.ordinal, b.first_item
LIMIT $4`

	rejectedItems = `
SELECT r.first_item, r.items, r.frame
FROM rejected_items r
WHERE r.job_id = $1 AND r.first_item >= coalesce((
    SELECT max(w.first_item) FROM rejected_items w WHERE w.job_id = $1 AND w.first_item <= $2), 0)
ORDER BY r.first_item
LIMIT $3`
)

// ItemBatches implements store.Listings.
func (s *Store) ItemBatches(ctx context.Context, jobID int64, ordinal int32, item int64, bad bool, size int) ([]job.Batch, error) {
	sql := itemBatches
	if bad {
		sql = badItemBatches
	}
	var list []job.Batch
	err := s.call(ctx, "list batches of items", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, jobID, ordinal, item, max(size, 1))
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
