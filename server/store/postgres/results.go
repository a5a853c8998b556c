package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/store"
)

// recordResults records the results of a report of a batch that made the outcomes of its items from done to end final.
func recordResults(y *tally, r store.Results, batchID, jobID, firstItem int64, done, end int32) {
	if r.New(done, end) {
		y.results = append(y.results, recorded{jobID, firstItem + int64(done), batchID, done, r.Frame})
	}
}

// recorded is a row of item_results.
type recorded struct {
	job, place, batch int64
	from              int32
	frame             []byte
}

const insertResults = `
INSERT INTO item_results (job_id, place, batch_id, from_position, frame)
SELECT w.job_id, w.place, w.batch_id, w.from_position, w.frame
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::bytea[]) AS w(job_id, place, batch_id, from_position, frame)`

// queueResults queues what was recorded.
func (y *tally) queueResults(t *tx) {
	n := len(y.results)
	if n == 0 {
		return
	}
	var (
		jobs, places, batches = make([]int64, n), make([]int64, n), make([]int64, n)
		from                  = make([]int32, n)
		frames                = make([][]byte, n)
	)
	for i, r := range y.results {
		jobs[i], places[i], batches[i], from[i], frames[i] = r.job, r.place, r.batch, r.from, r.frame
	}
	t.queue(insertResults, jobs, places, batches, from, frames)
}

const (
	resultsPlace = `
SELECT coalesce((
    SELECT o.first_item
    FROM (SELECT r.batch_id FROM item_results r WHERE r.job_id = $1 AND r.place <= $2 ORDER BY r.place DESC LIMIT 1) f
    CROSS JOIN LATERAL (SELECT coalesce(b.root_id, b.id) AS id FROM batches b WHERE b.id = f.batch_id OFFSET 0) w
    CROSS JOIN LATERAL (SELECT b.first_item FROM batches b WHERE b.id = w.id OFFSET 0) o), 0)`

	// OFFSET 0 makes it one search of the index per frame, not a join.
	resultFrames = `
SELECT r.place, r.batch_id, b.first_item, b.item_count, r.from_position, r.frame
FROM (SELECT place, batch_id, from_position, frame FROM item_results WHERE job_id = $1 AND place >= $2 ORDER BY place LIMIT $3) r
CROSS JOIN LATERAL (SELECT w.first_item, w.item_count FROM batches w WHERE w.id = r.batch_id OFFSET 0) b
ORDER BY r.place`
)

// ResultsPlace implements store.Listings.
func (s *Store) ResultsPlace(ctx context.Context, jobID, item int64) (place int64, err error) {
	err = s.call(ctx, "look for results", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, resultsPlace, jobID, item).Scan(&place)
	})
	return place, err
}

// ResultFrames implements store.Listings.
func (s *Store) ResultFrames(ctx context.Context, jobID, place int64, size int) ([]store.ResultFrame, error) {
	var list []store.ResultFrame
	err := s.call(ctx, "list results", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, resultFrames, jobID, place, max(size, 1))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r store.ResultFrame, err error) {
			err = row.Scan(&r.Place, &r.BatchID, &r.FirstItem, &r.ItemCount, &r.From, &r.Frame)
			return r, err
		})
		return err
	})
	return list, err
}
