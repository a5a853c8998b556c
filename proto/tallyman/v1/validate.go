package tallymanv1

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// ValidationError says which fields of a request are missing or wrong. The Validate methods return it, and the server
// sends its violations in a google.rpc.BadRequest.
type ValidationError struct {
	Violations []*errdetails.BadRequest_FieldViolation
}

// Error lists the violations.
func (e *ValidationError) Error() string {
	texts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		texts[i] = v.Field + ": " + v.Description
	}
	return strings.Join(texts, "; ")
}

// violations collects what is wrong with a message.
type violations []*errdetails.BadRequest_FieldViolation

func (v *violations) check(ok bool, field, format string, args ...any) {
	if !ok {
		*v = append(*v, &errdetails.BadRequest_FieldViolation{Field: field, Description: fmt.Sprintf(format, args...)})
	}
}

func (v *violations) id(field string, id int64) {
	v.check(id > 0, field, "must be a number above 0")
}

func (v *violations) page(size int32) {
	v.check(size >= 0 && size <= MaxPageSize, "page_size", "must be 0 (the default) to %d", MaxPageSize)
}

func (v *violations) within(field string, n, low, high int64) {
	v.check(n >= low && n <= high, field, "must be %d to %d", low, high)
}

func (v *violations) err() error {
	if len(*v) == 0 {
		return nil
	}
	return &ValidationError{Violations: *v}
}

// Bounds of the API. They belong to the protocol: no setting changes them.
const (
	MaxPageSize    = 1000    // entries of a page
	MaxNewest      = 10_000  // jobs with which a list that is watched begins
	MaxChunk       = 1 << 20 // bytes of an UploadChunk
	MaxSettlements = 1000    // of one SettleBatches
	MaxClaim       = 1000    // batches of one ClaimBatches
	MaxSlots       = 4096    // of a worker
	MaxLeases      = 8192    // of one heartbeat
	MaxTrouble     = 8 << 10 // bytes

	MaxRetryBatches = 1000 // named in one RetryJob

	MaxResult = 1 << 20 // bytes of the value of an ItemResult

	maxMapEntries = 64 // of parameters and labels
	maxMapBytes   = 16 << 10
	maxFileName   = 4096
	maxBatchBytes = 64 << 20
)

var (
	projectPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{5,40}$`)
	kindPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
)

func printable(s string, most int) bool {
	if s == "" || len(s) > most || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

func (v *violations) texts(field string, m map[string]string) {
	total := 0
	for key, value := range m {
		total += len(key) + len(value)
		v.check(key != "", field, "has an entry with an empty key")
		v.check(!strings.Contains(key+value, "\x00"), field, "has an entry with U+0000")
	}
	v.check(len(m) <= maxMapEntries && total <= maxMapBytes, field,
		"may have %d entries with %d bytes in all", maxMapEntries, maxMapBytes)
}

// Validate reports what is wrong with the message by itself: sizes, not the order of messages.
func (m *SubmitUploadRequest) Validate() error {
	var v violations
	switch x := m.GetMessage().(type) {
	case *SubmitUploadRequest_Header:
		h := x.Header
		v.check(printable(h.GetUploadId(), 128), "header.upload_id", "must be 1 to 128 printable characters without spaces")
		kind := h.GetKind()
		v.check(kind == "" || kindPattern.MatchString(kind), "header.kind", `must be 1 to 64 of a-z, 0-9, "_", "-" and "."`)
		switch project := h.GetProject(); {
		case project != "":
			v.check(projectPattern.MatchString(project), "header.project", `must be 5 to 40 of a-z, 0-9, "_" and "-"`)
		default:
			v.check(kind != "" && kind != KindAnnotations, "header.project", "is required for kind %s", KindAnnotations)
		}
		v.check(h.GetMode() == "" || slices.Contains(Modes(), h.GetMode()), "header.mode", "must be one of %s",
			strings.Join(Modes(), ", "))
		v.texts("header.parameters", h.GetParameters())
		v.texts("header.labels", h.GetLabels())
		v.within("header.priority", int64(h.GetPriority()), -100, 100)
		v.check(len(h.GetFileName()) <= maxFileName && !strings.Contains(h.GetFileName(), "\x00"), "header.file_name",
			"must be at most %d bytes without U+0000", maxFileName)
		v.check(h.GetSize() >= 0, "header.size", "must not be negative")
		p := h.GetPolicy()
		v.within("header.policy.max_attempts", int64(p.GetMaxAttempts()), 0, 100)
		v.within("header.policy.batch_weight", int64(p.GetBatchWeight()), 0, 1_000_000)
		v.within("header.policy.batch_items", int64(p.GetBatchItems()), 0, 100_000)
		v.within("header.policy.batch_bytes", p.GetBatchBytes(), 0, maxBatchBytes)
		v.check(len(p.GetDefaultSourcedb()) <= 255, "header.policy.default_sourcedb", "must be at most 255 bytes")
		v.within("header.policy.max_running", int64(p.GetMaxRunning()), 0, 1_000_000)
		stall, attempt := p.GetStallTimeout().AsDuration(), p.GetAttemptTimeout().AsDuration()
		v.check(stall <= 0 || stall >= time.Second, "header.policy.stall_timeout", "must be at least 1s, or negative for none")
		v.check(attempt == 0 || attempt >= time.Second, "header.policy.attempt_timeout", "must be at least 1s, or 0 for none")
		v.check(p.GetMaxBadItems() >= 0, "header.policy.max_bad_items", "must not be negative")
		v.check(p.GetMaxBadPercent() >= 0 && p.GetMaxBadPercent() <= 100, "header.policy.max_bad_percent",
			"must be above 0 to 100, or 0 for no limit")
	case *SubmitUploadRequest_Chunk:
		v.check(len(x.Chunk.GetData()) <= MaxChunk, "chunk.data", "must be at most %d bytes", MaxChunk)
		v.check(x.Chunk.GetOffset() >= 0, "chunk.offset", "must not be negative")
	case *SubmitUploadRequest_Finish:
		v.check(x.Finish.GetSize() >= 0, "finish.size", "must not be negative")
	default:
		v.check(false, "message", "must be header, chunk or finish")
	}
	return v.err()
}

// Names with a meaning of their own.
const (
	KindAnnotations = "annotations" // the built-in handler's kind
	ModeReplace     = "replace"     // the default mode
	ModeAdd         = "add"
	ModeMerge       = "merge"
	ModeSkip        = "skip"
)

// Services of the health protocol, beside the one without a name, which is a whole coordinator: serving says of these that
// the database is reachable and has this coordinator's schema, and that there is space left to write in it.
const (
	HealthDatabase = "tallyman.v1.database"
	HealthSpace    = "tallyman.v1.space"
)

// Modes returns all modes, the default first.
func Modes() []string { return []string{ModeReplace, ModeAdd, ModeMerge, ModeSkip} }

// Validate reports what is wrong with the request.
func (m *GetUploadRequest) Validate() error {
	var v violations
	v.check(printable(m.GetUploadId(), 128), "upload_id", "must be 1 to 128 printable characters without spaces")
	return v.err()
}

func validateJobID(id int64) error {
	var v violations
	v.id("job_id", id)
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *GetJobRequest) Validate() error { return validateJobID(m.GetJobId()) }

// Validate reports what is wrong with the request.
func (m *DeleteJobRequest) Validate() error { return validateJobID(m.GetJobId()) }

// Validate reports what is wrong with the request.
func (m *WatchJobRequest) Validate() error {
	var v violations
	v.id("job_id", m.GetJobId())
	v.check(m.GetAfterRevision() >= 0, "after_revision", "must not be negative")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *CancelJobRequest) Validate() error {
	var v violations
	v.id("job_id", m.GetJobId())
	v.check(len(m.GetReason()) <= 1024, "reason", "must be at most 1024 bytes")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *PauseJobRequest) Validate() error { return validateJobID(m.GetJobId()) }

// Validate reports what is wrong with the request.
func (m *ResumeJobRequest) Validate() error { return validateJobID(m.GetJobId()) }

// Validate reports what is wrong with the request.
func (m *RetryJobRequest) Validate() error {
	var v violations
	v.id("job_id", m.GetJobId())
	v.check(printable(m.GetRequestId(), 64), "request_id", "must be 1 to 64 printable characters without spaces")
	for i, s := range m.GetStates() {
		v.check(s >= BatchState_BATCH_STATE_FAILED && s <= BatchState_BATCH_STATE_CANCELLED, fmt.Sprintf("states[%d]", i),
			"must be failed, crashed or cancelled")
	}
	v.check(len(m.GetBatchIds()) <= MaxRetryBatches, "batch_ids", "must be at most %d", MaxRetryBatches)
	for i, id := range m.GetBatchIds() {
		v.id(fmt.Sprintf("batch_ids[%d]", i), id)
	}
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ExportItemsRequest) Validate() error {
	var v violations
	v.id("job_id", m.GetJobId())
	v.check(m.GetAfterItem() >= 0, "after_item", "must not be negative")
	for i, o := range m.GetOutcomes() {
		v.check(o != Outcome_OUTCOME_UNSPECIFIED && Outcome_name[int32(o)] != "", fmt.Sprintf("outcomes[%d]", i), "is not an outcome")
	}
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ExportResultsRequest) Validate() error {
	var v violations
	v.id("job_id", m.GetJobId())
	v.check(m.GetAfterItem() >= 0, "after_item", "must not be negative")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *GetWorkerRequest) Validate() error {
	var v violations
	v.check(printable(m.GetWorkerId(), 128), "worker_id", "must be 1 to 128 printable characters without spaces")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *DrainWorkerRequest) Validate() error {
	var v violations
	v.check(printable(m.GetWorkerId(), 128), "worker_id", "must be 1 to 128 printable characters without spaces")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *CleanupJobsRequest) Validate() error {
	var v violations
	v.check(m.GetOlderThan() != nil && m.GetOlderThan().AsDuration() >= 0, "older_than", "must be given, and not be negative")
	v.page(m.GetPageSize())
	for i, s := range m.GetStates() {
		v.check(s >= JobState_JOB_STATE_SUCCEEDED && s <= JobState_JOB_STATE_CANCELLED, fmt.Sprintf("states[%d]", i),
			"must be an end of a job")
	}
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ListJobsRequest) Validate() error {
	var v violations
	v.page(m.GetPageSize())
	for i, s := range m.GetStates() {
		v.check(JobState_name[int32(s)] != "", fmt.Sprintf("states[%d]", i), "is not a job state")
	}
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *WatchBatchesRequest) Validate() error {
	var v violations
	v.id("job_id", m.GetJobId())
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *WatchJobsRequest) Validate() error {
	var v violations
	v.check(m.GetNewest() >= 0 && m.GetNewest() <= MaxNewest, "newest", "must be 0 (the default) to %d", MaxNewest)
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *GetBatchRequest) Validate() error {
	var v violations
	v.id("batch_id", m.GetBatchId())
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ListBatchesRequest) Validate() error {
	var v violations
	v.page(m.GetPageSize())
	v.check(m.GetJobId() > 0 || (m.GetJobId() == 0 && m.GetDocument() != ""), "job_id", "is required without a document")
	v.check(!m.GetSlowest() || m.GetJobId() > 0, "slowest", "needs job_id")
	v.check(m.GetFromOrdinal() >= 0, "from_ordinal", "must not be negative")
	v.check(m.GetFromOrdinal() == 0 || m.GetJobId() > 0 && m.GetDocument() == "" && !m.GetSlowest(), "from_ordinal",
		"needs job_id, and goes with neither document nor slowest")
	v.check(len(m.GetDocument()) <= 1024, "document", "must be at most 1024 bytes")
	for i, s := range m.GetStates() {
		v.check(BatchState_name[int32(s)] != "", fmt.Sprintf("states[%d]", i), "is not a batch state")
	}
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ListFindingsRequest) Validate() error {
	var v violations
	v.id("job_id", m.GetJobId())
	v.page(m.GetPageSize())
	v.check(m.GetBatchId() >= 0, "batch_id", "must not be negative")
	v.check(m.GetItem() >= 0, "item", "must not be negative")
	v.check(len(m.GetCode()) <= 128, "code", "must be at most 128 bytes")
	v.check(Severity_name[int32(m.GetSeverity())] != "", "severity", "is not a severity")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *RegisterWorkerRequest) Validate() error {
	var v violations
	v.check(m.GetWorkerId() == "" || printable(m.GetWorkerId(), 128), "worker_id",
		"must be 1 to 128 printable characters without spaces")
	v.within("kinds", int64(len(m.GetKinds())), 1, 64)
	for i, k := range m.GetKinds() {
		v.check(kindPattern.MatchString(k), fmt.Sprintf("kinds[%d]", i), `must be 1 to 64 of a-z, 0-9, "_", "-" and "."`)
	}
	v.within("slots", int64(m.GetSlots()), 1, MaxSlots)
	v.check(len(m.GetHost()) <= 256, "host", "must be at most 256 bytes")
	v.check(len(m.GetVersion()) <= 256, "version", "must be at most 256 bytes")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ClaimBatchesRequest) Validate() error {
	var v violations
	v.id("session_id", m.GetSessionId())
	v.check(printable(m.GetRequestId(), 64), "request_id", "must be 1 to 64 printable characters without spaces")
	v.within("max_batches", int64(m.GetMaxBatches()), 1, MaxClaim)
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ReadBatchRequest) Validate() error {
	var v violations
	v.id("session_id", m.GetSessionId())
	v.id("batch_id", m.GetBatchId())
	v.within("attempt", int64(m.GetAttempt()), 1, 1<<31-1)
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *DeregisterWorkerRequest) Validate() error {
	var v violations
	v.id("session_id", m.GetSessionId())
	v.check(len(m.GetReason()) <= 1024, "reason", "must be at most 1024 bytes")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *GetStatisticsRequest) Validate() error {
	var v violations
	window := m.GetWindow().AsDuration()
	v.check(window >= 0 && window.Hours() <= 366*24, "window", "must be 0 (the default) to 366 days")
	v.check(m.GetJobId() >= 0, "job_id", "must not be negative")
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *ListWorkersRequest) Validate() error {
	var v violations
	v.page(m.GetPageSize())
	return v.err()
}
