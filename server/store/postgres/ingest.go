package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const lockUploadOfJob = `SELECT ` + uploadColumns + ` FROM uploads u WHERE u.job_id = $1 FOR UPDATE`

// selectJobState is a statement of its own after the one that locks the upload: who stops the job locks that first, so
// that a group and a stop see each other.
const selectJobState = `SELECT state FROM jobs WHERE id = $1 AND deleted_at IS NULL`

// reserveBatches takes the ids before the rows are copied, since other tables' rows are copied with them.
const reserveBatches = `SELECT nextval(pg_get_serial_sequence('batches', 'id')) FROM generate_series(1, $1::bigint)`

const advanceUpload = `
UPDATE uploads
SET byte_offset = $2, received = $3, line = $4, items = $5, batches = $6, document = $7, hash_state = $8, encoding = $9,
    active_at = clock_timestamp(), finished_at = CASE WHEN $10 THEN clock_timestamp() END
WHERE job_id = $1`

// CommitIngest implements store.Uploads.
func (s *Store) CommitIngest(ctx context.Context, g store.IngestGroup) error {
	return s.write(ctx, "commit upload", func(ctx context.Context, t *tx) error {
		var (
			up    store.Upload
			state job.State
			batch []int64
		)
		each(t.queue(lockUploadOfJob, g.JobID), func(row pgx.Rows) error { return scanUpload(row, &up) })
		each(t.queue(selectJobState, g.JobID), func(row pgx.Rows) error { return row.Scan(&state) })
		if err := t.send(ctx); err != nil {
			return err
		}
		if err := mayAdd(g, up, state); err != nil {
			return err
		}
		few := fewBatches(g.Batches)
		if n := len(g.Batches); n > 0 && !few {
			ids(t.queue(reserveBatches, n), &batch)
		}
		y := ingested(g, up)
		y.queue(t)
		p := g.Position
		t.queue(advanceUpload, g.JobID, p.Offset, max(p.Received, up.Position.Received), p.Line, p.Item,
			up.Position.Batch+int32(len(g.Batches)), store.CleanText(p.Document, store.MaxDocument), notNull(p.Hash),
			store.CleanText(p.Encoding, store.MaxName), g.Finished)
		if few {
			insertFew(t, g, up.Position.Batch)
		} else if err := copyBatches(ctx, t, g, up.Position.Batch, &batch); err != nil {
			return err
		}
		err := t.copy(ctx, "rejected_items", []string{"job_id", "first_item", "items", "frame"}, len(g.Rejected), func(i int) ([]any, error) {
			r := g.Rejected[i]
			return []any{g.JobID, r.FirstItem, r.Items, notNull(r.Frame)}, nil
		})
		if err != nil {
			return err
		}
		// The job's row comes last: it is what others wait for.
		if g.Fail != "" {
			t.queue(stopJobs, []int64{g.JobID}, string(job.Failed), store.CleanText(g.Fail, store.MaxMessage))
		}
		return nil
	})
}

// insertBatches adds batches with all that belongs to them: what several copies do faster when there is much of it, and not
// in the round trip of the commit.
const insertBatches = `
WITH w AS MATERIALIZED (
    SELECT * FROM unnest($2::integer[], $3::bigint[], $4::integer[], $5::integer[], $6::bytea[])
        AS w(ordinal, first_item, item_count, weight, frame)
), d AS MATERIALIZED (
    SELECT * FROM unnest($7::integer[], $8::text[]) WITH ORDINALITY AS d(ordinal, document, n)
), b AS (
    INSERT INTO batches (job_id, ordinal, first_item, item_count, weight)
    SELECT $1::bigint, w.ordinal, w.first_item, w.item_count, w.weight FROM w ORDER BY w.ordinal
    RETURNING id, ordinal
), p AS (
    INSERT INTO batch_payloads (batch_id, job_id, ordinal, frame, documents)
    SELECT b.id, $1::bigint, b.ordinal, w.frame,
           ARRAY(SELECT d.document FROM d WHERE d.ordinal = b.ordinal ORDER BY d.n)
    FROM b JOIN w ON w.ordinal = b.ordinal
)
INSERT INTO batch_documents (document, batch_id)
SELECT d.document, b.id FROM d JOIN b ON b.ordinal = d.ordinal`

// Bounds of what insertBatches is for.
const (
	fewMost      = 8
	fewDocuments = 256
	fewBytes     = 256 << 10
)

func fewBatches(batches []store.NewBatch) bool {
	documents, bytes := 0, 0
	for _, b := range batches {
		documents += len(b.Documents)
		bytes += len(b.Frame)
	}
	return len(batches) <= fewMost && documents <= fewDocuments && bytes <= fewBytes
}

// insertFew queues the insertion of few batches, with ordinals from first on.
func insertFew(t *tx, g store.IngestGroup, first int32) {
	n := len(g.Batches)
	if n == 0 {
		return
	}
	var (
		ordinals, items, weights = make([]int32, n), make([]int32, n), make([]int32, n)
		firstItems               = make([]int64, n)
		frames                   = make([][]byte, n)
		at                       []int32
		documents                []string
	)
	for i, b := range g.Batches {
		ordinals[i], firstItems[i], items[i], weights[i] = first+int32(i), b.FirstItem, b.Items, b.Weight
		frames[i] = notNull(b.Frame)
		for _, d := range store.CleanDocuments(b.Documents) {
			at, documents = append(at, ordinals[i]), append(documents, d)
		}
	}
	t.queue(insertBatches, g.JobID, ordinals, firstItems, items, weights, frames, at, documents)
}

// mayAdd judges a group by the upload, which is locked, and its job. errNothing says that the group is there already.
func mayAdd(g store.IngestGroup, up store.Upload, state job.State) error {
	at, to := up.Position, g.Position
	same := at.Item == to.Item && at.Offset == to.Offset
	switch {
	case up.JobID == 0 || state == "":
		return fmt.Errorf("upload of job %d: %w", g.JobID, store.ErrNotFound)
	case g.Epoch != up.Epoch:
		return fmt.Errorf("epoch %d of the upload of job %d, which is at %d: %w", g.Epoch, g.JobID, up.Epoch, store.ErrUploadFenced)
	case up.Finished && g.Finished && same:
		return errNothing
	case up.Finished:
		return fmt.Errorf("the upload of job %d is finished: %w", g.JobID, store.ErrUploadFenced)
	case state.Stopping():
		return fmt.Errorf("job %d: %w", g.JobID, store.ErrJobStopped)
	case same && len(g.Batches)+len(g.Rejected) > 0:
		return errNothing
	case to.Item < at.Item || to.Offset < at.Offset:
		return fmt.Errorf("the group of job %d ends at item %d, byte %d, before item %d, byte %d, which are committed",
			g.JobID, to.Item, to.Offset, at.Item, at.Offset)
	}
	return nil
}

// ingested counts a group.
func ingested(g store.IngestGroup, up store.Upload) *tally {
	y := new(tally)
	d := y.of(g.JobID)
	// After a resumption a compressed input may be counted a little shorter; progress does not run backwards.
	d.BytesRead = max(g.Position.Received-up.Position.Received, 0)
	d.Batches[job.BatchPending] = int64(len(g.Batches))
	if g.Finished {
		d.IngestDone = 1
	}
	for _, b := range g.Batches {
		d.ItemsTotal += int64(b.Items)
		d.Annotations += int64(b.Annotations)
	}
	for _, r := range g.Rejected {
		d.Reject(r.FirstItem, r.Items)
	}
	for _, f := range g.Findings {
		f.JobID, f.BatchID = g.JobID, 0
		y.finding(f)
	}
	return y
}

// notNull makes missing bytes empty ones, which a column takes.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// copyBatches copies the rows of batches, with ordinals from first on. The ids are read when the first copy sends what
// is queued.
func copyBatches(ctx context.Context, t *tx, g store.IngestGroup, first int32, id *[]int64) error {
	n := len(g.Batches)
	if n == 0 {
		return nil
	}
	if err := t.send(ctx); err != nil {
		return err
	}
	err := t.copy(ctx, "batches", []string{"id", "job_id", "ordinal", "first_item", "item_count", "weight"}, n, func(i int) ([]any, error) {
		b := g.Batches[i]
		return []any{(*id)[i], g.JobID, first + int32(i), b.FirstItem, b.Items, b.Weight}, nil
	})
	if err != nil {
		return err
	}
	type key struct {
		document string
		batch    int64
	}
	var keys []key
	documents := make([][]string, n)
	for i, b := range g.Batches {
		documents[i] = store.CleanDocuments(b.Documents)
		for _, d := range documents[i] {
			keys = append(keys, key{d, (*id)[i]})
		}
	}
	err = t.copy(ctx, "batch_payloads", []string{"batch_id", "job_id", "ordinal", "frame", "documents"}, n, func(i int) ([]any, error) {
		return []any{(*id)[i], g.JobID, first + int32(i), notNull(g.Batches[i].Frame), documents[i]}, nil
	})
	if err != nil {
		return err
	}
	return t.copy(ctx, "batch_documents", []string{"document", "batch_id"}, len(keys), func(i int) ([]any, error) {
		return []any{keys[i].document, keys[i].batch}, nil
	})
}
