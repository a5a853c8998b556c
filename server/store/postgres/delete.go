package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockDeleted picks the oldest deleted job that nobody else is removing.
const lockDeleted = `
SELECT id FROM jobs WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`

// Frames are kept in pieces of about 2,000 bytes, each a row of its own, which a step counts too.

// deleteBatches removes the first batches of job $1 with what belongs to them: as many as have at most $2 rows
// together, but one at least. Attempts are few; what exceeds a step through them is bounded by the policy. Document keys
// are never updated, so that the places found stay theirs.
const deleteBatches = `
WITH candidates AS MATERIALIZED (
    SELECT p.batch_id, p.ordinal, p.documents, cardinality(p.documents) + 2 + octet_length(p.frame) / 2000 AS rows
    FROM batch_payloads p WHERE p.job_id = $1 ORDER BY p.ordinal LIMIT $2
), doomed AS MATERIALIZED (
    SELECT f.batch_id, f.documents
    FROM (SELECT s.batch_id, s.documents, sum(s.rows) OVER (ORDER BY s.ordinal) AS rows,
                 row_number() OVER (ORDER BY s.ordinal) AS n
          FROM candidates s) f
    WHERE f.rows <= $2 OR f.n = 1
), documents AS (
    DELETE FROM batch_documents
    WHERE ctid = ANY (ARRAY(
        SELECT f.place
        FROM doomed CROSS JOIN LATERAL unnest(doomed.documents) AS k(document)
        CROSS JOIN LATERAL (
            SELECT d.ctid AS place FROM batch_documents d WHERE d.document = k.document AND d.batch_id = doomed.batch_id
            OFFSET 0 -- one search of the index per key, not a join
        ) f))
), tries AS (
    DELETE FROM attempts WHERE batch_id = ANY (ARRAY(SELECT batch_id FROM doomed))
), rows AS (
    DELETE FROM batches WHERE id = ANY (ARRAY(SELECT batch_id FROM doomed))
)
DELETE FROM batch_payloads WHERE batch_id = ANY (ARRAY(SELECT batch_id FROM doomed))`

// deleteParts removes parts of split batches, which have nothing of their own but attempts.
const deleteParts = `
WITH doomed AS MATERIALIZED (
    SELECT b.id FROM batches b WHERE b.job_id = $1 AND b.root_id IS NOT NULL ORDER BY b.ordinal LIMIT $2
), tries AS (
    DELETE FROM attempts WHERE batch_id = ANY (ARRAY(SELECT id FROM doomed))
)
DELETE FROM batches WHERE id = ANY (ARRAY(SELECT id FROM doomed))`

// deleteSteps are what a job leaves, children before parents. $1 is the job and $2 the most rows to remove.
var deleteSteps = [...]string{
	deleteParts,
	deleteBatches,
	`DELETE FROM findings WHERE id = ANY (ARRAY(SELECT id FROM findings WHERE job_id = $1 LIMIT $2))`,
	`DELETE FROM rejected_items WHERE job_id = $1 AND first_item = ANY (ARRAY(
		SELECT f.first_item
		FROM (SELECT r.first_item, sum(1 + r.pieces) OVER (ORDER BY r.first_item) AS rows,
		             row_number() OVER (ORDER BY r.first_item) AS n
		      FROM (SELECT first_item, octet_length(frame) / 2000 AS pieces
		            FROM rejected_items WHERE job_id = $1 ORDER BY first_item LIMIT $2) r) f
		WHERE f.rows <= $2 OR f.n = 1))`,
	`DELETE FROM item_results WHERE job_id = $1 AND place = ANY (ARRAY(
		SELECT f.place
		FROM (SELECT r.place, sum(1 + r.pieces) OVER (ORDER BY r.place) AS rows, row_number() OVER (ORDER BY r.place) AS n
		      FROM (SELECT place, octet_length(frame) / 2000 AS pieces
		            FROM item_results WHERE job_id = $1 ORDER BY place LIMIT $2) r) f
		WHERE f.rows <= $2 OR f.n = 1))`,
	`DELETE FROM job_deltas WHERE id = ANY (ARRAY(SELECT id FROM job_deltas WHERE job_id = $1 LIMIT $2))`,
	`DELETE FROM job_minutes WHERE job_id = $1 AND minute = ANY (ARRAY(
		SELECT minute FROM job_minutes WHERE job_id = $1 LIMIT $2))`,
	`DELETE FROM slowest_batches WHERE job_id = $1 AND batch_id = ANY (ARRAY(
		SELECT batch_id FROM slowest_batches WHERE job_id = $1 LIMIT $2))`,
}

const deleteJobRow = `DELETE FROM jobs WHERE id = $1`

const anyDeleted = `SELECT EXISTS (SELECT 1 FROM jobs WHERE deleted_at IS NOT NULL)`

// DeleteStep implements store.Upkeep.
func (s *Store) DeleteStep(ctx context.Context, limit int) (bool, error) {
	limit = max(limit, 1)
	more := false
	err := s.write(ctx, "remove deleted jobs", func(ctx context.Context, t *tx) error {
		var jobs []int64
		ids(t.queue(lockDeleted), &jobs)
		t.queue(anyDeleted).QueryRow(func(row pgx.Row) error { return row.Scan(&more) })
		if err := t.send(ctx); err != nil {
			return err
		}
		if len(jobs) == 0 {
			return errNothing // none, or somebody else is at it
		}
		more = true
		for _, sql := range deleteSteps {
			var n int64
			t.queue(sql, jobs[0], limit).Exec(func(tag pgconn.CommandTag) error {
				n = tag.RowsAffected()
				return nil
			})
			if err := t.send(ctx); err != nil {
				return err
			}
			if n > 0 {
				return nil // a step is what one table gives up; there is more, if only the job's row
			}
		}
		t.queue(deleteJobRow, jobs[0])
		t.queue(anyDeleted).QueryRow(func(row pgx.Row) error { return row.Scan(&more) })
		return nil
	})
	return more, err
}
