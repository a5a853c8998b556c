package job

import (
	"fmt"
	"strings"
)

// percentFrom is how many items must have ended before a limit in per cent of them counts.
const percentFrom = 100

// exceeded says by which limit of its policy a job must be stopped, "" while there is none. d is what was added last.
func (j *Job) exceeded(d *Delta) string {
	p := j.Policy
	switch bad, ended := j.bad(), j.ItemsEnded(); {
	case j.State.Stopping():
		return ""
	case p.Strict && d.Fault.Item != 0:
		return d.Fault.sentence(j.Run) + ", and the job is strict"
	case p.MaxBadItems > 0 && bad > p.MaxBadItems:
		return fmt.Sprintf("%s: max_bad_items allows %d", j.badSentence(), p.MaxBadItems)
	case p.MaxBadPercent > 0 && ended >= percentFrom && float64(bad)*100 > p.MaxBadPercent*float64(ended):
		return fmt.Sprintf("%s: max_bad_percent allows %g %%", j.badSentence(), p.MaxBadPercent)
	}
	return ""
}

// bad is the failed and crashed items that count for limits.
func (j *Job) bad() int64 {
	return j.ItemOutcomes[ItemFailed] + j.ItemOutcomes[ItemCrashed] - j.ForgivenBad
}

// badSentence says how many items are bad, such as "120 of the first 400 items crashed".
func (j *Job) badSentence() string {
	failed, crashed := j.ItemOutcomes[ItemFailed], j.ItemOutcomes[ItemCrashed]
	what := "failed or crashed"
	if crashed == 0 {
		what = "failed"
	} else if failed == 0 {
		what = "crashed"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%d of the first %d items %s", j.bad(), j.ItemsEnded(), what)
	if j.ForgivenBad > 0 {
		fmt.Fprintf(&s, " in run %d", j.Run)
	}
	return s.String()
}

// sentence names the item and says what became of it.
func (f Fault) sentence(run int32) string {
	what := map[Outcome]string{
		Rejected: "was rejected", DocumentMissing: "is of a document that its source does not have", ItemFailed: "failed",
		ItemCrashed: "crashed",
	}[Outcome(f.Outcome)]
	switch {
	case f.BatchID == 0:
		return fmt.Sprintf("item %d %s", f.Item, what)
	case run > 1:
		// Items that ingest rejected do not stop a later run, and make numbers in batches uncertain.
		return fmt.Sprintf("the item at position %d of batch %d %s", f.Position+1, f.BatchID, what)
	}
	return fmt.Sprintf("item %d (batch %d) %s", f.Item, f.BatchID, what)
}
