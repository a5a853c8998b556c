package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const uploadColumns = `u.job_id, u.upload_id, u.epoch, u.byte_offset, u.received, u.line, u.items, u.batches, u.document,
    u.hash_state, u.encoding, u.finished_at IS NOT NULL`

func scanUpload(row pgx.Row, u *store.Upload, more ...any) error {
	err := row.Scan(append([]any{
		&u.JobID, &u.UploadID, &u.Epoch, &u.Position.Offset, &u.Position.Received, &u.Position.Line, &u.Position.Item,
		&u.Position.Batch, &u.Position.Document, &u.Position.Hash, &u.Position.Encoding, &u.Finished,
	}, more...)...)
	u.Items, u.Batches = u.Position.Item, int64(u.Position.Batch)
	return err
}

const lockUpload = `
SELECT ` + uploadColumns + `, j.state, j.project, j.kind, j.mode
FROM uploads u JOIN jobs j ON j.id = u.job_id
WHERE u.upload_id = $1
FOR UPDATE OF u`

const reopenUpload = `
UPDATE uploads SET epoch = epoch + 1, active_at = clock_timestamp() WHERE job_id = $1 RETURNING epoch`

// insertUpload makes job and upload, unless the upload is there or somebody else just makes it. No number of a job is
// drawn in vain but in the latter case.
const insertUpload = `
WITH j AS (
    INSERT INTO jobs (upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size,
                      submitted_at, updated_at)
    SELECT $1::text, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp(), clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM jobs o WHERE o.upload_id = $1::text AND o.deleted_at IS NULL)
    ON CONFLICT (upload_id) WHERE deleted_at IS NULL DO NOTHING
    RETURNING id
)
INSERT INTO uploads (job_id, upload_id, active_at) SELECT j.id, $1, clock_timestamp() FROM j
RETURNING job_id, upload_id, epoch`

// OpenUpload implements store.Uploads.
func (s *Store) OpenUpload(ctx context.Context, n store.NewJob) (store.Upload, error) {
	n = n.Clean()
	var up store.Upload
	// Nearly all uploads are new, and made in one round trip. One that is not new is opened again; should it have been removed
	// in between, it is new after all.
	for range 2 {
		err := s.write(ctx, "open upload", func(_ context.Context, t *tx) error {
			up = store.Upload{}
			each(t.queue(insertUpload, n.UploadID, n.Project, n.Kind, n.Mode, object(n.Parameters), object(n.Labels),
				n.Policy, n.Priority, n.FileName, n.Size), func(row pgx.Rows) error {
				up.State = job.Running
				return row.Scan(&up.JobID, &up.UploadID, &up.Epoch)
			})
			return nil
		})
		found := up.JobID != 0
		if err == nil && !found {
			err = s.write(ctx, "open upload", func(ctx context.Context, t *tx) (err error) {
				up = store.Upload{}
				found, err = reopen(ctx, t, n, &up)
				return err
			})
		}
		if err != nil {
			return store.Upload{}, err
		}
		if found {
			return up, nil
		}
	}
	return store.Upload{}, errors.New("open upload: the upload appeared and vanished")
}

// reopen opens an upload that is known.
func reopen(ctx context.Context, t *tx, n store.NewJob, up *store.Upload) (found bool, err error) {
	var project, kind, mode string
	each(t.queue(lockUpload, n.UploadID), func(row pgx.Rows) error {
		found = true
		return scanUpload(row, up, &up.State, &project, &kind, &mode)
	})
	if err := t.send(ctx); err != nil || !found {
		return found, err
	}
	if project != n.Project || kind != n.Kind || mode != n.Mode {
		return true, fmt.Errorf("upload %q: %w", n.UploadID, store.ErrUploadMismatch)
	}
	if !up.Finished {
		t.queue(reopenUpload, up.JobID).QueryRow(func(row pgx.Row) error { return row.Scan(&up.Epoch) })
	}
	return true, nil
}

// object makes a missing map an empty object.
func object(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

const selectUpload = `
SELECT ` + uploadColumns + `, j.state FROM uploads u JOIN jobs j ON j.id = u.job_id WHERE u.upload_id = $1`

// GetUpload implements store.Uploads.
func (s *Store) GetUpload(ctx context.Context, uploadID string) (store.Upload, error) {
	var up store.Upload
	err := s.call(ctx, "read upload", func(ctx context.Context) error {
		err := scanUpload(s.pool.QueryRow(ctx, selectUpload, store.CleanText(uploadID, store.MaxName)), &up, &up.State)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("upload %q: %w", uploadID, store.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return store.Upload{}, err
	}
	return up, nil
}

const keepUpload = `UPDATE uploads SET active_at = clock_timestamp() WHERE job_id = $1 AND epoch = $2`

// KeepUpload implements store.Uploads.
func (s *Store) KeepUpload(ctx context.Context, jobID, epoch int64) error {
	return s.call(ctx, "keep upload", func(ctx context.Context) error {
		kept, err := s.pool.Exec(ctx, keepUpload, jobID, epoch)
		if err == nil && kept.RowsAffected() == 0 {
			err = store.ErrUploadFenced
		}
		return err
	})
}

// uploadsAtOnce bounds the uploads that one transaction abandons.
const uploadsAtOnce = 100

const lockIdleUploads = `
SELECT u.job_id
FROM uploads u JOIN jobs j ON j.id = u.job_id
WHERE u.finished_at IS NULL AND u.active_at <= (SELECT clock_timestamp() - $1::interval) AND j.state = 'running'
ORDER BY u.active_at
LIMIT $2
FOR UPDATE OF u SKIP LOCKED`

// AbandonUploads implements store.Uploads.
func (s *Store) AbandonUploads(ctx context.Context, idle time.Duration) ([]int64, error) {
	reason := store.Abandoned(idle)
	var all []int64
	for {
		var idleJobs, stopped []int64
		err := s.write(ctx, "abandon uploads", func(ctx context.Context, t *tx) error {
			idleJobs, stopped = nil, nil
			ids(t.queue(lockIdleUploads, idle, uploadsAtOnce), &idleJobs)
			if err := t.send(ctx); err != nil {
				return err
			}
			if len(idleJobs) == 0 {
				return errNothing
			}
			ids(t.queue(stopJobs, idleJobs, string(job.Failed), reason), &stopped)
			return nil
		})
		if err != nil {
			return all, err
		}
		all = append(all, stopped...)
		if len(idleJobs) < uploadsAtOnce {
			return all, nil
		}
	}
}
