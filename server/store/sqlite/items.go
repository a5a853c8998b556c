package sqlite

import (
	"context"
	"fmt"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	itemBatches = `SELECT b.id, b.ordinal, b.first_item, b.item_count, b.outcomes
		FROM batch_payloads p CROSS JOIN batches b ON b.id = p.batch_id
		WHERE p.job_id = ? AND p.ordinal >= ? ORDER BY p.ordinal LIMIT ?`
	badItemBatches = `SELECT id, ordinal, first_item, item_count, outcomes FROM batches
		WHERE job_id = ? AND ordinal >= ? AND state > 2 ORDER BY ordinal LIMIT ?`
	rejectedItems = `SELECT first_item, items, frame FROM rejected_items
		WHERE job_id = ?1 AND first_item >= coalesce((
			SELECT max(first_item) FROM rejected_items WHERE job_id = ?1 AND first_item <= ?2), 0)
		ORDER BY first_item LIMIT ?3`
)

// ItemBatches implements store.Listings.
func (s *Store) ItemBatches(ctx context.Context, jobID int64, from int32, bad bool, size int) (list []job.Batch, err error) {
	query := itemBatches
	if bad {
		query = badItemBatches
	}
	err = s.read(ctx, func(q *snapshot) error {
		list, err = collect(q, func(row scanner) (b job.Batch, err error) {
			var outcomes []byte
			if err := row.Scan(&b.ID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &outcomes); err != nil {
				return b, err
			}
			if b.Outcomes, err = job.ParseRuns(outcomes); err != nil {
				return b, fmt.Errorf("read batch %d: %w", b.ID, err)
			}
			return b, nil
		}, query, jobID, from, max(size, 1))
		return err
	})
	return list, wrap("list batches of items", err)
}

// RejectedItems implements store.Listings.
func (s *Store) RejectedItems(ctx context.Context, jobID, item int64, size int) (list []store.RejectedItems, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		list, err = collect(q, func(row scanner) (r store.RejectedItems, err error) {
			err = row.Scan(&r.FirstItem, &r.Items, &r.Frame)
			return r, err
		}, rejectedItems, jobID, item, max(size, 1))
		return err
	})
	return list, wrap("list rejected items", err)
}
