// Package job is the center of the coordinator: the states of jobs and batches, what may follow what, how an ended
// attempt is decided on, and the numbers of a job. It knows no database, no network and no clock, and imports the
// standard library only.
package job

import "fmt"

// State is what a job is doing. The texts are kept in the database.
type State string

// The states of a job. The first three are open, the others are ends that only a retry by hand leaves.
const (
	Running             State = "running"               // its batches are claimed; see Job.IngestDone
	Paused              State = "paused"                // no batch is claimed, and those that ran are given back, until it is resumed
	Cancelling          State = "cancelling"            // no batch is claimed any more; Job.StopAs says how it will end
	Succeeded           State = "succeeded"             // every item stored, stored with warnings, or skipped
	CompletedWithErrors State = "completed_with_errors" // ended by itself, with at least one other outcome, or an error about what is stored
	Failed              State = "failed"                // stopped by a limit or by an abandoned upload
	Cancelled           State = "cancelled"             // stopped by hand
)

// Ended reports whether s is one of the ends.
func (s State) Ended() bool { return s != Running && s != Paused && s != Cancelling }

// Stopping reports whether a job in state s takes no more items and begins no more batches, for good.
func (s State) Stopping() bool { return s == Cancelling || s.Ended() }

// BatchState is where a batch stands. The numbers are kept in the database and never change.
type BatchState uint8

// The states of a batch. Pending and running are open, the others ended. Items are counted in all but split batches.
const (
	BatchPending   BatchState = 0
	BatchRunning   BatchState = 1
	BatchCompleted BatchState = 2
	BatchFailed    BatchState = 3
	BatchCrashed   BatchState = 4
	BatchCancelled BatchState = 5
	BatchSplit     BatchState = 6 // replaced by its parts, which have its items

	batchStates = 7
)

var batchStateNames = [batchStates]string{"pending", "running", "completed", "failed", "crashed", "cancelled", "split"}

// String returns the state as it is written everywhere.
func (s BatchState) String() string {
	if int(s) < len(batchStateNames) {
		return batchStateNames[s]
	}
	return fmt.Sprintf("batch state %d", uint8(s))
}

// Ended reports whether the batch is neither pending nor running.
func (s BatchState) Ended() bool { return s > BatchRunning }

// Badly reports whether the batch ended with items that no handler finished: those that a retry by hand moves back.
func (s BatchState) Badly() bool { return s >= BatchFailed && s <= BatchCancelled }

// States is a set of batch states, kept in the database: bit 1 << state for each.
type States uint32

// StatesOf returns the set of some states.
func StatesOf(states ...BatchState) States {
	var set States
	for _, s := range states {
		set |= 1 << s
	}
	return set
}

// Bad is the states from which a retry by hand leads back to pending.
var Bad = StatesOf(BatchFailed, BatchCrashed, BatchCancelled)

// Has reports whether the state is one of the set.
func (x States) Has(s BatchState) bool { return x&(1<<s) != 0 }

// transitions lists what may follow each state; retry, release and a lost lease lead back to pending.
var transitions = [batchStates][]BatchState{
	BatchPending: {BatchRunning, BatchCancelled},
	BatchRunning: {BatchPending, BatchCompleted, BatchFailed, BatchCrashed, BatchCancelled, BatchSplit},

	BatchFailed:    {BatchPending},
	BatchCrashed:   {BatchPending},
	BatchCancelled: {BatchPending},
}

// MayBecome reports whether a batch in state s may be moved to next.
func (s BatchState) MayBecome(next BatchState) bool {
	if int(s) >= len(transitions) {
		return false
	}
	for _, t := range transitions[s] {
		if t == next {
			return true
		}
	}
	return false
}

// Outcome is how an item ended. The numbers are those of the protocol, are kept in the database, and never change.
type Outcome uint8

// The outcomes. Every item ends with exactly one.
const (
	Stored          Outcome = 1
	StoredWarnings  Outcome = 2
	Rejected        Outcome = 3
	Skipped         Outcome = 4
	DocumentMissing Outcome = 5
	ItemFailed      Outcome = 6 // its batch's last attempt failed
	ItemCrashed     Outcome = 7 // it killed its worker, again and alone
	ItemCancelled   Outcome = 8 // not attempted, or interrupted by a cancel

	outcomes = 9
)

var outcomeNames = [outcomes]string{
	"", "stored", "stored_with_warnings", "rejected", "skipped", "document_missing", "failed", "crashed", "cancelled",
}

// String returns the outcome as it is written everywhere.
func (o Outcome) String() string {
	if o.Valid() {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// Valid reports whether o is one of the outcomes.
func (o Outcome) Valid() bool { return o >= Stored && o < outcomes }

// Good reports whether o lets a job succeed.
func (o Outcome) Good() bool { return o == Stored || o == StoredWarnings || o == Skipped }

// ByHandler reports whether a worker may report o; the others follow from how an attempt ended.
func (o Outcome) ByHandler() bool { return o >= Stored && o <= DocumentMissing }

// Outcomes lists every outcome in the order of its number.
func Outcomes() []Outcome {
	return []Outcome{Stored, StoredWarnings, Rejected, Skipped, DocumentMissing, ItemFailed, ItemCrashed, ItemCancelled}
}

// BatchStates lists every batch state in the order of its number.
func BatchStates() []BatchState {
	return []BatchState{BatchPending, BatchRunning, BatchCompleted, BatchFailed, BatchCrashed, BatchCancelled, BatchSplit}
}
