package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// foldColumns are set by a fold, in the order of folded.
var foldColumns = func() string {
	names := []string{
		"state", "stop_as", "reason", "retrying", "taken_back_failed", "taken_back_crashed", "taken_back_cancelled",
		"ingest_done", "revision", "started_at", "ended_at", "updated_at",
	}
	for name := range strings.SplitSeq(counterColumns, ",") {
		names = append(names, strings.TrimSpace(name))
	}
	return strings.Join(names, " = ?, ") + " = ?"
}()

// Fold implements store.Jobs. A delta of a version that this program does not know stays, for a newer program, and is
// an error.
func (s *Store) Fold(ctx context.Context, id int64) (j job.Job, changed bool, err error) {
	err = s.write(ctx, settling, func(t *tx) (err error) {
		changed = false
		if j, err = getJob(t, id); err != nil {
			return err
		}
		d, n, err := t.deltas(id)
		if err != nil {
			return err
		}
		// A job that is being stopped, or whose retry found nothing, may end without anything having changed.
		before := j
		if j.Fold(d, t.now); n == 0 && j.State == before.State {
			j = before
			return nil
		}
		changed = true
		if err := t.saveFold(&j); err != nil {
			return fmt.Errorf("save job: %w", err)
		}
		if err := t.addMinute(id, d); err != nil {
			return fmt.Errorf("count ended batches: %w", err)
		}
		if err := t.addSlowest(id, d.Slowest); err != nil {
			return fmt.Errorf("keep slowest batches: %w", err)
		}
		if !j.State.Ended() || before.State.Ended() || !s.deliverEnds.Load() {
			return nil
		}
		said, err := store.JobEnded(&j)
		if err == nil {
			_, err = t.addDelivery(&said)
		}
		return err
	})
	return j, changed, wrap(fmt.Sprintf("fold job %d", id), err)
}

// deltas removes a job's deltas and returns their sum and number.
func (t *tx) deltas(jobID int64) (*job.Delta, int, error) {
	sum, n, err := t.unfolded(jobID)
	if err != nil || n == 0 {
		return sum, n, err
	}
	return sum, n, t.exec("DELETE FROM job_deltas WHERE job_id = ?", jobID)
}

// unfolded returns the sum of a job's deltas and their number.
func (t *tx) unfolded(jobID int64) (*job.Delta, int, error) {
	sum, n := new(job.Delta), 0
	err := each(t, func(row scanner) error {
		var id int64
		var data []byte
		if err := row.Scan(&id, &data); err != nil {
			return err
		}
		d, err := job.ParseDelta(data)
		if err != nil {
			return fmt.Errorf("read delta %d: %w", id, err)
		}
		sum.Merge(d)
		n++
		return nil
	}, "SELECT id, delta FROM job_deltas WHERE job_id = ? ORDER BY id", jobID)
	return sum, n, err
}

func (t *tx) saveFold(j *job.Job) error {
	taken := &j.TakenBack
	args := append([]any{
		j.State, j.StopAs, store.CleanText(j.Reason, store.MaxMessage), j.Retrying, taken[job.ItemFailed],
		taken[job.ItemCrashed], taken[job.ItemCancelled], j.IngestDone, j.Revision, micros(j.StartedAt), micros(j.EndedAt),
		micros(j.UpdatedAt),
	}, counters(&j.Counters)...)
	return t.only("UPDATE jobs SET "+foldColumns+" WHERE id = ?", append(args, j.ID)...)
}

// addMinute adds what ended to the statistics of the current minute.
func (t *tx) addMinute(jobID int64, d *job.Delta) error {
	ended := d.Acquitted
	for _, n := range d.Ended {
		ended += n
	}
	if ended == 0 {
		return nil
	}
	minute := micros(t.now.Truncate(time.Minute))
	durations := job.Delta{Durations: d.Durations}
	err := each(t, func(row scanner) error {
		before, err := scanDelta(row)
		if err == nil {
			durations.Merge(before)
		}
		return err
	}, "SELECT durations FROM job_minutes WHERE job_id = ? AND minute = ?", jobID, minute)
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO job_minutes (job_id, minute, completed, failed, crashed, cancelled, with_crash, acquitted, durations)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (job_id, minute) DO UPDATE SET completed = completed + excluded.completed,
			failed = failed + excluded.failed, crashed = crashed + excluded.crashed,
			cancelled = cancelled + excluded.cancelled, with_crash = with_crash + excluded.with_crash,
			acquitted = acquitted + excluded.acquitted, durations = excluded.durations`,
		jobID, minute, d.Ended[job.BatchCompleted], d.Ended[job.BatchFailed], d.Ended[job.BatchCrashed],
		d.Ended[job.BatchCancelled], d.Crashed, d.Acquitted, durations.Append(nil))
}

// scanDelta reads a column in the stored form of a delta.
func scanDelta(row scanner) (*job.Delta, error) {
	var data []byte
	if err := row.Scan(&data); err != nil {
		return nil, err
	}
	return job.ParseDelta(data)
}

// addSlowest keeps the slowest of a job's batches.
func (t *tx) addSlowest(jobID int64, slowest []job.Settled) error {
	if len(slowest) == 0 {
		return nil
	}
	kept, err := collect(t, func(row scanner) (s job.Settled, err error) {
		var us int64
		err = row.Scan(&s.BatchID, &us)
		s.Duration = time.Duration(us) * time.Microsecond
		return s, err
	}, "SELECT batch_id, duration_us FROM slowest_batches WHERE job_id = ?", jobID)
	if err != nil {
		return err
	}
	// A batch that is tried again after it ended counts with its last duration.
	merged := job.MergeSlowest(slices.DeleteFunc(slices.Clone(kept), func(old job.Settled) bool {
		return slices.ContainsFunc(slowest, func(s job.Settled) bool { return s.BatchID == old.BatchID })
	}), slowest)
	for _, k := range kept {
		if !slices.ContainsFunc(merged, func(s job.Settled) bool { return s.BatchID == k.BatchID }) {
			if err := t.exec("DELETE FROM slowest_batches WHERE job_id = ? AND batch_id = ?", jobID, k.BatchID); err != nil {
				return err
			}
		}
	}
	for _, s := range merged {
		if slices.Contains(kept, s) {
			continue
		}
		err := t.exec(`INSERT INTO slowest_batches (job_id, batch_id, duration_us, ended_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (job_id, batch_id) DO UPDATE SET duration_us = excluded.duration_us, ended_at = excluded.ended_at`,
			jobID, s.BatchID, s.Duration.Microseconds(), micros(t.now))
		if err != nil {
			return err
		}
	}
	return nil
}
