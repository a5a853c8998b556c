package display

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Job writes everything about one job.
func Job(w io.Writer, job *tallymanv1.Job) error {
	var b strings.Builder
	tab := newTab(&b)
	row := func(name, value string) { fmt.Fprintf(tab, "%s\t%s\n", name, Clean(value)) }
	row("job", number(job.GetJobId()))
	row("state", JobState(job.GetState()))
	row("run", number(job.GetRun()))
	if job.GetReason() != "" {
		row("reason", job.GetReason())
	}
	row("progress", describe(job))
	row("file", job.GetFileName())
	row("project", dash(job.GetProject()))
	row("kind", job.GetKind())
	row("mode", job.GetMode())
	row("priority", number(job.GetPriority()))
	row("upload", job.GetUploadId())
	row("parameters", pairs(job.GetParameters()))
	row("labels", pairs(job.GetLabels()))
	row("submitted", Time(job.GetSubmittedAt()))
	row("started", Time(job.GetStartedAt()))
	if job.GetRetriedAt() != nil {
		row("retried", Time(job.GetRetriedAt()))
	}
	row("ended", Time(job.GetEndedAt()))
	for _, c := range job.GetProgress().GetItemsByOutcome() {
		row("items "+spaced(Outcome(c.GetOutcome())), Number(c.GetItems()))
	}
	for _, c := range job.GetProgress().GetBatchesByState() {
		row("batches "+spaced(BatchState(c.GetState())), Number(c.GetBatches()))
	}
	row("annotations", Number(job.GetProgress().GetAnnotations()))
	if err := flushTab(tab); err != nil {
		return err
	}
	if crashes := job.GetLastCrashes(); len(crashes) > 0 {
		b.WriteString("\nlast crashes\n")
		if _, _, err := Attempts.Write(&b, Table, each(crashes), 0); err != nil {
			return err
		}
	}
	return write(w, []byte(b.String()))
}

// Batch writes everything about one batch, and the attempts at the one that it is a part of, if that is not nil.
func Batch(w io.Writer, response, whole *tallymanv1.GetBatchResponse) error {
	batch := response.GetBatch()
	var b strings.Builder
	tab := newTab(&b)
	row := func(name, value string) { fmt.Fprintf(tab, "%s\t%s\n", name, Clean(value)) }
	row("batch", number(batch.GetBatchId()))
	row("job", number(batch.GetJobId()))
	row("state", BatchState(batch.GetState()))
	if batch.GetParentId() != 0 {
		row("part of", "batch "+number(batch.GetParentId()))
	}
	row("items", fmt.Sprintf("%d, of which %d ended; first is item %d", batch.GetItemCount(), batch.GetDoneItems(),
		batch.GetFirstItem()))
	row("annotations", number(batch.GetWeight()))
	attempts := fmt.Sprintf("%d, of which %d failed, %d died, %d were lost", batch.GetAttempt(), batch.GetFailures(),
		batch.GetCrashes(), batch.GetLosses())
	if batch.GetCrashes() > 0 && batch.GetRootId() != 0 {
		attempts = fmt.Sprintf("%d, of which %d failed, %d were lost; %s, those of the batches it is a part of included",
			batch.GetAttempt(), batch.GetFailures(), batch.GetLosses(), Plural(int64(batch.GetCrashes()), "death"))
	}
	row("attempts", attempts)
	row("worker", dash(batch.GetWorkerId()))
	row("claimed", Time(batch.GetClaimedAt()))
	row("ended", Time(batch.GetSettledAt()))
	if batch.GetLeaseExpiresAt() != nil {
		row("lease ends", Time(batch.GetLeaseExpiresAt()))
	}
	if batch.GetAvailableAt() != nil {
		row("waits until", Time(batch.GetAvailableAt()))
	}
	if batch.GetSolo() {
		row("solo", "it killed a worker: granted only to one that holds nothing else")
	}
	if batch.GetSuspectItem() != 0 {
		name := "suspect"
		if batch.GetState() == tallymanv1.BatchState_BATCH_STATE_CRASHED {
			name = "culprit"
		}
		row(name, "item "+number(batch.GetSuspectItem()))
	}
	if batch.GetError() != "" {
		row("error", batch.GetError())
	}
	documents := strings.Join(batch.GetDocuments(), ", ")
	if more := int(batch.GetDocumentCount()) - len(batch.GetDocuments()); more > 0 {
		documents += fmt.Sprintf(" +%d", more)
	}
	row("documents", dash(documents))
	for _, run := range batch.GetOutcomes() {
		row("outcome", fmt.Sprintf("%s %s", Plural(int64(run.GetCount()), "item"), spaced(Outcome(run.GetOutcome()))))
	}
	if err := flushTab(tab); err != nil {
		return err
	}
	if err := attemptsAt(&b, "attempts that did not complete", response); err != nil {
		return err
	}
	if err := attemptsAt(&b, "attempts at batch "+number(batch.GetParentId())+", before it was split", whole); err != nil {
		return err
	}
	if len(response.GetFamily()) > 0 {
		b.WriteString("\nfamily\n")
		tree(&b, response.GetFamily(), batch.GetBatchId())
	}
	return write(w, []byte(b.String()))
}

// attemptsAt explains the attempts at a batch, if there are any.
func attemptsAt(b *strings.Builder, title string, response *tallymanv1.GetBatchResponse) error {
	attempts := response.GetAttempts()
	if len(attempts) == 0 {
		return nil
	}
	b.WriteString("\n" + title + "\n")
	if _, _, err := Attempts.Write(b, Table, each(attempts), 0); err != nil {
		return err
	}
	for _, a := range attempts {
		explain(b, a)
	}
	return nil
}

// Worker writes everything about one worker.
func Worker(w io.Writer, response *tallymanv1.GetWorkerResponse) error {
	worker := response.GetWorker()
	var b strings.Builder
	tab := newTab(&b)
	row := func(name, value string) { fmt.Fprintf(tab, "%s\t%s\n", name, Clean(value)) }
	row("worker", worker.GetWorkerId())
	row("state", WorkerState(worker))
	if worker.GetEndReason() != "" {
		row("reason", worker.GetEndReason())
	}
	if worker.GetTrouble() != "" {
		row("it lacks", worker.GetTrouble())
	}
	row("session", number(worker.GetSessionId()))
	row("host", dash(worker.GetHost()))
	row("process", number(worker.GetPid()))
	row("version", dash(worker.GetVersion()))
	row("kinds", strings.Join(worker.GetKinds(), ", "))
	row("holds", fmt.Sprintf("%s of at most %s", number(worker.GetRunning()), Plural(int64(worker.GetSlots()), "batch")))
	row("completed", Number(worker.GetCompleted()))
	row("crashed", Number(worker.GetCrashed()))
	row("registered", Time(worker.GetRegisteredAt()))
	row("last beat", fmt.Sprintf("%s, %s", Time(worker.GetBeatAt()), ago(worker.GetBeatAt())))
	if worker.GetDrainedAt() != nil {
		row("drained", Time(worker.GetDrainedAt()))
	}
	if worker.GetDrainReason() != "" {
		row("because", worker.GetDrainReason())
	}
	row("ended", Time(worker.GetEndedAt()))
	if err := flushTab(tab); err != nil {
		return err
	}
	if held := response.GetBatches(); len(held) > 0 {
		b.WriteString("\nbatches that it holds\n")
		if _, _, err := heldBatches.Write(&b, Table, each(held), 0); err != nil {
			return err
		}
	}
	if attempts := response.GetAttempts(); len(attempts) > 0 {
		b.WriteString("\nlast attempts that did not complete\n")
		if _, _, err := Attempts.Write(&b, Table, each(attempts), 0); err != nil {
			return err
		}
	}
	return write(w, []byte(b.String()))
}

// heldBatches lists batches that a worker holds.
var heldBatches = List[*tallymanv1.Batch]{[]column[*tallymanv1.Batch]{
	{"job", func(b *tallymanv1.Batch) string { return number(b.GetJobId()) }},
	{"batch", func(b *tallymanv1.Batch) string { return number(b.GetBatchId()) }},
	{"items", batchItems},
	{"attempt", func(b *tallymanv1.Batch) string { return number(b.GetAttempt()) }},
	{"claimed", func(b *tallymanv1.Batch) string { return ago(b.GetClaimedAt()) }},
	{"documents", batchDocuments},
}}

// Statistics writes what ended in a window of time.
func Statistics(w io.Writer, window time.Duration, s *tallymanv1.GetStatisticsResponse) error {
	var b strings.Builder
	fmt.Fprintf(&b, "batches that ended in the last %s: %s\n", Span(window), Number(s.GetBatches()))
	tab := newTab(&b)
	for _, c := range s.GetBatchesByState() {
		fmt.Fprintf(tab, "  %s\t%s\t%s\n", spaced(BatchState(c.GetState())), Number(c.GetBatches()),
			Percent(c.GetBatches(), s.GetBatches()))
	}
	fmt.Fprintf(tab, "  crashed at least once\t%s\t%s\n", Number(s.GetBatchesCrashed()),
		Percent(s.GetBatchesCrashed(), s.GetBatches()))
	fmt.Fprintf(tab, "duration of last attempts\tmean %s\tp50 %s\tp99 %s\n", orDash(s.GetDurationMean()), orDash(s.GetDurationP50()),
		orDash(s.GetDurationP99()))
	if err := flushTab(tab); err != nil {
		return err
	}
	if len(s.GetSlowest()) > 0 {
		b.WriteString("\nslowest batches\n")
		if _, _, err := FoundBatches.Write(&b, Table, each(s.GetSlowest()), 0); err != nil {
			return err
		}
	}
	if len(s.GetFailures()) > 0 {
		b.WriteString("\nmost common failures\n")
		if _, _, err := failures.Write(&b, Table, each(s.GetFailures()), 0); err != nil {
			return err
		}
	}
	if len(s.GetCrashes()) > 0 {
		b.WriteString("\nmost common crashes\n")
		if _, _, err := crashes.Write(&b, Table, each(s.GetCrashes()), 0); err != nil {
			return err
		}
	}
	return write(w, []byte(b.String()))
}

func orDash(d *durationpb.Duration) string {
	if d.AsDuration() == 0 {
		return "-"
	}
	return protoDuration(d)
}

var failures = List[*tallymanv1.FailureGroup]{[]column[*tallymanv1.FailureGroup]{
	{"attempts", func(g *tallymanv1.FailureGroup) string { return number(g.GetAttempts()) }},
	{"end", func(g *tallymanv1.FailureGroup) string { return AttemptEnd(g.GetEnd()) }},
	{"batch", func(g *tallymanv1.FailureGroup) string { return number(g.GetExampleBatchId()) }},
	{"last", func(g *tallymanv1.FailureGroup) string { return Time(g.GetLastAt()) }},
	{"message", func(g *tallymanv1.FailureGroup) string { return dash(g.GetMessage()) }},
}}

var crashes = List[*tallymanv1.CrashGroup]{[]column[*tallymanv1.CrashGroup]{
	{"deaths", func(g *tallymanv1.CrashGroup) string { return number(g.GetAttempts()) }},
	{"batches", func(g *tallymanv1.CrashGroup) string { return number(g.GetBatches()) }},
	{"of", func(g *tallymanv1.CrashGroup) string {
		return cmp.Or(g.GetSignal(), "exit "+number(g.GetExitCode()))
	}},
	{"batch", func(g *tallymanv1.CrashGroup) string { return number(g.GetExampleBatchId()) }},
	{"last", func(g *tallymanv1.CrashGroup) string { return Time(g.GetLastAt()) }},
	{"fingerprint", func(g *tallymanv1.CrashGroup) string { return g.GetFingerprint() }},
	{"standard error", func(g *tallymanv1.CrashGroup) string { return dash(g.GetStderrLine()) }},
}}

func pairs(m map[string]string) string {
	keys := slices.SortedFunc(maps.Keys(m), cmp.Compare)
	for i, key := range keys {
		keys[i] = key + "=" + m[key]
	}
	return dash(strings.Join(keys, " "))
}

// each yields the elements of a slice without errors.
func each[T any](entries []T) func(yield func(T, error) bool) {
	return func(yield func(T, error) bool) {
		for _, entry := range entries {
			if !yield(entry, nil) {
				return
			}
		}
	}
}
