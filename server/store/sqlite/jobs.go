package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// counterColumns name the counters of a job, in the order of counters.
const counterColumns = `items_total, items_in_flight, items_stored, items_stored_with_warnings, items_rejected, items_skipped,
	items_document_missing, items_failed, items_crashed, items_cancelled, batches_pending, batches_running,
	batches_completed, batches_failed, batches_crashed, batches_cancelled, annotations, bytes_read, errors, warnings,
	batches_crashed_ever, batches_split`

// counters returns a job's counters in the order of counterColumns.
func counters(c *job.Counters) []any {
	o, b := &c.ItemOutcomes, &c.Batches
	return []any{
		&c.ItemsTotal, &c.ItemsInFlight, &o[job.Stored], &o[job.StoredWarnings], &o[job.Rejected], &o[job.Skipped],
		&o[job.DocumentMissing], &o[job.ItemFailed], &o[job.ItemCrashed], &o[job.ItemCancelled], &b[job.BatchPending],
		&b[job.BatchRunning], &b[job.BatchCompleted], &b[job.BatchFailed], &b[job.BatchCrashed], &b[job.BatchCancelled],
		&c.Annotations, &c.BytesRead, &c.Errors, &c.Warnings, &c.CrashedEver, &b[job.BatchSplit],
	}
}

const jobColumns = `id, upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, state, stop_as,
	reason, ingest_done, revision, run, retrying, forgiven_bad, taken_back_failed, taken_back_crashed, taken_back_cancelled,
	submitted_at, started_at, retried_at, ended_at, updated_at, ` + counterColumns

func scanJob(row scanner) (j job.Job, err error) {
	var parameters, labels, policy []byte
	var submitted, started, retried, ended, updated sql.NullInt64
	err = row.Scan(append([]any{
		&j.ID, &j.UploadID, &j.Project, &j.Kind, &j.Mode, &parameters, &labels, &policy, &j.Priority, &j.FileName, &j.Size,
		&j.State, &j.StopAs, &j.Reason, &j.IngestDone, &j.Revision, &j.Run, &j.Retrying, &j.ForgivenBad, &j.TakenBack[job.ItemFailed],
		&j.TakenBack[job.ItemCrashed], &j.TakenBack[job.ItemCancelled], &submitted, &started,
		&retried, &ended, &updated,
	}, counters(&j.Counters)...)...)
	if err != nil {
		return j, err
	}
	j.SubmittedAt, j.StartedAt, j.RetriedAt = moment(submitted), moment(started), moment(retried)
	j.EndedAt, j.UpdatedAt = moment(ended), moment(updated)
	err = errors.Join(
		json.Unmarshal(parameters, &j.Parameters), json.Unmarshal(labels, &j.Labels), json.Unmarshal(policy, &j.Policy))
	if err != nil {
		return j, fmt.Errorf("read job %d: %w", j.ID, err)
	}
	return j, nil
}

// getJob reads a job that is not being deleted; store.ErrNotFound otherwise.
func getJob(q querier, id int64) (job.Job, error) {
	list, err := collect(q, scanJob, "SELECT "+jobColumns+" FROM jobs WHERE id = ? AND deleted_at IS NULL", id)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return job.Job{}, err
	}
	return list[0], nil
}

// GetJob implements store.Jobs.
func (s *Store) GetJob(ctx context.Context, id int64) (j job.Job, err error) {
	err = s.read(ctx, func(q *snapshot) (err error) {
		j, err = getJob(q, id)
		return err
	})
	return j, wrap("get job", err)
}

// ListJobs implements store.Jobs.
func (s *Store) ListJobs(ctx context.Context, f store.JobFilter, page store.Page) (list []job.Job, err error) {
	query, args := listJobs(f, page)
	err = s.read(ctx, func(q *snapshot) (err error) {
		list, err = collect(q, scanJob, query, args...)
		return err
	})
	return list, wrap("list jobs", err)
}

func listJobs(f store.JobFilter, page store.Page) (query string, args []any) {
	var where strings.Builder
	add := func(condition string, value any) {
		where.WriteString(" AND " + condition)
		args = append(args, value)
	}
	if page.After > 0 {
		add("id < ?", page.After)
	}
	if projects := f.Of(); len(projects) == 1 {
		add("project = ?", projects[0])
	} else if len(projects) > 1 {
		where.WriteString(" AND project IN (" + placeholders(len(projects)) + ")")
		for _, project := range projects {
			args = append(args, project)
		}
	}
	if f.Kind != "" {
		add("kind = ?", f.Kind)
	}
	size := max(page.Size, 1)
	if !f.Open() {
		if len(f.States) > 0 {
			where.WriteString(" AND state IN (" + placeholders(len(f.States)) + ")")
			for _, state := range f.States {
				args = append(args, state)
			}
		}
		return "SELECT " + jobColumns + " FROM jobs WHERE deleted_at IS NULL" + where.String() + " ORDER BY id DESC LIMIT ?", append(args, size)
	}
	// Of each state a page at most is read, from the index of open jobs.
	parts, all := make([]string, len(f.States)), make([]any, 0, len(f.States)*(len(args)+2)+1)
	for i, state := range f.States {
		parts[i] = "SELECT * FROM (SELECT id FROM jobs INDEXED BY jobs_open WHERE ended_at IS NULL AND state = ?" + where.String() +
			" ORDER BY id DESC LIMIT ?)"
		all = append(append(append(all, state), args...), size)
	}
	return "SELECT " + jobColumns + " FROM jobs WHERE id IN (" + strings.Join(parts, " UNION ALL ") + ") ORDER BY id DESC LIMIT ?",
		append(all, size)
}

// ClaimableJobs implements store.Jobs.
func (s *Store) ClaimableJobs(ctx context.Context) (list []job.Job, err error) {
	err = s.read(ctx, func(q *snapshot) (err error) {
		list, err = collect(q, scanJob, "SELECT "+jobColumns+" FROM jobs WHERE ended_at IS NULL AND state = 'running'")
		return err
	})
	return list, wrap("list claimable jobs", err)
}

// StopJob implements store.Jobs.
func (s *Store) StopJob(ctx context.Context, id int64, as job.State, reason string) (j job.Job, err error) {
	err = s.write(ctx, settling, func(t *tx) (err error) {
		if j, err = getJob(t, id); err != nil || j.State.Stopping() {
			return err
		}
		if err = t.stop(id, as, reason); err != nil {
			return err
		}
		j, err = getJob(t, id)
		return err
	})
	return j, wrap("stop job", err)
}

// stop makes a running or paused job cancelling. What a retry took back and has not moved it leaves to the next fold.
func (t *tx) stop(id int64, as job.State, reason string) error {
	_, err := t.change(`UPDATE jobs SET state = 'cancelling', stop_as = ?, reason = ?, retrying = 0,
			revision = revision + 1, updated_at = ?
		WHERE id = ? AND state IN ('running', 'paused')`, as, store.CleanText(reason, store.MaxMessage), micros(t.now), id)
	if err != nil {
		return fmt.Errorf("stop job %d: %w", id, err)
	}
	return nil
}

// stepTime bounds a step of work that can be split, so that urgent writes do not wait for it.
const stepTime = 20 * time.Millisecond

// SweepJob implements store.Jobs. A step takes at most stepTime, and cancels at least one batch when there is one.
func (s *Store) SweepJob(ctx context.Context, id int64, limit int) (n int, err error) {
	err = s.write(ctx, ingesting, func(t *tx) error {
		g := newGroup(t)
		rules, err := g.rules(id)
		if err != nil || rules.state != job.Cancelling {
			return err
		}
		pending, err := g.pending(id, limit)
		if err != nil {
			return err
		}
		start := time.Now()
		for n = 0; n < len(pending) && (n == 0 || time.Since(start) < stepTime); n++ {
			if err := g.cancel(&pending[n]); err != nil {
				return err
			}
		}
		return g.flush()
	})
	if err != nil {
		return 0, wrap("cancel pending batches", err)
	}
	return n, nil
}

// pending returns pending batches of a job, fresh ones first.
func (g *group) pending(jobID int64, limit int) ([]held, error) {
	list, err := collect(g, scanHeld, "SELECT "+heldColumns+` FROM batches
		WHERE job_id = ? AND state = 0 AND available_at IS NULL ORDER BY ordinal LIMIT ?`, jobID, limit)
	if err != nil || len(list) >= limit {
		return list, err
	}
	for _, class := range []string{returnedBatches, choosyBatches} {
		returned, err := collect(g, scanHeld, "SELECT "+heldColumns+` FROM batches
			WHERE job_id = ? AND `+class+` ORDER BY available_at, id LIMIT ?`, jobID, limit-len(list))
		if err != nil {
			return nil, err
		}
		list = append(list, returned...)
	}
	return list, nil
}

// cancel ends a pending batch.
func (g *group) cancel(h *held) error {
	undone := []job.Run{{Count: h.ItemCount - h.DoneItems, Outcome: job.ItemCancelled}}
	err := g.only(`UPDATE batches SET state = ?, done_items = item_count, outcomes = CAST(outcomes || ? AS BLOB),
			settled_at = ?, available_at = NULL, avoid_until = NULL
		WHERE id = ? AND state = 0`, job.BatchCancelled, blob(job.AppendRuns(nil, undone)), micros(g.now), h.ID)
	if err != nil {
		return fmt.Errorf("cancel batch %d: %w", h.ID, err)
	}
	d := g.delta(h.JobID)
	d.Move(job.BatchPending, job.BatchCancelled)
	d.AddRuns(undone)
	if h.RootID == 0 {
		d.End(h.ID, job.BatchCancelled, h.Crashes > 0, 0)
	}
	return nil
}

// CancellingJobs implements store.Jobs.
func (s *Store) CancellingJobs(ctx context.Context) (ids []int64, err error) {
	err = s.read(ctx, func(q *snapshot) (err error) {
		ids, err = collect(q, number, "SELECT id FROM jobs WHERE ended_at IS NULL AND state = 'cancelling' ORDER BY id")
		return err
	})
	return ids, wrap("list cancelling jobs", err)
}

// DeleteJob implements store.Jobs.
func (s *Store) DeleteJob(ctx context.Context, id int64) error {
	err := s.write(ctx, settling, func(t *tx) error {
		j, err := getJob(t, id)
		if err != nil {
			return err
		}
		if !j.State.Ended() {
			return store.ErrJobOpen
		}
		return t.hide(id)
	})
	return wrap("delete job", err)
}

// hide marks a job that has ended as deleted. The id of its upload may be used again at once.
func (t *tx) hide(id int64) error {
	if err := t.only("UPDATE jobs SET deleted_at = ? WHERE id = ?", micros(t.now), id); err != nil {
		return err
	}
	return t.only("DELETE FROM uploads WHERE job_id = ?", id)
}

// DirtyJobs implements store.Jobs.
func (s *Store) DirtyJobs(ctx context.Context) (ids []int64, err error) {
	err = s.read(ctx, func(q *snapshot) (err error) {
		ids, err = collect(q, number, `SELECT job_id FROM job_deltas
			UNION SELECT id FROM jobs WHERE ended_at IS NULL AND batches_pending = 0 AND batches_running = 0
				AND (state = 'cancelling' OR ingest_done = 1 AND retrying = 0)
			ORDER BY 1`)
		return err
	})
	return ids, wrap("list changed jobs", err)
}
