package sqlite

import (
	"context"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// What has not completed, by the partial indexes that lead to it; of fresh batches, which may be many, from the index alone.
var batchMarks = []string{
	"SELECT ordinal, 0 FROM batches WHERE job_id = ?1 AND state = 0 AND available_at IS NULL",
	"SELECT ordinal, 0 FROM batches WHERE job_id = ?1 AND " + returnedBatches,
	"SELECT ordinal, 0 FROM batches WHERE job_id = ?1 AND " + choosyBatches,
	"SELECT ordinal, 1 FROM batches WHERE job_id = ?1 AND session_id IS NOT NULL",
	"SELECT ordinal, state FROM batches WHERE job_id = ?1 AND state > 2",
}

// batchesCut is how many batches ingest has cut.
const batchesCut = "SELECT coalesce(max(ordinal) + 1, 0) FROM batch_payloads WHERE job_id = ?1"

func scanMark(row scanner) (m store.Mark, err error) {
	err = row.Scan(&m.Ordinal, &m.State)
	return m, err
}

// BatchStates implements store.Listings.
func (s *Store) BatchStates(ctx context.Context, jobID int64) (states []job.BatchState, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		cut, err := collect(q, number, batchesCut, jobID)
		if err != nil {
			return err
		}
		var marks []store.Mark
		for _, query := range batchMarks {
			found, err := collect(q, scanMark, query, jobID)
			if err != nil {
				return err
			}
			marks = append(marks, found...)
		}
		states = store.Marked(int32(cut[0]), marks)
		return nil
	})
	return states, wrap("read the states of batches", err)
}
