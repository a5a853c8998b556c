package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// badBatch is a batch that ended badly.
type badBatch struct {
	job.Batch
	endedRun int32 // of its job; 0 of one that was cancelled, which is always that of an earlier run
}

const badColumns = "id, ordinal, state, crashes, losses, item_count, outcomes, coalesce(ended_run, 0), coalesce(root_id, 0)"

func scanBad(row scanner) (b badBatch, err error) {
	var outcomes []byte
	err = row.Scan(&b.ID, &b.Ordinal, &b.State, &b.Crashes, &b.Losses, &b.ItemCount, &outcomes, &b.endedRun, &b.RootID)
	if err != nil {
		return b, err
	}
	if b.Outcomes, err = job.ParseRuns(outcomes); err != nil {
		return b, fmt.Errorf("read batch %d: %w", b.ID, err)
	}
	return b, nil
}

// RetryJob implements store.Jobs.
func (s *Store) RetryJob(ctx context.Context, id int64, r store.Retry) (j job.Job, err error) {
	requestID := store.CleanText(r.RequestID, store.MaxName)
	err = s.write(ctx, settling, func(t *tx) error {
		if j, err = getJob(t, id); err != nil {
			return err
		}
		var last string
		if err := one(t, []any{&last}, "SELECT retry_request_id FROM jobs WHERE id = ?", id); err != nil {
			return err
		}
		switch {
		case requestID != "" && last == requestID:
			return nil
		case j.State == job.Cancelling:
			return store.ErrJobOpen
		}
		g := newGroup(t)
		retried, moved, err := g.retry(&j, r)
		if err != nil {
			return err
		}
		if retried == 0 && moved == 0 {
			u, err := upload(t, "u.job_id = ?", id)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err != nil || u.Finished || !j.State.Ended() || len(r.Batches)+len(r.States) > 0 {
				return store.ErrNothingToRetry
			}
		}
		unfolded, _, err := t.unfolded(id)
		if err != nil {
			return err
		}
		d := g.delta(id)
		j.Retry(retried, unfolded, d)
		o, taken := &j.ItemOutcomes, &j.TakenBack
		err = t.only(`UPDATE jobs SET state = CASE WHEN ended_at IS NULL THEN state ELSE 'running' END, stop_as = '', reason = '',
				ended_at = NULL, run = ?1, retried_at = ?2, retry_request_id = ?3, retrying = ?4, retry_from = 0, retry_after = 0,
				forgiven_bad = ?5, items_failed = ?6, items_crashed = ?7, items_cancelled = ?8, taken_back_failed = ?9,
				taken_back_crashed = ?10, taken_back_cancelled = ?11, revision = revision + 1, updated_at = ?2
			WHERE id = ?12`, j.Run, micros(t.now), requestID, j.Retrying, j.ForgivenBad, o[job.ItemFailed], o[job.ItemCrashed],
			o[job.ItemCancelled], taken[job.ItemFailed], taken[job.ItemCrashed], taken[job.ItemCancelled], id)
		if err != nil {
			return err
		}
		if d.Counters == (job.Counters{}) {
			delete(g.deltas, id)
		}
		if err := t.touchUpload(id); err != nil {
			return err
		}
		if err := g.flush(); err != nil {
			return err
		}
		j, err = getJob(t, id)
		return err
	})
	if err != nil {
		return job.Job{}, wrap("retry job", err)
	}
	return j, nil
}

// retry moves the named batches of a retry, or returns the states of those that are to be moved in steps, if any is there.
func (g *group) retry(j *job.Job, r store.Retry) (retried job.States, moved int, err error) {
	if len(r.Batches) == 0 {
		if j.State.Ended() { // what it counts is all there is
			if j.HasBad(r.Set()) {
				retried = r.Set()
			}
			return retried, 0, nil
		}
		var some int64
		err := each(g, func(row scanner) error { return row.Scan(&some) },
			"SELECT 1 FROM batches WHERE job_id = ?1 AND state > 2 AND (?2 >> state) & 1 LIMIT 1", j.ID, r.Set())
		if err != nil || some == 0 {
			return 0, 0, err
		}
		return r.Set(), 0, nil
	}
	list, err := collect(g, scanBad, "SELECT "+badColumns+` FROM batches
		WHERE id IN (SELECT value FROM json_each(?)) AND +job_id = ? AND state > 2 AND (? >> state) & 1 ORDER BY id`,
		array(r.Batches), j.ID, r.Set())
	if err != nil {
		return 0, 0, fmt.Errorf("look for batches to retry: %w", err)
	}
	for i := range list {
		if err := g.reopen(j.ID, &list[i]); err != nil {
			return 0, 0, err
		}
	}
	return 0, len(list), nil
}

// reopen makes a batch that ended badly pending.
func (g *group) reopen(jobID int64, b *badBatch) error {
	kept := g.delta(jobID).Reopen(&b.Batch)
	err := g.only(`UPDATE batches SET state = 0, failures = 0, crashes = 0, losses = 0, lone_losses = 0, lone_deaths = 0, suspect = 0,
			died_on = '', solo = 0, done_items = ?, outcomes = ?, settled_at = NULL, ended_run = NULL, available_at = ?
		WHERE id = ? AND state = ?`, job.Items(kept), blob(job.AppendRuns(nil, kept)), micros(g.now), b.ID, b.State)
	if err != nil {
		return fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	err = g.exec("DELETE FROM slowest_batches WHERE job_id = ? AND batch_id = ?", jobID, b.ID)
	if err != nil {
		return fmt.Errorf("forget duration of batch %d: %w", b.ID, err)
	}
	return nil
}

// RetryStep implements store.Jobs. A step takes at most stepTime, and looks at least at one batch when there is one.
func (s *Store) RetryStep(ctx context.Context, id int64, limit int) (moved int, more bool, err error) {
	limit = max(limit, 1)
	err = s.write(ctx, ingesting, func(t *tx) error {
		moved, more = 0, false
		var j job.Job
		var from int32  // ordinal
		var after int64 // id, of those with that ordinal
		taken := &j.TakenBack
		err := each(t, func(row scanner) error {
			return row.Scan(&j.Run, &j.Retrying, &from, &after, &taken[job.ItemFailed], &taken[job.ItemCrashed], &taken[job.ItemCancelled])
		}, `SELECT run, retrying, retry_from, retry_after, taken_back_failed, taken_back_crashed, taken_back_cancelled
			FROM jobs WHERE id = ? AND retrying <> 0 AND deleted_at IS NULL`, id)
		if err != nil || j.Retrying == 0 {
			return err
		}
		list, err := collect(t, scanBad, "SELECT "+badColumns+` FROM batches
			WHERE job_id = ?1 AND ordinal >= ?2 AND (ordinal > ?2 OR id > ?3) AND state > 2 AND state < 6
			ORDER BY ordinal, id LIMIT ?4`,
			id, from, after, limit)
		if err != nil {
			return fmt.Errorf("look for batches to retry: %w", err)
		}
		g := newGroup(t)
		d := g.delta(id)
		start := time.Now()
		n := 0
		for ; n < len(list) && (n == 0 || time.Since(start) < stepTime); n++ {
			b := &list[n]
			from, after = b.Ordinal, b.ID
			if !j.Retrying.Has(b.State) || b.endedRun >= j.Run {
				continue
			}
			if err := g.reopen(id, b); err != nil {
				return err
			}
			moved++
		}
		j.Moved(d)
		if more = n < len(list) || n == limit; !more {
			j.EndRetry(&d.Counters)
		}
		err = g.only(`UPDATE jobs SET retrying = ?, retry_from = ?, retry_after = ?, taken_back_failed = ?, taken_back_crashed = ?,
			taken_back_cancelled = ? WHERE id = ?`, j.Retrying, from, after, taken[job.ItemFailed], taken[job.ItemCrashed],
			taken[job.ItemCancelled], id)
		if err != nil {
			return err
		}
		if d.Counters == (job.Counters{}) {
			return nil
		}
		return g.flush()
	})
	if err != nil {
		return 0, false, wrap("retry batches", err)
	}
	return moved, more, nil
}

// RetryingJobs implements store.Jobs.
func (s *Store) RetryingJobs(ctx context.Context) (ids []int64, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		ids, err = collect(q, number, "SELECT id FROM jobs WHERE ended_at IS NULL AND retrying <> 0 AND deleted_at IS NULL ORDER BY id")
		return err
	})
	return ids, wrap("list retried jobs", err)
}
