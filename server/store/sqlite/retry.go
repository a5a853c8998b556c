package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const badColumns = "id, ordinal, state, crashes, losses, item_count, outcomes, settled_at"

func scanBad(row scanner) (b job.Batch, err error) {
	var outcomes []byte
	var settled int64
	err = row.Scan(&b.ID, &b.Ordinal, &b.State, &b.Crashes, &b.Losses, &b.ItemCount, &outcomes, &settled)
	if err != nil {
		return b, err
	}
	b.SettledAt = time.UnixMicro(settled).UTC()
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
		if moved > 0 {
			unfolded.Merge(g.delta(id))
		}
		err = t.only(`UPDATE jobs SET state = CASE WHEN ended_at IS NULL THEN state ELSE 'running' END, stop_as = '', reason = '',
				ended_at = NULL, run = run + 1, retried_at = ?1, retry_request_id = ?2, retrying = retrying | ?3,
				retry_from = CASE WHEN ?3 = 0 THEN retry_from ELSE 0 END, forgiven_bad = ?4, revision = revision + 1, updated_at = ?1
			WHERE id = ?5`, micros(t.now), requestID, retried, j.Forgive(retried, unfolded), id)
		if err != nil {
			return err
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
func (g *group) reopen(jobID int64, b *job.Batch) error {
	kept := g.delta(jobID).Reopen(b)
	err := g.only(`UPDATE batches SET state = 0, failures = 0, crashes = 0, losses = 0, lone_losses = 0, done_items = ?, outcomes = ?,
			settled_at = NULL, available_at = ?
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
		var retrying job.States
		var from int32
		var since int64
		err := each(t, func(row scanner) error { return row.Scan(&retrying, &from, &since) },
			"SELECT retrying, retry_from, retried_at FROM jobs WHERE id = ? AND retrying <> 0 AND deleted_at IS NULL", id)
		if err != nil || retrying == 0 {
			return err
		}
		list, err := collect(t, scanBad, "SELECT "+badColumns+` FROM batches
			WHERE job_id = ? AND ordinal >= ? AND state > 2 ORDER BY ordinal LIMIT ?`, id, from, limit)
		if err != nil {
			return fmt.Errorf("look for batches to retry: %w", err)
		}
		g := newGroup(t)
		start := time.Now()
		n := 0
		for ; n < len(list) && (n == 0 || time.Since(start) < stepTime); n++ {
			b := &list[n]
			from = b.Ordinal + 1
			if !retrying.Has(b.State) || b.SettledAt.UnixMicro() > since {
				continue
			}
			if err := g.reopen(id, b); err != nil {
				return err
			}
			moved++
		}
		if more = n < len(list) || n == limit; !more {
			retrying = 0
		}
		if err := g.only("UPDATE jobs SET retrying = ?, retry_from = ? WHERE id = ?", retrying, from, id); err != nil {
			return err
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
