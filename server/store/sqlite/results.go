package sqlite

import (
	"context"
	"fmt"

	"github.com/tallyman-dev/tallyman/server/store"
)

// keep records the results of a report of a batch that made the outcomes of its items from done to end final.
func (g *group) keep(h *held, done, end int32, r store.Results) error {
	if !r.New(done, end) {
		return nil
	}
	err := g.exec("INSERT INTO item_results (job_id, place, batch_id, from_position, frame) VALUES (?, ?, ?, ?, ?)",
		h.JobID, h.FirstItem+int64(done), h.ID, done, blob(r.Frame))
	if err != nil {
		return fmt.Errorf("record results of batch %d: %w", h.ID, err)
	}
	return nil
}

const (
	resultsPlace = `SELECT o.first_item
		FROM (SELECT batch_id FROM item_results WHERE job_id = ? AND place <= ? ORDER BY place DESC LIMIT 1) nearest
		CROSS JOIN batches b ON b.id = nearest.batch_id
		CROSS JOIN batches o ON o.id = coalesce(b.root_id, b.id)`
	resultFrames = `SELECT r.place, r.batch_id, b.first_item, b.item_count, r.from_position, r.frame
		FROM item_results r CROSS JOIN batches b ON b.id = r.batch_id
		WHERE r.job_id = ? AND r.place >= ? ORDER BY r.place LIMIT ?`
)

// ResultsPlace implements store.Listings.
func (s *Store) ResultsPlace(ctx context.Context, jobID, item int64) (place int64, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		return each(q, func(row scanner) error { return row.Scan(&place) }, resultsPlace, jobID, item)
	})
	return place, wrap("look for results", err)
}

// ResultFrames implements store.Listings.
func (s *Store) ResultFrames(ctx context.Context, jobID, place int64, size int) (list []store.ResultFrame, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		list, err = collect(q, func(row scanner) (r store.ResultFrame, err error) {
			err = row.Scan(&r.Place, &r.BatchID, &r.FirstItem, &r.ItemCount, &r.From, &r.Frame)
			return r, err
		}, resultFrames, jobID, place, max(size, 1))
		return err
	})
	return list, wrap("list results", err)
}
