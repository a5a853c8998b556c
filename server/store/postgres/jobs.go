package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// counterColumns are in the order of counterFields.
const counterColumns = `items_total, items_in_flight, items_stored, items_stored_with_warnings, items_rejected,
    items_skipped, items_document_missing, items_failed, items_crashed, items_cancelled, batches_pending,
    batches_running, batches_completed, batches_failed, batches_crashed, batches_cancelled, annotations, bytes_read,
    errors, warnings, batches_crashed_ever, batches_split`

func counterFields(c *job.Counters) []any {
	return []any{
		&c.ItemsTotal, &c.ItemsInFlight, &c.ItemOutcomes[job.Stored], &c.ItemOutcomes[job.StoredWarnings],
		&c.ItemOutcomes[job.Rejected], &c.ItemOutcomes[job.Skipped], &c.ItemOutcomes[job.DocumentMissing],
		&c.ItemOutcomes[job.ItemFailed], &c.ItemOutcomes[job.ItemCrashed], &c.ItemOutcomes[job.ItemCancelled],
		&c.Batches[job.BatchPending], &c.Batches[job.BatchRunning], &c.Batches[job.BatchCompleted],
		&c.Batches[job.BatchFailed], &c.Batches[job.BatchCrashed], &c.Batches[job.BatchCancelled], &c.Annotations,
		&c.BytesRead, &c.Errors, &c.Warnings, &c.CrashedEver, &c.Batches[job.BatchSplit],
	}
}

const jobColumns = `id, upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, state,
    stop_as, reason, ingest_done, revision, run, retrying, forgiven_bad, taken_back_failed, taken_back_crashed,
    taken_back_cancelled, submitted_at, started_at, retried_at, ended_at, updated_at, ` + counterColumns

func scanJob(row pgx.CollectableRow) (job.Job, error) {
	var (
		j                             job.Job
		startedAt, retriedAt, endedAt *time.Time
	)
	err := row.Scan(append([]any{
		&j.ID, &j.UploadID, &j.Project, &j.Kind, &j.Mode, &j.Parameters, &j.Labels, &j.Policy, &j.Priority, &j.FileName,
		&j.Size, &j.State, &j.StopAs, &j.Reason, &j.IngestDone, &j.Revision, &j.Run, &j.Retrying, &j.ForgivenBad,
		&j.TakenBack[job.ItemFailed], &j.TakenBack[job.ItemCrashed], &j.TakenBack[job.ItemCancelled], &j.SubmittedAt, &startedAt, &retriedAt, &endedAt, &j.UpdatedAt,
	}, counterFields(&j.Counters)...)...)
	j.StartedAt, j.RetriedAt, j.EndedAt = timeOf(startedAt), timeOf(retriedAt), timeOf(endedAt)
	return j, err
}

const selectJob = `SELECT ` + jobColumns + ` FROM jobs WHERE id = $1 AND deleted_at IS NULL`

// GetJob implements store.Jobs.
func (s *Store) GetJob(ctx context.Context, id int64) (job.Job, error) {
	list, err := s.jobs(ctx, "read job", selectJob, id)
	if err != nil {
		return job.Job{}, err
	}
	if len(list) == 0 {
		return job.Job{}, fmt.Errorf("job %d: %w", id, store.ErrNotFound)
	}
	return list[0], nil
}

func (s *Store) jobs(ctx context.Context, what, sql string, args ...any) ([]job.Job, error) {
	var list []job.Job
	err := s.call(ctx, what, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanJob)
		return err
	})
	return list, err
}

// The lists of jobs differ by the index that serves them.
const (
	listJobs = `SELECT ` + jobColumns + ` FROM jobs
WHERE id < $1 AND deleted_at IS NULL AND ($3 = '' OR kind = $3)
  AND (cardinality($4::text[]) = 0 OR state = ANY ($4::text[]))
ORDER BY id DESC LIMIT $2`
	listJobsOfProject = `SELECT ` + jobColumns + ` FROM jobs
WHERE id < $1 AND deleted_at IS NULL AND ($3 = '' OR kind = $3)
  AND (cardinality($4::text[]) = 0 OR state = ANY ($4::text[])) AND project = $5
ORDER BY id DESC LIMIT $2`
	listJobsOfProjects = `SELECT ` + jobColumns + ` FROM jobs
WHERE id < $1 AND deleted_at IS NULL AND ($3 = '' OR kind = $3)
  AND (cardinality($4::text[]) = 0 OR state = ANY ($4::text[])) AND project = ANY ($5::text[])
ORDER BY id DESC LIMIT $2`

	// Of each state a page at most is read, from the index of open jobs: its condition must be here as it is there.
	listOpenJobs = `SELECT ` + jobColumns + ` FROM jobs
WHERE id IN (
	SELECT j.id FROM unnest($4::text[]) AS s (state)
	CROSS JOIN LATERAL (
		SELECT id FROM jobs
		WHERE state = s.state AND state IN ('running', 'paused', 'cancelling') AND id < $1
		  AND ($3 = '' OR kind = $3) AND (cardinality($5::text[]) = 0 OR project = ANY ($5::text[]))
		ORDER BY id DESC LIMIT $2) j)
ORDER BY id DESC LIMIT $2`
)

// before returns what the keys of a page lie below, in a list of the newest first.
func before(page store.Page) int64 {
	if page.After == 0 {
		return math.MaxInt64
	}
	return page.After
}

// ListJobs implements store.Jobs.
func (s *Store) ListJobs(ctx context.Context, f store.JobFilter, page store.Page) ([]job.Job, error) {
	states := make([]string, len(f.States))
	for i, state := range f.States {
		states[i] = string(state)
	}
	kind, projects := store.CleanText(f.Kind, store.MaxName), f.Of()
	switch {
	case f.Open():
		return s.jobs(ctx, "list open jobs", listOpenJobs, before(page), max(page.Size, 1), kind, states, projects)
	case len(projects) == 0:
		return s.jobs(ctx, "list jobs", listJobs, before(page), max(page.Size, 1), kind, states)
	case len(projects) == 1:
		return s.jobs(ctx, "list jobs", listJobsOfProject, before(page), max(page.Size, 1), kind, states, projects[0])
	default:
		return s.jobs(ctx, "list jobs", listJobsOfProjects, before(page), max(page.Size, 1), kind, states, projects)
	}
}

const listClaimable = `SELECT ` + jobColumns + ` FROM jobs WHERE state = 'running'`

// ClaimableJobs implements store.Jobs.
func (s *Store) ClaimableJobs(ctx context.Context) ([]job.Job, error) {
	return s.jobs(ctx, "list claimable jobs", listClaimable)
}

// stopJobs leaves what a retry took back and has not moved to the next fold.
const stopJobs = `
UPDATE jobs
SET state = 'cancelling', stop_as = $2, reason = $3, retrying = 0, revision = revision + 1, updated_at = clock_timestamp()
WHERE id = ANY ($1::bigint[]) AND state IN ('running', 'paused')
RETURNING id`

// StopJob implements store.Jobs.
func (s *Store) StopJob(ctx context.Context, id int64, as job.State, reason string) (job.Job, error) {
	var list []job.Job
	err := s.write(ctx, "stop job", func(_ context.Context, t *tx) error {
		list = nil
		// The upload first, as ingest does: a group that is being committed counts before the job is stopped, and a
		// later one sees that it is.
		t.queue(lockUploadOfJob, id)
		t.queue(stopJobs, []int64{id}, string(as), store.CleanText(reason, store.MaxMessage))
		t.queue(selectJob, id).Query(func(rows pgx.Rows) (err error) {
			list, err = pgx.CollectRows(rows, scanJob)
			return err
		})
		return nil
	})
	if err != nil {
		return job.Job{}, err
	}
	if len(list) == 0 {
		return job.Job{}, fmt.Errorf("job %d: %w", id, store.ErrNotFound)
	}
	return list[0], nil
}

const selectCancelling = `SELECT id FROM jobs WHERE state = 'cancelling'`

// CancellingJobs implements store.Jobs.
func (s *Store) CancellingJobs(ctx context.Context) ([]int64, error) {
	return s.ids(ctx, "list jobs being stopped", selectCancelling)
}

func (s *Store) ids(ctx context.Context, what, sql string, args ...any) ([]int64, error) {
	var list []int64
	err := s.call(ctx, what, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	return list, err
}

// lockSwept locks pending batches of a job that is being stopped: the fresh ones by their index, and of the returned
// ones, of which there are few, those of the job.
const lockSwept = `
WITH fresh AS MATERIALIZED (
    SELECT b.id
    FROM batches b
    WHERE b.job_id = $1 AND b.state = 0 AND b.available_at IS NULL
      AND (SELECT j.state = 'cancelling' FROM jobs j WHERE j.id = $1)
    ORDER BY b.ordinal
    LIMIT $2
    FOR UPDATE OF b SKIP LOCKED
), returned AS MATERIALIZED (
    SELECT b.id
    FROM batches b
    WHERE b.job_id = $1 AND ` + returnedBatches + `
      AND (SELECT j.state = 'cancelling' FROM jobs j WHERE j.id = $1)
    ORDER BY b.available_at, b.id
    LIMIT $2 - (SELECT count(*) FROM fresh)
    FOR UPDATE OF b SKIP LOCKED
), choosy AS MATERIALIZED (
    SELECT b.id
    FROM batches b
    WHERE b.job_id = $1 AND ` + choosyBatches + `
      AND (SELECT j.state = 'cancelling' FROM jobs j WHERE j.id = $1)
    ORDER BY b.available_at, b.id
    LIMIT $2 - (SELECT count(*) FROM fresh) - (SELECT count(*) FROM returned)
    FOR UPDATE OF b SKIP LOCKED
)
SELECT ` + heldColumns + `
FROM batches b
WHERE b.id = ANY (ARRAY(SELECT id FROM fresh UNION ALL SELECT id FROM returned UNION ALL SELECT id FROM choosy))
ORDER BY b.id
FOR UPDATE`

const sweepBatches = `
UPDATE batches b
SET state = 5, done_items = b.item_count, outcomes = b.outcomes || w.outcomes, settled_at = clock_timestamp(),
    available_at = NULL, avoid_until = NULL
FROM unnest($1::bigint[], $2::bytea[]) AS w(id, outcomes)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[])`

// SweepJob implements store.Jobs.
func (s *Store) SweepJob(ctx context.Context, id int64, limit int) (int, error) {
	var n int
	err := s.write(ctx, "cancel batches", func(ctx context.Context, t *tx) error {
		n = 0
		var e ending
		e.lock(t, lockSwept, id, limit)
		if err := t.send(ctx); err != nil {
			return err
		}
		if len(e.order) == 0 {
			return errNothing
		}
		var y tally
		d := y.of(id)
		outcomes := make([][]byte, len(e.order))
		for i, batch := range e.order {
			b := e.held[batch]
			outcomes[i] = []byte{}
			if rest := b.ItemCount - b.DoneItems; rest > 0 {
				runs := []job.Run{{Count: rest, Outcome: job.ItemCancelled}}
				outcomes[i] = job.AppendRuns(outcomes[i], runs)
				d.AddRuns(runs)
			}
			d.Move(job.BatchPending, job.BatchCancelled)
			if b.RootID == 0 {
				d.End(b.ID, job.BatchCancelled, b.Crashes > 0, 0)
			}
		}
		t.queue(sweepBatches, e.order, outcomes)
		y.queue(t)
		n = len(e.order)
		return nil
	})
	return n, err
}

// dirtyJobs jumps from job to job in the index of deltas, however many each has.
const dirtyJobs = `
WITH RECURSIVE dirty(id) AS (
    (SELECT job_id FROM job_deltas ORDER BY job_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.job_id FROM job_deltas d WHERE d.job_id > dirty.id ORDER BY d.job_id LIMIT 1)
    FROM dirty WHERE dirty.id IS NOT NULL
)
SELECT id FROM dirty WHERE id IS NOT NULL
UNION
SELECT id FROM jobs
WHERE state IN ('running', 'paused', 'cancelling') AND batches_pending = 0 AND batches_running = 0
  AND (state = 'cancelling' OR ingest_done AND retrying = 0)`

// DirtyJobs implements store.Jobs.
func (s *Store) DirtyJobs(ctx context.Context) ([]int64, error) {
	return s.ids(ctx, "list jobs with changes", dirtyJobs)
}

const deleteJob = `
UPDATE jobs SET deleted_at = clock_timestamp()
WHERE id = $1 AND ended_at IS NOT NULL AND deleted_at IS NULL
RETURNING id`

// deleteUpload frees the upload's id for another job.
const deleteUpload = `
DELETE FROM uploads u USING jobs j WHERE u.job_id = $1 AND j.id = u.job_id AND j.deleted_at IS NOT NULL`

// DeleteJob implements store.Jobs.
func (s *Store) DeleteJob(ctx context.Context, id int64) error {
	var deleted []int64
	err := s.write(ctx, "delete job", func(_ context.Context, t *tx) error {
		deleted = nil
		t.queue(lockUploadOfJob, id)
		ids(t.queue(deleteJob, id), &deleted)
		t.queue(deleteUpload, id)
		return nil
	})
	if err != nil || len(deleted) > 0 {
		return err
	}
	_, err = s.GetJob(ctx, id)
	if err != nil {
		return err
	}
	return fmt.Errorf("job %d: %w", id, store.ErrJobOpen)
}
