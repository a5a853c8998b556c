package storetest

import (
	"github.com/tallyman-dev/tallyman/server/job"
)

// audit folds a job and checks its books: what the job counts is what its batches say, and every ended job has an
// outcome for every item. rejected is the number of items that ingest rejected.
func (f *fixture) audit(id int64, rejected int64) job.Job {
	f.Helper()
	j := f.fold(id)
	var want job.Counters
	want.ItemsTotal = rejected
	want.ItemOutcomes[job.Rejected] = rejected
	whole := int32(0)
	for _, b := range f.batches(id) {
		if b.Crashes+b.Losses > 0 && b.RootID == 0 {
			want.CrashedEver++
		}
		if b.RootID == 0 {
			if b.Ordinal != whole {
				f.Errorf("batch %d has ordinal %d, want %d", b.ID, b.Ordinal, whole)
			}
			whole++
			want.Annotations += int64(b.Weight) + 1 // as the fixture says
		}
		if b.State == job.BatchSplit {
			want.Batches[b.State]++
			continue // its parts have its items
		}
		want.ItemsTotal += int64(b.ItemCount)
		want.Batches[b.State]++
		want.AddRuns(b.Outcomes)
		if b.State == job.BatchRunning {
			want.ItemsInFlight += int64(b.ItemCount - b.DoneItems)
		}
		if got := job.Items(b.Outcomes); got != b.DoneItems {
			f.Errorf("batch %d has %d outcomes and %d done items", b.ID, got, b.DoneItems)
		}
		if b.State.Ended() && b.DoneItems != b.ItemCount {
			f.Errorf("batch %d is %v with %d of %d items done", b.ID, b.State, b.DoneItems, b.ItemCount)
		}
		if running := b.State == job.BatchRunning; running != (b.SessionID != 0) || running == b.LeaseExpiresAt.IsZero() {
			f.Errorf("batch %d is %v with session %d and a lease to %v", b.ID, b.State, b.SessionID, b.LeaseExpiresAt)
		}
		if b.State.Ended() == b.SettledAt.IsZero() {
			f.Errorf("batch %d is %v and settled at %v", b.ID, b.State, b.SettledAt)
		}
	}
	for o, n := range j.TakenBack {
		want.ItemOutcomes[o] -= n
	}
	// What is not the batches' to say.
	want.BytesRead, want.Errors, want.Warnings = j.BytesRead, j.Errors, j.Warnings
	f.equal("counters of the job against its batches", j.Counters, want)
	if total := j.ItemsEnded() + j.ItemsOpen(); total != j.ItemsTotal {
		f.Errorf("%d items ended or open, total %d", total, j.ItemsTotal)
	}
	if j.State.Ended() && (j.ItemsOpen() != 0 || j.BatchesOpen() != 0) {
		f.Errorf("job %d is %v with %d items and %d batches open", id, j.State, j.ItemsOpen(), j.BatchesOpen())
	}
	if j.State.Ended() != !j.EndedAt.IsZero() {
		f.Errorf("job %d is %v and ended at %v", id, j.State, j.EndedAt)
	}
	return j
}
