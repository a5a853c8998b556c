package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// batchMarks finds what has not completed by the partial indexes that lead to it, of fresh batches, which may be many, from
// the index alone; the first row is the number of batches that were cut.
const batchMarks = `
SELECT coalesce((SELECT p.ordinal + 1 FROM batch_payloads p WHERE p.job_id = $1 ORDER BY p.ordinal DESC LIMIT 1), 0), -1
UNION ALL SELECT b.ordinal, 0 FROM batches b WHERE b.job_id = $1 AND b.state = 0 AND b.available_at IS NULL
UNION ALL SELECT b.ordinal, 0 FROM batches b WHERE b.job_id = $1 AND ` + returnedBatches + `
UNION ALL SELECT b.ordinal, 0 FROM batches b WHERE b.job_id = $1 AND ` + choosyBatches + `
UNION ALL SELECT b.ordinal, 1 FROM batches b WHERE b.job_id = $1 AND b.session_id IS NOT NULL
UNION ALL SELECT b.ordinal, b.state::integer FROM batches b WHERE b.job_id = $1 AND b.state IN (3, 4, 5, 6)`

// BatchStates implements store.Listings.
func (s *Store) BatchStates(ctx context.Context, jobID int64) (states []job.BatchState, err error) {
	err = s.call(ctx, "read the states of batches", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, batchMarks, jobID)
		if err != nil {
			return err
		}
		var cut, ordinal, state int32
		var marks []store.Mark
		_, err = pgx.ForEachRow(rows, []any{&ordinal, &state}, func() error {
			if state < 0 {
				cut = ordinal
			} else {
				marks = append(marks, store.Mark{Ordinal: ordinal, State: job.BatchState(state)})
			}
			return nil
		})
		states = store.Marked(cut, marks)
		return err
	})
	return states, err
}
