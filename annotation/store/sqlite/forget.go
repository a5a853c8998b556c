package sqlite

import (
	"context"
	"fmt"
	"slices"

	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
)

const (
	// Of each job one entry of an index is read, whatever number the job has. 9223372036854775807 stands for none.
	sqlJobs = `
WITH RECURSIVE kept (job, number) AS (
	SELECT ?1, 0
	UNION ALL
	SELECT min(
		coalesce((SELECT job_id FROM fences WHERE job_id > k.job ORDER BY job_id LIMIT 1), 9223372036854775807),
		coalesce((SELECT job_id FROM store_items WHERE job_id > k.job ORDER BY job_id LIMIT 1), 9223372036854775807),
		coalesce((SELECT job_id FROM store_skips WHERE job_id > k.job ORDER BY job_id LIMIT 1), 9223372036854775807)),
		k.number + 1
	FROM kept k WHERE k.job < 9223372036854775807 AND k.number < ?2)
SELECT job FROM kept WHERE number > 0 AND job < 9223372036854775807`

	sqlForgetFences = `
DELETE FROM fences WHERE batch_id IN (SELECT batch_id FROM fences WHERE job_id = ? LIMIT ?)`

	sqlForgetSkips = `
DELETE FROM store_skips WHERE job_id = ?1 AND project_document_id IN (
	SELECT project_document_id FROM store_skips WHERE job_id = ?1 LIMIT ?2)`

	sqlForgettable = `
SELECT item, coalesce(document_id, 0), coalesce(project_document_id, 0), coalesce(text_begin, 0)
FROM store_items WHERE job_id = ? ORDER BY item LIMIT ?`

	sqlComposers = `SELECT composed_by, composed_until FROM documents WHERE id = ?`

	// Where only forgotten jobs compose a text nothing more is added to it; where others do as well it must not move any
	// more, since nothing that was forgotten would follow.
	sqlFix = `UPDATE documents SET composed_by = 0, composed_until = 0 WHERE id = ?`

	sqlSettleSpans = `
UPDATE annotation_spans SET begins = begins + ?1, ends = ends + ?1, traits = traits & 1
WHERE project_document_id = ?2 AND job_id = ?3 AND item = ?4 AND (?1 > 0 OR traits > 1)`

	sqlSettleRelations = `
UPDATE annotation_relations SET traits = traits & 1, given_subj = NULL, given_obj = NULL
WHERE project_document_id = ? AND job_id = ? AND item = ? AND traits > 1`

	sqlSettleAttributes = `
UPDATE annotation_attributes SET traits = traits & 1, given_subj = NULL
WHERE project_document_id = ? AND job_id = ? AND item = ? AND traits > 1`
)

// Jobs implements [write.Engine]. It waits for no transaction.
func (e *engine) Jobs(ctx context.Context, after int64, limit int) ([]int64, error) {
	rows, err := e.reading.QueryContext(ctx, sqlJobs, after, limit)
	if err != nil {
		return nil, err
	}
	var jobs []int64
	var job int64
	return jobs, scan(rows, []any{&job}, func() { jobs = append(jobs, job) })
}

// Forget implements [write.Engine]. Without its fence nobody writes for a batch any more, so fences go first.
func (e *engine) Forget(ctx context.Context, jobs []int64, limit int) (bool, error) {
	tx, err := e.begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	left := int64(limit)
	for _, statement := range []string{sqlForgetFences, sqlForgetSkips} {
		for _, job := range jobs {
			if left == 0 {
				break
			}
			n, err := tx.changed(statement, job, left)
			if err != nil {
				return false, fmt.Errorf("remove fences: %w", err)
			}
			left -= n
		}
	}
	for _, job := range jobs {
		if left == 0 {
			break
		}
		n, err := tx.forgetItems(jobs, job, left)
		if err != nil {
			return false, fmt.Errorf("remove first answers of job %d: %w", job, err)
		}
		left -= n
	}
	if err := tx.commit(nil); err != nil {
		return false, fmt.Errorf("forget: %w", err)
	}
	return left == 0, nil
}

// forgetItems removes up to limit first answers of one of the jobs to be forgotten, and returns how many.
func (t *tx) forgetItems(jobs []int64, job, limit int64) (int64, error) {
	type answer struct {
		item, document, home int64
		begin                int
	}
	var answers []answer
	var a answer
	err := t.rows(sqlForgettable, []any{job, limit}, []any{&a.item, &a.document, &a.home, &a.begin}, func() { answers = append(answers, a) })
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if err := t.fix(jobs, a.document); err != nil {
			return 0, err
		}
		if a.home != 0 {
			if err := t.settle(a.home, job, a.item, a.begin); err != nil {
				return 0, err
			}
		}
		if err := t.exec(`DELETE FROM store_items WHERE job_id = ? AND item = ?`, job, a.item); err != nil {
			return 0, err
		}
	}
	return int64(len(answers)), nil
}

func (t *tx) fix(jobs []int64, document int64) error {
	var first, last int64
	if document == 0 {
		return nil
	}
	if _, err := t.row(sqlComposers, []any{document}, &first, &last); err != nil {
		return err
	}
	if first == 0 || first == last && slices.Contains(jobs, first) {
		return nil
	}
	return t.exec(sqlFix, document)
}

// settle leaves of an item's annotations what does not need it any more.
func (t *tx) settle(home, job, item int64, begin int) error {
	for _, class := range []ids.Class{ids.Spans, ids.Relations, ids.Attributes} {
		err := t.exec(`DELETE FROM `+tables[class]+` WHERE project_document_id = ? AND job_id = ? AND item = ? AND traits >= 4`, home, job, item)
		if err != nil {
			return err
		}
	}
	if err := t.exec(sqlSettleSpans, begin, home, job, item); err != nil {
		return err
	}
	if err := t.exec(sqlSettleRelations, home, job, item); err != nil {
		return err
	}
	return t.exec(sqlSettleAttributes, home, job, item)
}
