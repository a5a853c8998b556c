package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// Of each job one entry of an index is read, whatever number the job has.
	sqlJobs = `
WITH RECURSIVE kept (job, number) AS (
	SELECT $1::bigint, 0
	UNION ALL
	SELECT least(
		(SELECT job_id FROM fences WHERE job_id > k.job ORDER BY job_id LIMIT 1),
		(SELECT job_id FROM store_items WHERE job_id > k.job ORDER BY job_id LIMIT 1),
		(SELECT job_id FROM store_skips WHERE job_id > k.job ORDER BY job_id LIMIT 1)), k.number + 1
	FROM kept k WHERE k.job IS NOT NULL AND k.number < $2)
SELECT job FROM kept WHERE number > 0 AND job IS NOT NULL`

	sqlForgetFences = `
DELETE FROM fences WHERE batch_id IN (SELECT batch_id FROM fences WHERE job_id = ANY($1::bigint[]) ORDER BY batch_id LIMIT $2)`

	sqlForgetSkips = `
DELETE FROM store_skips s USING (
	SELECT job_id, project_document_id FROM store_skips WHERE job_id = ANY($1::bigint[]) LIMIT $2) x
WHERE s.job_id = x.job_id AND s.project_document_id = x.project_document_id`

	sqlForgettable = `
SELECT job_id, item, coalesce(document_id, 0) FROM store_items WHERE job_id = ANY($1::bigint[]) ORDER BY job_id, item LIMIT $2`

	sqlLockDocuments = `
SELECT count(*) FROM (SELECT FROM documents WHERE id = ANY($1::bigint[]) ORDER BY sourcedb, sourceid FOR NO KEY UPDATE) d`

	// Where only forgotten jobs compose a text nothing more is added to it; where others do as well it must not move any
	// more, since nothing that was forgotten would follow.
	sqlFix = `
UPDATE documents SET composed_by = 0, composed_until = 0
WHERE id = ANY($1::bigint[]) AND composed_by <> 0
  AND NOT (composed_by = composed_until AND composed_by = ANY($2::bigint[]))`

	sqlSettleSpans = `
UPDATE annotation_spans a SET begins = begins + x.moves, ends = ends + x.moves, traits = traits & 1
FROM ` + ofSpans + ` AND (x.moves > 0 OR a.traits > 1)`

	sqlSettleRelations = `
UPDATE annotation_relations a SET traits = traits & 1, given_subj = NULL, given_obj = NULL FROM ` + ofRelations + ` AND a.traits > 1`

	sqlSettleAttributes = `
UPDATE annotation_attributes a SET traits = traits & 1, given_subj = NULL FROM ` + ofAttributes + ` AND a.traits > 1`

	sqlForgetItems = `
DELETE FROM store_items i USING unnest($1::bigint[], $2::bigint[]) x (job, item) WHERE i.job_id = x.job AND i.item = x.item`
)

// The annotations of items that are given by their jobs and numbers, each found by its key.
const (
	ofSpans      = ofStart + `annotation_spans` + ofEnd
	ofRelations  = ofStart + `annotation_relations` + ofEnd
	ofAttributes = ofStart + `annotation_attributes` + ofEnd

	ofStart = `(
	SELECT k.home, k.id, i.text_begin AS moves
	FROM unnest($1::bigint[], $2::bigint[]) g (job, item)
	CROSS JOIN LATERAL (
		SELECT project_document_id AS home, text_begin FROM store_items
		WHERE job_id = g.job AND item = g.item AND project_document_id IS NOT NULL OFFSET 0) i
	CROSS JOIN LATERAL (
		SELECT project_document_id AS home, id FROM `
	ofEnd = `
		WHERE project_document_id = i.home AND job_id = g.job AND item = g.item OFFSET 0) k
	OFFSET 0) x
WHERE a.project_document_id = x.home AND a.id = x.id`
)

// Jobs implements [write.Engine].
func (e *engine) Jobs(ctx context.Context, after int64, limit int) ([]int64, error) {
	tx, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	var jobs []int64
	var job int64
	b := &pgx.Batch{}
	b.Queue("begin read only")
	b.Queue(sqlSettings, e.limits.settings()...)
	each(b, sqlJobs, []any{after, limit}, []any{&job}, func() { jobs = append(jobs, job) })
	b.Queue("commit")
	return jobs, tx.send(ctx, b)
}

// Forget implements [write.Engine]. Without its fence nobody writes for a batch any more, so fences go first.
func (e *engine) Forget(ctx context.Context, jobs []int64, limit int) (bool, error) {
	tx, err := e.begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	removed := 0
	count := func(tag pgconn.CommandTag) error {
		removed += int(tag.RowsAffected())
		return nil
	}
	b := &pgx.Batch{}
	b.Queue("begin")
	b.Queue(sqlSettings, e.limits.settings()...)
	b.Queue(sqlForgetFences, jobs, limit).Exec(count)
	b.Queue(sqlForgetSkips, jobs, limit).Exec(count)
	if err := tx.send(ctx, b); err != nil {
		return false, fmt.Errorf("remove fences: %w", err)
	}
	if left := limit - removed; left > 0 {
		n, err := tx.forgetItems(ctx, jobs, left)
		if err != nil {
			return false, fmt.Errorf("remove first answers: %w", err)
		}
		removed += n
	}
	b = &pgx.Batch{}
	b.Queue("commit")
	if err := tx.send(ctx, b); err != nil {
		return false, fmt.Errorf("forget: %w", err)
	}
	return removed >= limit, nil
}

func (t *tx) forgetItems(ctx context.Context, jobs []int64, limit int) (int, error) {
	var of, items, documents []int64
	var job, item, document int64
	b := &pgx.Batch{}
	each(b, sqlForgettable, []any{jobs, limit}, []any{&job, &item, &document}, func() {
		of, items = append(of, job), append(items, item)
		if document != 0 {
			documents = append(documents, document)
		}
	})
	if err := t.send(ctx, b); err != nil || len(items) == 0 {
		return 0, err
	}
	b = &pgx.Batch{}
	b.Queue(sqlLockDocuments, documents)
	b.Queue(sqlFix, documents, jobs)
	for _, statement := range []string{
		`DELETE FROM annotation_spans a USING ` + ofSpans + ` AND a.traits >= 4`,
		`DELETE FROM annotation_relations a USING ` + ofRelations + ` AND a.traits >= 4`,
		`DELETE FROM annotation_attributes a USING ` + ofAttributes + ` AND a.traits >= 4`,
		sqlSettleSpans, sqlSettleRelations, sqlSettleAttributes, sqlForgetItems,
	} {
		b.Queue(statement, of, items)
	}
	return len(items), t.send(ctx, b)
}
