package job

// Reopen counts a batch that ended badly and is to be tried again by hand, and returns the outcomes that it keeps: those
// that its handlers gave. Those that only its end gave to the rest are taken back. Its counts of failures, crashes and
// losses begin anew; its attempts count on, since their number is what fences late writers.
func (d *Delta) Reopen(b *Batch) (kept []Run) {
	kept = b.Outcomes
	for n := len(kept); n > 0 && !kept[n-1].Outcome.ByHandler(); n-- {
		d.ItemOutcomes[kept[n-1].Outcome] -= int64(kept[n-1].Count)
		kept = kept[:n-1]
	}
	d.Move(b.State, BatchPending)
	if b.Crashes+b.Losses > 0 {
		d.CrashedEver--
	}
	return kept
}

// HasBad reports whether an ended job has batches in some states.
func (j *Job) HasBad(states States) bool {
	for _, s := range BatchStates() {
		if states.Has(s) && j.Batches[s] > 0 {
			return true
		}
	}
	return false
}

// Forgive returns the failed and crashed items that a retry of batches in some states leaves as they are. unfolded is
// what has changed since the job was last folded, with the batches that the retry moved at once. What an earlier retry
// still moves is not left.
func (j *Job) Forgive(retried States, unfolded *Delta) int64 {
	var n int64
	for state, outcome := range map[BatchState]Outcome{BatchFailed: ItemFailed, BatchCrashed: ItemCrashed} {
		if !(retried | j.Retrying).Has(state) {
			n += j.ItemOutcomes[outcome] + unfolded.ItemOutcomes[outcome]
		}
	}
	return n
}
