package store

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// JobFilter narrows a list of jobs; zero values narrow nothing.
type JobFilter struct {
	Project  string
	Projects []string // any of these, where Project is empty
	Kind     string
	States   []job.State
}

// Of returns the projects that f narrows to; none for all.
func (f JobFilter) Of() []string { return ofProjects(f.Project, f.Projects) }

func ofProjects(one string, several []string) []string {
	if one != "" {
		several = []string{one}
	}
	clean := make([]string, len(several)) // not nil, which a database would take for unknown
	for i, name := range several {
		clean[i] = CleanText(name, MaxName)
	}
	return clean
}

// Open reports whether f asks for open jobs only: there are few of them, however many have ended.
func (f JobFilter) Open() bool {
	return len(f.States) > 0 && !slices.ContainsFunc(f.States, job.State.Ended)
}

// Page bounds a list. After is the sort key of the last entry already seen, 0 for the first page. A Size below 1 is 1.
type Page struct {
	Size  int
	After int64
	// AfterID, where entries share sort keys, is the id of the last entry; 0 for the last of all that have the key.
	AfterID int64
}

// Place returns the sort key and the id of the last entry already seen, of a list whose entries share sort keys.
func (p Page) Place() (key, id int64) {
	if id = p.AfterID; id == 0 {
		id = math.MaxInt64
	}
	return p.After - 1, id
}

// BatchRow is a batch with what lists show of it.
type BatchRow struct {
	job.Batch
	WorkerID  string
	Documents []string // at most ten
	Total     int      // distinct documents
}

// BatchFilter narrows a list of batches; zero values narrow nothing.
type BatchFilter struct {
	JobID    int64
	States   []job.BatchState
	Document string // batches that hold this document, across jobs when JobID is 0
	Slowest  bool   // the slowest first, a bounded number; needs JobID, no paging
}

// Attempt is one ended attempt that did not complete.
type Attempt struct {
	BatchID   int64
	Attempt   int32
	SessionID int64
	WorkerID  string
	Kind      job.EndKind
	Message   string
	ClaimedAt time.Time
	EndedAt   time.Time
	State     job.BatchState // that the batch got
	Beats     int32          // that renewed its lease
	Decision  string         // about the batch and why; "" when there was nothing to decide
	Crash     *job.Crash     // of a process whose death a worker reported; nil otherwise
}

// FindingFilter narrows a list of findings; zero values narrow nothing but JobID, which is needed.
type FindingFilter struct {
	JobID    int64
	BatchID  int64
	Item     int64
	Code     string
	Severity Severity
}

// StatisticsFilter narrows statistics; zero values narrow nothing. Window reaches back from now.
type StatisticsFilter struct {
	Window   time.Duration
	JobID    int64
	Project  string
	Projects []string // any of these, where Project is empty
}

// Of returns the projects that f narrows to; none for all.
func (f StatisticsFilter) Of() []string { return ofProjects(f.Project, f.Projects) }

// Statistics over a window, from the start of its first minute on, of jobs that are not deleted; the batches as of the
// last folds.
type Statistics struct {
	Ended     [6]int64 // batches that ended, by job.BatchState, without parts of split ones
	Crashed   int64    // of those, without the cancelled ones, with at least one crashed (not lost) attempt
	Durations job.Histogram
	Slowest   []BatchRow     // slowest first, at most 20
	Failures  []FailureGroup // attempts that failed, died or were lost, most frequent first, at most 20 groups
	Crashes   []CrashGroup   // attempts that died with a fingerprint, most frequent first, at most 20 groups
}

// CrashRate is the share of these batches, cancelled ones apart, of which at least one attempt died with its worker.
func (s *Statistics) CrashRate() float64 { return job.CrashRate(s.Ended[:], s.Crashed) }

// CrashGroup counts attempts that died with the same fingerprint, across jobs.
type CrashGroup struct {
	Fingerprint string
	Signal      string // of the last; "" when it exited by itself
	ExitCode    int32  // of the last
	Count       int64
	Batches     int64 // different ones
	Example     int64 // a batch id
	LastAt      time.Time
	Stderr      string // first line of what is kept of the last's
}

// lineMost bounds the line of standard error that a group of crashes shows, in characters.
const lineMost = 200

// FirstLine returns the first line of a text that is not blank, shortened.
func FirstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if runes := []rune(line); len(runes) > lineMost {
		line = string(runes[:lineMost])
	}
	return strings.TrimSpace(line)
}

// FailureGroup counts attempts that ended with the same message.
type FailureGroup struct {
	Message string
	Kind    job.EndKind
	Count   int64
	Example int64 // a batch id
	LastAt  time.Time
}

// Listings is what people look at. All are paged and none counts rows.
type Listings interface {
	// ListBatches returns batches by ordinal, and those of one ordinal by id, within a job (Page.After is ordinal+1 of the
	// last, Page.AfterID its id), or newest first by id across jobs (Page.After is the id of the last).
	ListBatches(ctx context.Context, f BatchFilter, page Page) ([]BatchRow, error)
	// BatchStates returns the state of each batch that ingest has cut, by ordinal, as of one moment. Of one that was split it
	// is the worst of how its parts ended (crashed, failed, cancelled), or that it was split. It costs as much as there is that
	// has not completed, nothing of which is in order. A job without batches, or that is not there, has none.
	BatchStates(ctx context.Context, jobID int64) ([]job.BatchState, error)
	// GetBatch returns one batch with its ended attempts, oldest first. ErrNotFound.
	GetBatch(ctx context.Context, id int64) (BatchRow, []Attempt, error)
	// ListFindings returns findings by item number, then in the order they were recorded. The token is opaque.
	ListFindings(ctx context.Context, f FindingFilter, size int, token string) (findings []Finding, next string, err error)
	// ItemBatches returns batches of a job in the order of their items, from an ordinal and an item on, with what says how
	// their items ended: ID, Ordinal, FirstItem, ItemCount and Outcomes. Instead of a batch that was split come its parts.
	// With bad only those that ended badly. As many as size, unless there are no more.
	ItemBatches(ctx context.Context, jobID int64, ordinal int32, item int64, bad bool, size int) ([]job.Batch, error)
	// RejectedItems returns the frame of items rejected at ingest that may hold an item, if there is one, and those after it,
	// in order, at most size.
	RejectedItems(ctx context.Context, jobID, item int64, size int) ([]RejectedItems, error)
	// ResultsPlace returns a place before which no frame of results of a job says anything of items from this number on.
	ResultsPlace(ctx context.Context, jobID, item int64) (int64, error)
	// ResultFrames returns frames of results of a job from a place on, in order, at most size.
	ResultFrames(ctx context.Context, jobID, place int64, size int) ([]ResultFrame, error)
	// GetStatistics adds up what ended in a window.
	GetStatistics(ctx context.Context, f StatisticsFilter) (Statistics, error)
	// LastCrashes returns the last attempts of a job that crashed, newest first, at most limit.
	LastCrashes(ctx context.Context, jobID int64, limit int) ([]Attempt, error)
}
