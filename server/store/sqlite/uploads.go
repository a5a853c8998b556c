package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const uploadQuery = `SELECT u.job_id, u.upload_id, u.epoch, u.byte_offset, u.received, u.line, u.items, u.batches,
		u.document, u.hash_state, u.encoding, u.finished_at IS NOT NULL, j.state
	FROM uploads u JOIN jobs j ON j.id = u.job_id WHERE `

// upload reads an upload by a condition; store.ErrNotFound when there is none.
func upload(q querier, where string, args ...any) (u store.Upload, err error) {
	p := &u.Position
	err = one(q, []any{
		&u.JobID, &u.UploadID, &u.Epoch, &p.Offset, &p.Received, &p.Line, &p.Item, &p.Batch, &p.Document, &p.Hash,
		&p.Encoding, &u.Finished, &u.State,
	}, uploadQuery+where, args...)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	u.Items, u.Batches = p.Item, int64(p.Batch)
	return u, err
}

// OpenUpload implements store.Uploads.
func (s *Store) OpenUpload(ctx context.Context, n store.NewJob) (store.Upload, error) {
	n = n.Clean()
	var u store.Upload
	err := s.write(ctx, claiming, func(t *tx) (err error) {
		u, err = upload(t, "u.upload_id = ?", n.UploadID)
		if errors.Is(err, store.ErrNotFound) {
			u, err = t.create(n)
			return err
		}
		if err != nil {
			return err
		}
		var project, kind, mode string
		if err := one(t, []any{&project, &kind, &mode}, "SELECT project, kind, mode FROM jobs WHERE id = ?", u.JobID); err != nil {
			return err
		}
		if project != n.Project || kind != n.Kind || mode != n.Mode {
			return store.ErrUploadMismatch
		}
		if u.Finished {
			return nil
		}
		u.Epoch++
		return t.only("UPDATE uploads SET epoch = ?, active_at = ? WHERE job_id = ?", u.Epoch, micros(t.now), u.JobID)
	})
	return u, wrap("open upload", err)
}

// create makes a new job with its upload.
func (t *tx) create(n store.NewJob) (store.Upload, error) {
	u := store.Upload{UploadID: n.UploadID, Epoch: 1, State: job.Running}
	var texts [3]string
	for i, v := range []any{object(n.Parameters), object(n.Labels), n.Policy} {
		data, err := json.Marshal(v)
		if err != nil {
			return u, fmt.Errorf("encode header: %w", err)
		}
		texts[i] = string(data)
	}
	now := micros(t.now)
	id, err := t.insert(`INSERT INTO jobs (upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size,
			submitted_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		n.UploadID, n.Project, n.Kind, n.Mode, texts[0], texts[1], texts[2], n.Priority, n.FileName, n.Size, now, now)
	if err != nil {
		return u, fmt.Errorf("create job: %w", err)
	}
	u.JobID = id
	if err := t.exec("INSERT INTO uploads (job_id, upload_id, active_at) VALUES (?, ?, ?)", id, n.UploadID, now); err != nil {
		return u, fmt.Errorf("create upload: %w", err)
	}
	return u, nil
}

// object is m, or an empty map: null is no object.
func object(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// GetUpload implements store.Uploads.
func (s *Store) GetUpload(ctx context.Context, uploadID string) (u store.Upload, err error) {
	err = s.read(ctx, func(q *snapshot) (err error) {
		u, err = upload(q, "u.upload_id = ?", store.CleanText(uploadID, store.MaxName))
		return err
	})
	return u, wrap("get upload", err)
}

// KeepUpload implements store.Uploads.
func (s *Store) KeepUpload(ctx context.Context, jobID, epoch int64) error {
	err := s.write(ctx, ingesting, func(t *tx) error {
		kept, err := t.change("UPDATE uploads SET active_at = ? WHERE job_id = ? AND epoch = ?", micros(t.now), jobID, epoch)
		if err == nil && kept == 0 {
			err = store.ErrUploadFenced
		}
		return err
	})
	return wrap("keep upload", err)
}

// AbandonUploads implements store.Uploads.
func (s *Store) AbandonUploads(ctx context.Context, idle time.Duration) ([]int64, error) {
	var ids []int64
	err := s.write(ctx, ingesting, func(t *tx) (err error) {
		ids, err = collect(t, number, `SELECT u.job_id FROM uploads u INDEXED BY uploads_unfinished CROSS JOIN jobs j ON j.id = u.job_id
			WHERE u.finished_at IS NULL AND u.active_at < ? AND j.state = 'running' ORDER BY u.job_id`,
			micros(t.now.Add(-idle)))
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := t.stop(id, job.Failed, store.Abandoned(idle)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, wrap("abandon uploads", err)
	}
	return ids, nil
}

// CommitIngest implements store.Uploads. The group is one transaction: its size is the caller's to bound.
func (s *Store) CommitIngest(ctx context.Context, in store.IngestGroup) error {
	err := s.write(ctx, ingesting, func(t *tx) error {
		u, err := upload(t, "u.job_id = ?", in.JobID)
		if err != nil {
			return err
		}
		fresh, err := admits(&u, &in)
		if err != nil || !fresh {
			return err
		}
		g := newGroup(t)
		for i := range in.Batches {
			if err := g.insertBatch(in.JobID, u.Position.Batch+int32(i), &in.Batches[i]); err != nil {
				return fmt.Errorf("insert batch: %w", err)
			}
		}
		for i := range in.Rejected {
			if err := g.reject(in.JobID, &in.Rejected[i]); err != nil {
				return fmt.Errorf("keep rejected items: %w", err)
			}
		}
		for _, f := range in.Findings {
			f.JobID, f.BatchID = in.JobID, 0
			if err := g.finding(f); err != nil {
				return fmt.Errorf("record finding: %w", err)
			}
		}
		d := g.delta(in.JobID)
		// After a resumption a compressed input may be counted a little shorter; progress does not run backwards.
		d.BytesRead += max(in.Position.Received-u.Position.Received, 0)
		if in.Finished {
			d.IngestDone = 1
		}
		if err := g.advance(&u, &in); err != nil {
			return err
		}
		return g.flush()
	})
	return wrap("commit ingested items", err)
}

// admits tells whether a group may be added to an upload. Neither fresh nor an error: it has been already.
func admits(u *store.Upload, in *store.IngestGroup) (fresh bool, err error) {
	at := in.Position.Item == u.Position.Item && in.Position.Offset == u.Position.Offset
	switch {
	case u.Epoch != in.Epoch:
		return false, store.ErrUploadFenced
	case u.Finished && in.Finished && at:
		return false, nil
	case u.Finished:
		return false, store.ErrUploadFenced
	case u.State.Stopping():
		return false, store.ErrJobStopped
	case at && len(in.Batches)+len(in.Rejected) > 0:
		return false, nil
	case in.Position.Item < u.Position.Item || in.Position.Offset < u.Position.Offset:
		return false, fmt.Errorf("the position %+v lies before the committed %+v", in.Position, u.Position)
	}
	return true, nil
}

func (g *group) insertBatch(jobID int64, ordinal int32, b *store.NewBatch) error {
	id, err := g.insert("INSERT INTO batches (job_id, ordinal, first_item, item_count, weight) VALUES (?, ?, ?, ?, ?)",
		jobID, ordinal, b.FirstItem, b.Items, b.Weight)
	if err != nil {
		return err
	}
	documents := store.CleanDocuments(b.Documents)
	list, err := json.Marshal(documents)
	if err != nil {
		return fmt.Errorf("encode documents: %w", err)
	}
	err = g.exec("INSERT INTO batch_payloads (batch_id, job_id, ordinal, documents, frame, created_at) VALUES (?, ?, ?, ?, ?, ?)",
		id, jobID, ordinal, string(list), blob(b.Frame), micros(g.now))
	if err != nil {
		return err
	}
	// One statement for all of them: a call costs more than its row.
	err = g.exec("INSERT INTO batch_documents (document, batch_id) SELECT value, ? FROM json_each(?)", id, string(list))
	if err != nil {
		return err
	}
	d := g.delta(jobID)
	d.ItemsTotal += int64(b.Items)
	d.Batches[job.BatchPending]++
	d.Annotations += int64(b.Annotations)
	return nil
}

func (g *group) reject(jobID int64, r *store.RejectedItems) error {
	err := g.exec("INSERT INTO rejected_items (job_id, first_item, items, frame) VALUES (?, ?, ?, ?)",
		jobID, r.FirstItem, r.Items, blob(r.Frame))
	if err != nil {
		return err
	}
	g.delta(jobID).Reject(r.FirstItem, r.Items)
	return nil
}

// advance moves an upload to the position after a group, and ends it when nothing follows.
func (g *group) advance(u *store.Upload, in *store.IngestGroup) error {
	var finished any
	if in.Finished {
		finished = micros(g.now)
	}
	p := &in.Position
	err := g.only(`UPDATE uploads SET byte_offset = ?, received = ?, line = ?, items = ?, batches = ?, document = ?,
			hash_state = ?, encoding = ?, active_at = ?, finished_at = ?
		WHERE job_id = ? AND epoch = ?`,
		p.Offset, max(p.Received, u.Position.Received), p.Line, p.Item, u.Position.Batch+int32(len(in.Batches)),
		store.CleanText(p.Document, store.MaxDocument), blob(p.Hash), store.CleanText(p.Encoding, store.MaxName),
		micros(g.now), finished, in.JobID, in.Epoch)
	if err != nil {
		return fmt.Errorf("move upload: %w", err)
	}
	if in.Fail != "" {
		return g.stop(in.JobID, job.Failed, in.Fail)
	}
	return nil
}

// blob is data, or an empty blob: nil would be null.
func blob(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
