package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const lockJob = `SELECT ` + jobColumns + ` FROM jobs WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE`

// takeDeltas is a statement of its own after the one that locks the job, so that it sees what was committed until then:
// all deltas of one snapshot, never a later one without those it built on.
const takeDeltas = `DELETE FROM job_deltas WHERE job_id = $1 RETURNING delta, sessions`

const selectSlowest = `SELECT batch_id, duration_us FROM slowest_batches WHERE job_id = $1`

// selectMinute is only read under the job's lock, by who then writes it. One reading of the clock serves both columns.
const selectMinute = `
SELECT c.now, coalesce((
    SELECT m.durations FROM job_minutes m WHERE m.job_id = $1 AND m.minute = date_trunc('minute', c.now)), '')
FROM (SELECT clock_timestamp() AS now OFFSET 0) c`

const updateJob = `
UPDATE jobs
SET state = $2, revision = $3, started_at = $4, ended_at = $5, updated_at = $6,
    (` + counterColumns + `) = ROW ($7::bigint, $8::bigint, $9::bigint, $10::bigint, $11::bigint, $12::bigint,
        $13::bigint, $14::bigint, $15::bigint, $16::bigint, $17::bigint, $18::bigint, $19::bigint, $20::bigint,
        $21::bigint, $22::bigint, $23::bigint, $24::bigint, $25::bigint, $26::bigint, $27::bigint, $28::bigint),
    ingest_done = $29, stop_as = $30, reason = $31, retrying = $32, taken_back_failed = $33,
    taken_back_crashed = $34, taken_back_cancelled = $35
WHERE id = $1`

const addMinute = `
INSERT INTO job_minutes AS m (job_id, minute, completed, failed, crashed, cancelled, with_crash, durations, acquitted)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (job_id, minute) DO UPDATE
SET completed = m.completed + excluded.completed, failed = m.failed + excluded.failed,
    crashed = m.crashed + excluded.crashed, cancelled = m.cancelled + excluded.cancelled,
    with_crash = m.with_crash + excluded.with_crash, durations = excluded.durations, acquitted = m.acquitted + excluded.acquitted`

const forgetSlowest = `DELETE FROM slowest_batches WHERE job_id = $1 AND batch_id <> ALL ($2::bigint[])`

const keepSlowest = `
INSERT INTO slowest_batches AS s (job_id, batch_id, duration_us, ended_at)
SELECT $1, w.batch_id, w.duration_us, $4 FROM unnest($2::bigint[], $3::bigint[]) AS w(batch_id, duration_us)
ON CONFLICT (job_id, batch_id) DO UPDATE SET duration_us = excluded.duration_us, ended_at = excluded.ended_at
WHERE s.duration_us <> excluded.duration_us`

// addToSessions locks the sessions in the order of their ids, since folds of other jobs count the same ones.
const addToSessions = `
WITH locked AS MATERIALIZED (SELECT id FROM sessions WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE)
UPDATE sessions s
SET completed = s.completed + w.completed, crashed = s.crashed + w.crashed
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w(id, completed, crashed)
WHERE s.id = w.id AND s.id = ANY (ARRAY(SELECT id FROM locked))`

// Fold implements store.Jobs.
func (s *Store) Fold(ctx context.Context, id int64) (job.Job, bool, error) {
	var (
		j       job.Job
		changed bool
	)
	fold := func(withUpload bool) error {
		return s.write(ctx, "count changes of job", func(ctx context.Context, t *tx) error {
			changed = false
			f := folding{sessions: map[int64]sessionCount{}}
			if withUpload {
				t.queue(lockUploadOfJob, id)
			}
			if err := f.read(ctx, t, id); err != nil {
				return err
			}
			j = f.job
			// A job that is being stopped, or whose retry found nothing, may end without anything having changed.
			f.job.Fold(&f.delta, f.now)
			if f.deltas == 0 && f.job.State == j.State {
				return errNothing
			}
			if !withUpload && !f.job.IngestDone && f.job.State.Stopping() && !j.State.Stopping() {
				return errUnlocked
			}
			ends := f.job.State.Ended() && !j.State.Ended()
			j, changed = f.job, true
			f.queue(t)
			if ends && s.deliverEnds.Load() {
				d, err := store.JobEnded(&j)
				t.queue(insertDelivery, d.ID, d.Event, d.Body)
				return err
			}
			return nil
		})
	}
	err := fold(false)
	if errors.Is(err, errUnlocked) {
		err = fold(true)
	}
	if err != nil {
		return job.Job{}, false, err
	}
	return j, changed, nil
}

// errUnlocked says that a fold stops a job to which its upload may be adding. Who stops a job locks the upload first, as
// ingest does, so that neither misses the other.
var errUnlocked = errors.New("the upload must be locked first")

// folding is a transaction that moves deltas into a job.
type folding struct {
	job      job.Job
	delta    job.Delta // all of them
	deltas   int
	sessions map[int64]sessionCount
	now      time.Time
	minute   job.Histogram // durations of the current minute
	slowest  []job.Settled
}

// read locks the job and takes its deltas. One that this program does not understand fails it, and so leaves them all
// to a program that does: those that came later build on it.
func (f *folding) read(ctx context.Context, t *tx, id int64) error {
	found := false
	t.queue(lockJob, id).Query(func(rows pgx.Rows) error {
		list, err := pgx.CollectRows(rows, scanJob)
		if len(list) > 0 {
			f.job, found = list[0], true
		}
		return err
	})
	each(t.queue(takeDeltas, id), func(row pgx.Rows) error {
		var delta, sessions []byte
		if err := row.Scan(&delta, &sessions); err != nil {
			return err
		}
		d, err := job.ParseDelta(delta)
		if err != nil {
			return fmt.Errorf("job %d: %w", id, err)
		}
		f.delta.Merge(d)
		f.deltas++
		return addSessions(f.sessions, sessions)
	})
	each(t.queue(selectSlowest, id), func(row pgx.Rows) error {
		var batch, us int64
		err := row.Scan(&batch, &us)
		f.slowest = append(f.slowest, job.Settled{BatchID: batch, Duration: time.Duration(us) * time.Microsecond})
		return err
	})
	t.queue(selectMinute, id).QueryRow(func(row pgx.Row) error {
		var durations []byte
		if err := row.Scan(&f.now, &durations); err != nil {
			return err
		}
		h, err := parseDurations(durations)
		f.minute = h
		return err
	})
	if err := t.send(ctx); err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("job %d: %w", id, store.ErrNotFound)
	}
	return nil
}

// queue queues the rows that say what was folded.
func (f *folding) queue(t *tx) {
	j, d := &f.job, &f.delta
	values := append([]any{
		j.ID, string(j.State), j.Revision, nullTime(j.StartedAt), nullTime(j.EndedAt), j.UpdatedAt,
	}, counterFields(&j.Counters)...)
	taken := &j.TakenBack
	t.queue(updateJob, append(values, j.IngestDone, string(j.StopAs), store.CleanText(j.Reason, store.MaxMessage), j.Retrying,
		taken[job.ItemFailed], taken[job.ItemCrashed], taken[job.ItemCancelled])...)
	if d.Ended != (job.Delta{}).Ended || d.Acquitted != 0 {
		f.minute.Merge(&d.Durations)
		t.queue(addMinute, j.ID, f.now.Truncate(time.Minute), d.Ended[job.BatchCompleted], d.Ended[job.BatchFailed],
			d.Ended[job.BatchCrashed], d.Ended[job.BatchCancelled], d.Crashed, appendDurations(&f.minute), d.Acquitted)
	}
	if len(d.Slowest) > 0 {
		// A batch that is tried again after it ended counts with its last duration.
		kept := slices.DeleteFunc(f.slowest, func(old job.Settled) bool {
			return slices.ContainsFunc(d.Slowest, func(s job.Settled) bool { return s.BatchID == old.BatchID })
		})
		var batches, durations []int64
		for _, s := range job.MergeSlowest(kept, d.Slowest) {
			batches = append(batches, s.BatchID)
			durations = append(durations, s.Duration.Microseconds())
		}
		t.queue(forgetSlowest, j.ID, batches)
		t.queue(keepSlowest, j.ID, batches, durations, f.now)
	}
	if len(f.sessions) > 0 {
		ids := slices.Sorted(maps.Keys(f.sessions))
		completed, crashed := make([]int64, len(ids)), make([]int64, len(ids))
		for i, id := range ids {
			completed[i], crashed[i] = f.sessions[id].completed, f.sessions[id].crashed
		}
		t.queue(addToSessions, ids, completed, crashed)
	}
}

// The stored form of a minute's durations is that of a delta that holds nothing else.

func appendDurations(h *job.Histogram) []byte {
	d := job.Delta{Durations: *h}
	return d.Append(nil)
}

func parseDurations(data []byte) (job.Histogram, error) {
	if len(data) == 0 {
		return job.Histogram{}, nil
	}
	d, err := job.ParseDelta(data)
	if err != nil {
		return job.Histogram{}, fmt.Errorf("durations of a minute: %w", err)
	}
	return d.Durations, nil
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
