package job

// endings is the outcome that the end of a batch gives to its items without one, for each of the states that a retry by
// hand leads out of. Nothing else gives it.
var endings = map[BatchState]Outcome{BatchFailed: ItemFailed, BatchCrashed: ItemCrashed, BatchCancelled: ItemCancelled}

// Reopen counts a batch that ended badly and is to be tried again by hand, and returns the outcomes that it keeps: those
// that its handlers gave. Those that only its end gave to the rest are taken back. Its counts of failures, crashes and
// losses begin anew; its attempts count on, since their number is what fences late writers.
func (d *Delta) Reopen(b *Batch) (kept []Run) {
	kept = b.Outcomes
	for n := len(kept); n > 0 && !kept[n-1].Outcome.ByHandler(); n-- {
		d.ItemOutcomes[kept[n-1].Outcome] -= int64(kept[n-1].Count)
		if kept[n-1].Outcome == ItemCrashed {
			d.Errors -= int64(kept[n-1].Count) // the findings that named them stay, and count no more
		}
		kept = kept[:n-1]
	}
	d.Move(b.State, BatchPending)
	if b.Crashes+b.Losses > 0 && b.RootID == 0 {
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

// Retry begins the next run, in which all batches in some states are moved step by step, and takes back at once the
// outcomes that only their ends gave, so that nothing falls later: within a run progress only grows. What an earlier retry
// still moves is moved by this one. d is what the retry changed by itself: it has reopened single batches, and gets what it
// takes back of unfolded, which is all that has changed since the job was last folded, and would be visible with that.
// Failed and crashed items that the retry leaves as they are are forgiven.
func (j *Job) Retry(states States, unfolded, d *Delta) {
	j.Run++
	j.Retrying |= states
	j.ForgivenBad = 0
	for state, o := range endings {
		left := j.ItemOutcomes[o] + unfolded.ItemOutcomes[o] + j.TakenBack[o] + d.ItemOutcomes[o]
		j.TakenBack[o] = 0
		if j.Retrying.Has(state) {
			j.TakenBack[o], left = left, 0
		}
		j.ItemOutcomes[o] = min(j.ItemOutcomes[o], left)
		d.ItemOutcomes[o] = left - j.ItemOutcomes[o] - unfolded.ItemOutcomes[o]
		if o != ItemCancelled {
			j.ForgivenBad += left
		}
	}
}

// Moved notes that a step of the retry has reopened batches, as d counts them: the outcomes of their items were taken back
// when it began. (Not so by one that an earlier version of this program began: those are taken back now.)
func (j *Job) Moved(d *Delta) {
	for _, o := range endings {
		n := min(j.TakenBack[o], -d.ItemOutcomes[o])
		j.TakenBack[o] -= n
		d.ItemOutcomes[o] += n
	}
}

// EndRetry ends a retry that has moved all its batches, or whose job is being stopped: items of those that it has not moved
// have their outcomes again, and are counted in c, which must not be what others look at before all deltas are folded.
func (j *Job) EndRetry(c *Counters) {
	j.Retrying = 0
	for _, o := range endings {
		c.ItemOutcomes[o] += j.TakenBack[o]
		j.TakenBack[o] = 0
	}
}
