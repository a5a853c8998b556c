package postgres

import (
	"context"
	"fmt"

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

const badColumns = `b.id, b.ordinal, b.state, b.crashes, b.losses, b.item_count, b.outcomes, coalesce(b.ended_run, 0), coalesce(b.root_id, 0)`

// lockNamed locks those of the named batches that may be retried. Job and state are compared in ways that cannot be searched
// for: rows are found by their id.
const lockNamed = `
SELECT ` + badColumns + `
FROM batches b
WHERE b.id = ANY ($2::bigint[]) AND b.job_id IS NOT DISTINCT FROM $1::bigint AND array_position($3::smallint[], b.state) IS NOT NULL
ORDER BY b.id
FOR UPDATE`

// lockBad locks the next batches that ended badly, whatever the retry is about, so that a step never looks at more: at
// those and the parts that share the last one's ordinal.
const lockBad = `
WITH bad AS MATERIALIZED (
    SELECT w.id
    FROM (
        SELECT b.id, b.ordinal FROM batches b
        WHERE b.job_id = $1 AND b.ordinal >= $2 AND (b.ordinal > $2 OR b.id > $3) AND b.state IN (3, 4, 5)
        ORDER BY b.ordinal
        FETCH FIRST $4 ROWS WITH TIES
    ) w
    ORDER BY w.ordinal, w.id
    LIMIT $4
)
SELECT ` + badColumns + `
FROM batches b
WHERE b.id = ANY (ARRAY(SELECT id FROM bad)) AND b.state IN (3, 4, 5)
ORDER BY b.id
FOR UPDATE`

const reopenBatches = `
UPDATE batches b
SET state = 0, failures = 0, crashes = 0, losses = 0, lone_losses = 0, lone_deaths = 0, suspect = 0, died_on = '', solo = false,
    done_items = w.done_items, outcomes = w.outcomes, settled_at = NULL, ended_run = NULL, available_at = clock_timestamp()
FROM unnest($1::bigint[], $2::integer[], $3::bytea[]) AS w(id, done_items, outcomes)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[])`

const forgetReopened = `DELETE FROM slowest_batches WHERE job_id = $1 AND batch_id = ANY ($2::bigint[])`

// lockEnds waits for transactions that end batches of a job badly and have begun to (type ending, queue), and keeps others
// from it: what the retry sees of such ends is all of those that belong to the runs before it. Batches are locked before.
const lockEnds = `SELECT pg_advisory_xact_lock($1, ($2::bigint % 2147483647)::integer)`

const retryJob = `
UPDATE jobs
SET state = CASE WHEN ended_at IS NULL THEN state ELSE 'running' END, stop_as = '', reason = '', ended_at = NULL,
    run = $3, retried_at = clock_timestamp(), retry_request_id = $2, retrying = $4, retry_from = 0, retry_after = 0,
    forgiven_bad = $5, items_failed = $6, items_crashed = $7, items_cancelled = $8, taken_back_failed = $9,
    taken_back_crashed = $10, taken_back_cancelled = $11, revision = revision + 1, updated_at = clock_timestamp()
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
		t.queue(lockEnds, retryLock, id)
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
		d := y.of(id)
		j.Retry(retried, &unfolded, d)
		o, taken := &j.ItemOutcomes, &j.TakenBack
		t.queue(retryJob, id, requestID, j.Run, j.Retrying, j.ForgivenBad, o[job.ItemFailed], o[job.ItemCrashed],
			o[job.ItemCancelled], taken[job.ItemFailed], taken[job.ItemCrashed], taken[job.ItemCancelled])
		t.queue(touchUpload, id)
		if d.Counters != (job.Counters{}) {
			y.queue(t)
		}
		t.queue(selectJob, id).Query(selected)
		return nil
	})
	if err != nil {
		return job.Job{}, err
	}
	return list[0], nil
}

const lockRetrying = `
SELECT run, retrying, retry_from, retry_after, taken_back_failed, taken_back_crashed, taken_back_cancelled
FROM jobs
WHERE id = $1 AND retrying <> 0 AND deleted_at IS NULL
FOR NO KEY UPDATE`

const moveRetry = `
UPDATE jobs
SET retrying = $2, retry_from = $3, retry_after = $4, taken_back_failed = $5, taken_back_crashed = $6, taken_back_cancelled = $7
WHERE id = $1`

// RetryStep implements store.Jobs. The job's row is locked before its batches, which those who end them do not.
func (s *Store) RetryStep(ctx context.Context, id int64, limit int) (moved int, more bool, err error) {
	limit = max(limit, 1)
	err = s.write(ctx, "retry batches", func(ctx context.Context, t *tx) error {
		var (
			j     job.Job
			from  int32 // ordinal
			after int64 // id, of those with that ordinal
			y     tally
			bad   reopening
		)
		moved, more = 0, false
		taken := &j.TakenBack
		each(t.queue(lockRetrying, id), func(row pgx.Rows) error {
			return row.Scan(&j.Run, &j.Retrying, &from, &after, &taken[job.ItemFailed], &taken[job.ItemCrashed], &taken[job.ItemCancelled])
		})
		if err := t.send(ctx); err != nil {
			return err
		}
		if j.Retrying == 0 {
			return errNothing
		}
		bad.lock(t, lockBad, id, from, after, limit)
		if err := t.send(ctx); err != nil {
			return err
		}
		d := y.of(id)
		for i := range bad.batches {
			b := &bad.batches[i]
			if b.Ordinal > from || b.Ordinal == from && b.ID > after {
				from, after = b.Ordinal, b.ID
			}
			if j.Retrying.Has(b.State) && b.endedRun < j.Run {
				bad.reopen(b, d)
			}
		}
		j.Moved(d)
		if moved, more = len(bad.ids), len(bad.batches) == limit; !more {
			j.EndRetry(&d.Counters)
		}
		bad.queue(t, id)
		t.queue(moveRetry, id, j.Retrying, from, after, taken[job.ItemFailed], taken[job.ItemCrashed], taken[job.ItemCancelled])
		if d.Counters != (job.Counters{}) {
			y.queue(t)
		}
		return nil
	})
	return moved, more, err
}

const selectRetrying = `SELECT id FROM jobs WHERE state IN ('running', 'paused') AND retrying <> 0 AND deleted_at IS NULL`

// RetryingJobs implements store.Jobs.
func (s *Store) RetryingJobs(ctx context.Context) ([]int64, error) {
	return s.ids(ctx, "list retried jobs", selectRetrying)
}

// badBatch is a batch that ended badly.
type badBatch struct {
	job.Batch
	endedRun int32 // of its job; 0 of one that was cancelled, which is always that of an earlier run
}

// reopening is batches that ended badly, locked by this transaction, and what those of them get that are tried again.
type reopening struct {
	batches  []badBatch
	ids      []int64
	done     []int32
	outcomes [][]byte
}

func (x *reopening) lock(t *tx, sql string, args ...any) {
	each(t.queue(sql, args...), func(row pgx.Rows) error {
		var (
			b        badBatch
			outcomes []byte
		)
		err := row.Scan(&b.ID, &b.Ordinal, &b.State, &b.Crashes, &b.Losses, &b.ItemCount, &outcomes, &b.endedRun, &b.RootID)
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

func (x *reopening) reopen(b *badBatch, d *job.Delta) {
	kept := d.Reopen(&b.Batch)
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
