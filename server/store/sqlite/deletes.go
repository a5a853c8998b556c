package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// deletion removes what belongs to jobs marked as deleted, children before parents, in steps.
type deletion struct {
	*tx
	left  int // rows that the step may still remove
	until time.Time
}

// over reports whether the step has done its share.
func (d *deletion) over() bool { return d.left <= 0 || time.Now().After(d.until) }

// DeleteStep implements store.Upkeep. A step takes about stepTime at most.
func (s *Store) DeleteStep(ctx context.Context, limit int) (more bool, err error) {
	err = s.write(ctx, keeping, func(t *tx) error {
		more = false
		d := &deletion{tx: t, left: max(limit, 1), until: time.Now().Add(stepTime)}
		ids, err := collect(t, number, "SELECT id FROM jobs WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 2")
		if err != nil || len(ids) == 0 {
			return err
		}
		gone, err := d.job(ids[0])
		more = !gone || len(ids) > 1
		return err
	})
	if err != nil {
		return false, wrap("remove deleted jobs", err)
	}
	return more, nil
}

// Rows of a job that nothing else hangs on, by the columns that lead to them.
var byJob = []struct{ rows, remove string }{
	{"SELECT id FROM findings WHERE job_id = ? LIMIT ?", "DELETE FROM findings WHERE id = ?"},
	{"SELECT rowid FROM rejected_items WHERE job_id = ? LIMIT ?", "DELETE FROM rejected_items WHERE rowid = ?"},
	{"SELECT rowid FROM item_results WHERE job_id = ? LIMIT ?", "DELETE FROM item_results WHERE rowid = ?"},
	{"SELECT id FROM job_deltas WHERE job_id = ? LIMIT ?", "DELETE FROM job_deltas WHERE id = ?"},
}

// job removes what it may of a job, and reports whether nothing is left of it.
func (d *deletion) job(id int64) (gone bool, err error) {
	for _, table := range byJob {
		if err := d.rows(table.rows, table.remove, id); err != nil {
			return false, err
		}
	}
	if err := d.parts(id); err != nil {
		return false, fmt.Errorf("remove parts of batches: %w", err)
	}
	for !d.over() {
		more, err := d.batch(id)
		if err != nil {
			return false, fmt.Errorf("remove batches: %w", err)
		}
		if !more {
			break
		}
	}
	if err := d.keyed("SELECT minute FROM job_minutes WHERE job_id = ? LIMIT ?",
		"DELETE FROM job_minutes WHERE job_id = ? AND minute = ?", id); err != nil {
		return false, err
	}
	if err := d.keyed("SELECT batch_id FROM slowest_batches WHERE job_id = ? LIMIT ?",
		"DELETE FROM slowest_batches WHERE job_id = ? AND batch_id = ?", id); err != nil {
		return false, err
	}
	if d.over() {
		return false, nil
	}
	return true, d.only("DELETE FROM jobs WHERE id = ?", id)
}

// rows removes rows of a table that have a number of their own.
func (d *deletion) rows(query, remove string, jobID int64) error {
	return d.each(query, jobID, func(row int64) error { return d.exec(remove, row) })
}

// keyed removes rows of a table whose key begins with the job.
func (d *deletion) keyed(query, remove string, jobID int64) error {
	return d.each(query, jobID, func(row int64) error { return d.exec(remove, jobID, row) })
}

func (d *deletion) each(query string, jobID int64, remove func(int64) error) error {
	if d.over() {
		return nil
	}
	list, err := collect(d.tx, number, query, jobID, d.left)
	if err != nil {
		return fmt.Errorf("look for rows to remove: %w", err)
	}
	for _, row := range list {
		if d.over() {
			return nil
		}
		if err := remove(row); err != nil {
			return fmt.Errorf("remove row: %w", err)
		}
		d.left--
	}
	return nil
}

// parts removes what it may of parts of split batches, which have nothing of their own but attempts.
func (d *deletion) parts(jobID int64) error {
	return d.each("SELECT id FROM batches WHERE job_id = ? AND root_id IS NOT NULL LIMIT ?", jobID, func(id int64) error {
		err := d.keyed("SELECT attempt FROM attempts WHERE batch_id = ? LIMIT ?", "DELETE FROM attempts WHERE batch_id = ? AND attempt = ?", id)
		if err != nil || d.over() {
			return err
		}
		return d.exec("DELETE FROM batches WHERE id = ?", id)
	})
}

// batch removes what it may of a job's first batch, its document keys and attempts before the batch itself. more is
// false when the job has none left.
func (d *deletion) batch(jobID int64) (more bool, err error) {
	var id int64
	var data []byte
	err = each(d, func(row scanner) error {
		more = true
		return row.Scan(&id, &data)
	}, "SELECT batch_id, documents FROM batch_payloads WHERE job_id = ? ORDER BY ordinal LIMIT 1", jobID)
	if err != nil || !more {
		return false, err
	}
	var documents []string
	if err := json.Unmarshal(data, &documents); err != nil {
		return false, fmt.Errorf("read documents of batch %d: %w", id, err)
	}
	for _, document := range documents {
		if d.over() {
			return true, nil
		}
		n, err := d.change("DELETE FROM batch_documents WHERE document = ? AND batch_id = ?", document, id)
		if err != nil {
			return false, err
		}
		d.left -= int(n)
	}
	err = d.keyed("SELECT attempt FROM attempts WHERE batch_id = ? LIMIT ?",
		"DELETE FROM attempts WHERE batch_id = ? AND attempt = ?", id)
	if err != nil {
		return false, err
	}
	for _, table := range []string{"DELETE FROM batches WHERE id = ?", "DELETE FROM batch_payloads WHERE batch_id = ?"} {
		if d.over() {
			return true, nil
		}
		n, err := d.change(table, id)
		if err != nil {
			return false, err
		}
		d.left -= int(n)
	}
	return true, nil
}
