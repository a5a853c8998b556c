package sqlite

import (
	"context"
	"fmt"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	itemColumns = "b.id, b.ordinal, b.first_item, b.item_count, b.outcomes"
	// itemBatches finds the batches that ingest cut, split ones too.
	itemBatches = `SELECT b.state, ` + itemColumns + `
		FROM batch_payloads p CROSS JOIN batches b ON b.id = p.batch_id
		WHERE p.job_id = ? AND p.ordinal >= ? ORDER BY p.ordinal LIMIT ?`
	itemParts = `SELECT b.state, ` + itemColumns + ` FROM batches b
		WHERE b.job_id = ? AND b.ordinal = ? AND b.root_id IS NOT NULL AND b.state <> 6 AND b.first_item >= ? ORDER BY b.first_item LIMIT ?`
	badItemBatches = `SELECT b.state, ` + itemColumns + ` FROM batches b
		WHERE b.job_id = ? AND b.ordinal >= ? AND b.first_item >= ? AND b.state > 2 AND b.state < 6
		ORDER BY b.ordinal, b.first_item LIMIT ?`
	rejectedItems = `SELECT first_item, items, frame FROM rejected_items
		WHERE job_id = ?1 AND first_item >= coalesce((
			SELECT max(first_item) FROM rejected_items WHERE job_id = ?1 AND first_item <= ?2), 0)
		ORDER BY first_item LIMIT ?3`
)

// split is the state of a batch whose items are in its parts.
const split job.BatchState = 6

// ItemBatches implements store.Listings.
func (s *Store) ItemBatches(ctx context.Context, jobID int64, ordinal int32, item int64, bad bool, size int) (list []job.Batch, err error) {
	size = max(size, 1)
	err = s.read(ctx, func(q *snapshot) error {
		if bad {
			list, err = collect(q, scanItemBatch, badItemBatches, jobID, ordinal, item, size)
			return err
		}
		list = []job.Batch{}
		// One more, since of the first all parts may come before the item.
		cut, err := collect(q, scanItemBatch, itemBatches, jobID, ordinal, size+1)
		if err != nil {
			return err
		}
		for i := 0; i < len(cut) && len(list) < size; i++ {
			switch b := cut[i]; {
			case b.State == split:
				parts, err := collect(q, scanItemBatch, itemParts, jobID, b.Ordinal, item, size-len(list))
				if err != nil {
					return err
				}
				list = append(list, parts...)
			case b.FirstItem >= item:
				list = append(list, b)
			}
		}
		return nil
	})
	for i := range list {
		list[i].State = 0 // it was asked for by nobody
	}
	return list, wrap("list batches of items", err)
}

func scanItemBatch(row scanner) (b job.Batch, err error) {
	var outcomes []byte
	if err := row.Scan(&b.State, &b.ID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &outcomes); err != nil {
		return b, err
	}
	if b.Outcomes, err = job.ParseRuns(outcomes); err != nil {
		return b, fmt.Errorf("read batch %d: %w", b.ID, err)
	}
	return b, nil
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
