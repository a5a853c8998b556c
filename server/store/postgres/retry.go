package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// selectDeltas reads what has changed since the job was folded. Who reads it has the job's row locked, so that nobody folds.
const selectDeltas = `SELECT delta FROM job_deltas WHERE job_id = $1`

const selectRetryRequest = `SELECT retry_request_id FROM jobs WHERE id = $1`

// anyBad looks for a batch in the states of a retry.
const anyBad = `
SELECT EXISTS (SELECT 1 FROM batches b WHERE b.job_id = $1 AND b.state IN (3, 4, 5) AND b.state = ANY ($2::smallint[]))`

const badColumns = `b.id, b.ordinal, b.state, b.crashes, b.losses, b.item_count, b.outcomes, b.settled_at`

// lockNamed locks those of the named batches that may be retried. Job and state are compared in ways that cannot be searched
// for: rows are found by their id.
const lockNamed = `
SELECT ` + badColumns + `
FROM batches b
WHERE b.id = ANY ($2::bigint[]) AND b.job_id IS NOT DISTINCT FROM $1::bigint AND array_position($3::smallint[], b.state) IS NOT NULL
ORDER BY b.id
FOR UPDATE`

// lockBad locks the next batches that ended badly, whatever the retry is about, so that a step never looks at more.
const lockBad = `
WITH bad AS MATERIALIZED (
    SELECT b.id FROM batches b
    WHERE b.job_id = $1 AND b.ordinal >= $2 AND b.state IN (3, 4, 5)
    ORDER BY b.ordinal
    LIMIT $3
)
SELECT ` + badColumns + `
FROM batches b
WHERE b.id = ANY (ARRAY(SELECT id FROM bad)) AND b.state IN (3, 4, 5)
ORDER BY b.id
FOR UPDATE`

const reopenBatches = `
UPDATE batches b
SET state = 0, failures = 0, crashes = 0, losses = 0, lone_losses = 0, done_items = w.done_items, outcomes = w.outcomes,
    settled_at = NULL, available_at = clock_timestamp()
FROM unnest($1::bigint[], $2::integer[], $3::bytea[]) AS w(id, done_items, outcomes)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[])`

const forgetReopened = `DELETE FROM slowest_batches WHERE job_id = $1 AND batch_id = ANY ($2::bigint[])`

const retryJob = `
UPDATE jobs
SET state = CASE WHEN ended_at IS NULL THEN state ELSE 'running' END, stop_as = '', reason = '', ended_at = NULL,
    run = run + 1, retried_at = clock_timestamp(), retry_request_id = $2, retrying = retrying | $3,
    retry_from = CASE WHEN $3 = 0 THEN retry_from ELSE 0 END, forgiven_bad = $4, revision = revision + 1,
    updated_at = clock_timestamp()
WHERE id = $1`

// RetryJob implements store.Jobs. It locks the upload first, as who stops a job does.
func (s *Store) RetryJob(ctx context.Context, id int64, r store.Retry) (job.Job, error) {
	requestID := store.CleanText(r.RequestID, store.MaxName)
	var list []job.Job
	selected := func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, scanJob)
		return err
	}
	err := s.write(ctx, "retry job", func(ctx context.Context, t *tx) error {
		list = nil
		var (
			up    store.Upload
			last  string
			named reopening
			found bool

			unfolded job.Delta
		)
		each(t.queue(lockUploadOfJob, id), func(row pgx.Rows) error { return scanUpload(row, &up) })
		t.queue(lockJob, id).Query(selected)
		each(t.queue(selectRetryRequest, id), func(row pgx.Rows) error { return row.Scan(&last) })
		if len(r.Batches) > 0 {
			named.lock(t, lockNamed, id, r.Batches, smallints(r.Set()))
		}
		// After the batches are locked, so that none is moved whose end is not among it.
		each(t.queue(selectDeltas, id), func(row pgx.Rows) error {
			var data []byte
			if err := row.Scan(&data); err != nil {
				return err
			}
			d, err := job.ParseDelta(data)
			if err != nil {
				return fmt.Errorf("job %d: %w", id, err)
			}
			unfolded.Merge(d)
			return nil
		})
		if err := t.send(ctx); err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("job %d: %w", id, store.ErrNotFound)
		}
		j := list[0]
		if j.State.Ended() {
			found = len(r.Batches) == 0 && j.HasBad(r.Set()) // what it counts is all there is
		} else if len(r.Batches) == 0 {
			t.queue(anyBad, id, smallints(r.Set())).QueryRow(func(row pgx.Row) error { return row.Scan(&found) })
			if err := t.send(ctx); err != nil {
				return err
			}
		}
		resumable := j.State.Ended() && up.JobID == id && !up.Finished && len(r.Batches)+len(r.States) == 0
		switch {
		case requestID != "" && last == requestID:
			return errNothing
		case j.State == job.Cancelling:
			return fmt.Errorf("job %d is being stopped: %w", id, store.ErrJobOpen)
		case !found && len(named.batches) == 0 && !resumable:
			return fmt.Errorf("job %d: %w", id, store.ErrNothingToRetry)
		}
		var retried job.States
		if found {
			retried = r.Set()
		}
		var y tally
		for i := range named.batches {
			named.reopen(&named.batches[i], y.of(id))
		}
		named.queue(t, id)
		unfolded.Merge(y.of(id))
		t.queue(retryJob, id, requestID, retried, j.Forgive(retried, &unfolded))
		t.queue(touchUpload, id)
		if len(named.ids) == 0 {
			y = tally{}
		}
		y.queue(t)
		t.queue(selectJob, id).Query(selected)
		return nil
	})
	if err != nil {
		return job.Job{}, err
	}
	return list[0], nil
}

const lockRetrying = `
SELECT retrying, retry_from, retried_at FROM jobs
WHERE id = $1 AND retrying <> 0 AND deleted_at IS NULL
FOR NO KEY UPDATE`

const moveRetry = `UPDATE jobs SET retrying = $2, retry_from = $3 WHERE id = $1`

// RetryStep implements store.Jobs. The job's row is locked before its batches, which those who end them do not.
func (s *Store) RetryStep(ctx context.Context, id int64, limit int) (moved int, more bool, err error) {
	limit = max(limit, 1)
	err = s.write(ctx, "retry batches", func(ctx context.Context, t *tx) error {
		var (
			retrying job.States
			from     int32
			since    time.Time
			y        tally
			bad      reopening
		)
		moved, more = 0, false
		each(t.queue(lockRetrying, id), func(row pgx.Rows) error { return row.Scan(&retrying, &from, &since) })
		if err := t.send(ctx); err != nil {
			return err
		}
		if retrying == 0 {
			return errNothing
		}
		bad.lock(t, lockBad, id, from, limit)
		if err := t.send(ctx); err != nil {
			return err
		}
		for i := range bad.batches {
			b := &bad.batches[i]
			from = max(from, b.Ordinal+1)
			if retrying.Has(b.State) && !b.SettledAt.After(since) {
				bad.reopen(b, y.of(id))
			}
		}
		if moved, more = len(bad.ids), len(bad.batches) == limit; !more {
			retrying = 0
		}
		bad.queue(t, id)
		t.queue(moveRetry, id, retrying, from)
		y.queue(t)
		return nil
	})
	return moved, more, err
}

const selectRetrying = `SELECT id FROM jobs WHERE state IN ('running', 'paused') AND retrying <> 0 AND deleted_at IS NULL`

// RetryingJobs implements store.Jobs.
func (s *Store) RetryingJobs(ctx context.Context) ([]int64, error) {
	return s.ids(ctx, "list retried jobs", selectRetrying)
}

// reopening is batches that ended badly, locked by this transaction, and what those of them get that are tried again.
type reopening struct {
	batches  []job.Batch
	ids      []int64
	done     []int32
	outcomes [][]byte
}

func (x *reopening) lock(t *tx, sql string, args ...any) {
	each(t.queue(sql, args...), func(row pgx.Rows) error {
		var (
			b        job.Batch
			outcomes []byte
		)
		err := row.Scan(&b.ID, &b.Ordinal, &b.State, &b.Crashes, &b.Losses, &b.ItemCount, &outcomes, &b.SettledAt)
		if err != nil {
			return err
		}
		if b.Outcomes, err = job.ParseRuns(outcomes); err != nil {
			return fmt.Errorf("batch %d: %w", b.ID, err)
		}
		x.batches = append(x.batches, b)
		return nil
	})
}

func (x *reopening) reopen(b *job.Batch, d *job.Delta) {
	kept := d.Reopen(b)
	x.ids = append(x.ids, b.ID)
	x.done = append(x.done, job.Items(kept))
	x.outcomes = append(x.outcomes, job.AppendRuns([]byte{}, kept))
}

func (x *reopening) queue(t *tx, jobID int64) {
	if len(x.ids) > 0 {
		t.queue(reopenBatches, x.ids, x.done, x.outcomes)
		t.queue(forgetReopened, jobID, x.ids)
	}
}

// smallints is a set of states as an array.
func smallints(set job.States) []int16 {
	list := []int16{}
	for _, state := range job.BatchStates() {
		if set.Has(state) {
			list = append(list, int16(state))
		}
	}
	return list
}
