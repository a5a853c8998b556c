package display

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func number[N ~int32 | ~int64](n N) string { return strconv.FormatInt(int64(n), 10) }

// Jobs lists jobs.
var Jobs = List[*tallymanv1.Job]{[]column[*tallymanv1.Job]{
	{"job", func(j *tallymanv1.Job) string { return number(j.GetJobId()) }},
	{"state", func(j *tallymanv1.Job) string { return JobState(j.GetState()) }},
	{"run", func(j *tallymanv1.Job) string { return number(j.GetRun()) }},
	{"project", func(j *tallymanv1.Job) string { return dash(j.GetProject()) }},
	{"items", func(j *tallymanv1.Job) string { return number(j.GetProgress().GetItemsTotal()) }},
	{"ended", func(j *tallymanv1.Job) string { return number(j.GetProgress().GetItemsEnded()) }},
	{"errors", func(j *tallymanv1.Job) string { return number(errorsOf(j.GetProgress())) }},
	{"warnings", func(j *tallymanv1.Job) string { return number(j.GetProgress().GetWarnings()) }},
	{"submitted", func(j *tallymanv1.Job) string { return Time(j.GetSubmittedAt()) }},
	{"duration", func(j *tallymanv1.Job) string { return between(j.GetSubmittedAt(), j.GetEndedAt()) }},
	{"file", func(j *tallymanv1.Job) string { return j.GetFileName() }},
}}

// EndedJobs lists jobs that have ended.
var EndedJobs = List[*tallymanv1.Job]{[]column[*tallymanv1.Job]{
	{"job", func(j *tallymanv1.Job) string { return number(j.GetJobId()) }},
	{"state", func(j *tallymanv1.Job) string { return JobState(j.GetState()) }},
	{"project", func(j *tallymanv1.Job) string { return dash(j.GetProject()) }},
	{"items", func(j *tallymanv1.Job) string { return number(j.GetProgress().GetItemsTotal()) }},
	{"errors", func(j *tallymanv1.Job) string { return number(errorsOf(j.GetProgress())) }},
	{"warnings", func(j *tallymanv1.Job) string { return number(j.GetProgress().GetWarnings()) }},
	{"ended", func(j *tallymanv1.Job) string { return Time(j.GetEndedAt()) }},
	{"file", func(j *tallymanv1.Job) string { return j.GetFileName() }},
}}

// Batches lists batches of one job.
var Batches = List[*tallymanv1.Batch]{[]column[*tallymanv1.Batch]{
	{"batch", func(b *tallymanv1.Batch) string { return number(b.GetBatchId()) }},
	{"state", func(b *tallymanv1.Batch) string { return BatchState(b.GetState()) }},
	{"items", batchItems},
	{"documents", batchDocuments},
	{"attempts", func(b *tallymanv1.Batch) string { return number(b.GetAttempt()) }},
	{"duration", func(b *tallymanv1.Batch) string { return between(b.GetClaimedAt(), b.GetSettledAt()) }},
	{"worker", func(b *tallymanv1.Batch) string { return dash(b.GetWorkerId()) }},
	{"error", func(b *tallymanv1.Batch) string { return dash(b.GetError()) }},
}}

// FoundBatches lists batches of any job.
var FoundBatches = List[*tallymanv1.Batch]{append([]column[*tallymanv1.Batch]{
	{"job", func(b *tallymanv1.Batch) string { return number(b.GetJobId()) }},
}, Batches.columns...)}

// Findings lists findings.
var Findings = List[*tallymanv1.Finding]{[]column[*tallymanv1.Finding]{
	{"severity", func(f *tallymanv1.Finding) string { return Severity(f.GetSeverity()) }},
	{"code", func(f *tallymanv1.Finding) string { return f.GetCode() }},
	{"place", place},
	{"item", func(f *tallymanv1.Finding) string { return number(f.GetItem()) }},
	{"byte", func(f *tallymanv1.Finding) string { return number(f.GetOffset()) }},
	{"document", func(f *tallymanv1.Finding) string { return dash(f.GetDocument()) }},
	{"path", func(f *tallymanv1.Finding) string { return dash(f.GetPath()) }},
	{"message", func(f *tallymanv1.Finding) string { return f.GetMessage() }},
}}

// Workers lists sessions of workers that live.
var Workers = List[*tallymanv1.Worker]{[]column[*tallymanv1.Worker]{
	{"worker", func(w *tallymanv1.Worker) string { return w.GetWorkerId() }},
	{"state", WorkerState},
	{"session", func(w *tallymanv1.Worker) string { return number(w.GetSessionId()) }},
	{"host", func(w *tallymanv1.Worker) string { return dash(w.GetHost()) }},
	{"pid", func(w *tallymanv1.Worker) string { return number(w.GetPid()) }},
	{"kinds", func(w *tallymanv1.Worker) string { return strings.Join(w.GetKinds(), ",") }},
	{"slots", func(w *tallymanv1.Worker) string { return number(w.GetSlots()) }},
	{"running", func(w *tallymanv1.Worker) string { return number(w.GetRunning()) }},
	{"completed", func(w *tallymanv1.Worker) string { return number(w.GetCompleted()) }},
	{"crashed", func(w *tallymanv1.Worker) string { return number(w.GetCrashed()) }},
	{"last beat", func(w *tallymanv1.Worker) string { return ago(w.GetBeatAt()) }},
}}

// AllWorkers lists sessions of workers, those that have ended, too.
var AllWorkers = List[*tallymanv1.Worker]{append(slices.Clip(Workers.columns), []column[*tallymanv1.Worker]{
	{"registered", func(w *tallymanv1.Worker) string { return Time(w.GetRegisteredAt()) }},
	{"ended", func(w *tallymanv1.Worker) string { return Time(w.GetEndedAt()) }},
	{"why", func(w *tallymanv1.Worker) string { return dash(cmp.Or(w.GetDrainReason(), w.GetEndReason())) }},
}...)}

// WorkerState says whether a session lives; a silent one may be gone.
func WorkerState(w *tallymanv1.Worker) string {
	switch {
	case w.GetEndedAt() != nil:
		return "ended"
	case w.GetSilent():
		return "silent"
	case w.GetDrainReason() != "":
		return "draining: batches die on it"
	case w.GetDrainedAt() != nil:
		return "draining"
	case w.GetTrouble() != "":
		return "alive, waits for what it needs"
	}
	return "alive"
}

// Attempts lists attempts that did not complete.
var Attempts = List[*tallymanv1.Attempt]{[]column[*tallymanv1.Attempt]{
	{"batch", func(a *tallymanv1.Attempt) string { return number(a.GetBatchId()) }},
	{"attempt", func(a *tallymanv1.Attempt) string { return number(a.GetAttempt()) }},
	{"end", func(a *tallymanv1.Attempt) string { return AttemptEnd(a.GetEnd()) }},
	{"worker", func(a *tallymanv1.Attempt) string { return dash(a.GetWorkerId()) }},
	{"claimed", func(a *tallymanv1.Attempt) string { return Time(a.GetClaimedAt()) }},
	{"duration", func(a *tallymanv1.Attempt) string { return between(a.GetClaimedAt(), a.GetEndedAt()) }},
	{"then", func(a *tallymanv1.Attempt) string { return BatchState(a.GetBatchState()) }},
	{"message", func(a *tallymanv1.Attempt) string { return dash(a.GetMessage()) }},
}}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// place is what editors and compilers understand: file and line.
func place(f *tallymanv1.Finding) string {
	if f.GetLine() == 0 {
		return f.GetFile()
	}
	return f.GetFile() + ":" + number(f.GetLine())
}

func batchItems(b *tallymanv1.Batch) string {
	if b.GetState() == tallymanv1.BatchState_BATCH_STATE_COMPLETED || b.GetDoneItems() == 0 {
		return number(b.GetItemCount())
	}
	return fmt.Sprintf("%d/%d", b.GetDoneItems(), b.GetItemCount())
}

// shownDocuments is how many documents of a batch its row names.
const shownDocuments = 3

// batchDocuments names the first documents and says how many there are besides.
func batchDocuments(b *tallymanv1.Batch) string {
	if b.GetDocumentCount() == 0 && b.GetItemCount() == 1 { // of a kind whose items have no documents
		return "item " + number(b.GetFirstItem())
	}
	first := b.GetDocuments()
	first = first[:min(len(first), shownDocuments)]
	text := strings.Join(first, ",")
	if more := int(b.GetDocumentCount()) - len(first); more > 0 {
		text += fmt.Sprintf(" +%d", more)
	}
	return dash(strings.TrimSpace(text))
}

// PlannedBatches lists the batches that a file would be cut into.
var PlannedBatches = List[*tallymanv1.Batch]{[]column[*tallymanv1.Batch]{
	{"ordinal", func(b *tallymanv1.Batch) string { return number(b.GetOrdinal()) }},
	{"first item", func(b *tallymanv1.Batch) string { return number(b.GetFirstItem()) }},
	{"items", func(b *tallymanv1.Batch) string { return number(b.GetItemCount()) }},
	{"weight", func(b *tallymanv1.Batch) string { return number(b.GetWeight()) }},
	{"documents", batchDocuments},
}}
