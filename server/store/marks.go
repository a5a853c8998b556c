package store

import "github.com/tallyman-dev/tallyman/server/job"

// Mark is a batch, or a part of one, that has not completed.
type Mark struct {
	Ordinal int32
	State   job.BatchState
}

// Marked returns what BatchStates does, from how many batches ingest has cut and the marks of all that have not completed.
func Marked(cut int32, marks []Mark) []job.BatchState {
	states := make([]job.BatchState, max(cut, 0))
	for i := range states {
		states[i] = job.BatchCompleted
	}
	for _, m := range marks {
		if m.Ordinal >= 0 && m.Ordinal < cut && weight(m.State) > weight(states[m.Ordinal]) {
			states[m.Ordinal] = m.State
		}
	}
	return states
}

// weight orders the states of the parts of a family by what a map shows of it: what ended worst, before that it was split.
func weight(s job.BatchState) int {
	switch s {
	case job.BatchCompleted:
		return 0
	case job.BatchPending:
		return 1
	case job.BatchRunning:
		return 2
	case job.BatchSplit:
		return 3
	case job.BatchCancelled:
		return 4
	case job.BatchFailed:
		return 5
	case job.BatchCrashed:
		return 6
	}
	return 0
}
