package job

import "time"

// Job is one upload and everything that happens to it.
type Job struct {
	ID         int64
	UploadID   string
	Project    string // "" for kinds that need none
	Kind       string
	Mode       string
	Parameters map[string]string // for the handler
	Labels     map[string]string // for people
	Priority   int32             // higher is claimed first
	FileName   string
	Size       int64 // bytes the client announced; 0 when unknown
	Policy     Policy

	State      State
	StopAs     State  // how a cancelling job ends: Cancelled or Failed
	Reason     string // why it was stopped, for people
	IngestDone bool   // the upload is complete: the total does not grow any more
	Revision   int64  // grows with every change that is visible in a snapshot
	Run        int32  // its first passage, and one more for each retry by hand
	Retrying   States // of batches that the last retry still moves to pending; the job does not end before
	// TakenBack is the items of the batches that the retry still moves, by the outcome that it took back when it began. They
	// are open. If it is stopped they have these outcomes again from the next fold that changes something on.
	TakenBack [outcomes]int64
	// ForgivenBad is the failed and crashed items that the last retry left as they are: limits do not count them.
	ForgivenBad int64
	Counters

	SubmittedAt time.Time
	StartedAt   time.Time // first claim seen; zero before
	RetriedAt   time.Time // when the last retry by hand began; zero before
	EndedAt     time.Time // zero while open
	UpdatedAt   time.Time // of the last fold
}

// Policy is what a submitter may choose of how a job is cut and retried. Zero values mean the defaults.
type Policy struct {
	MaxAttempts     int32  `json:"max_attempts,omitempty"`     // attempts that may fail before the batch ends so
	BatchWeight     int32  `json:"batch_weight,omitempty"`     // annotations after which a batch closes between documents
	BatchItems      int32  `json:"batch_items,omitempty"`      // items at which a batch closes
	BatchBytes      int64  `json:"batch_bytes,omitempty"`      // bytes at which a batch closes
	DefaultSourceDB string `json:"default_sourcedb,omitempty"` // for items without one
	// SourceIDFromName gives items without a sourceid the name of their file.
	SourceIDFromName bool `json:"sourceid_from_name,omitempty"`

	MaxRunning     int32         `json:"max_running,omitempty"`     // batches that run at the same time; 0 for no limit
	StallTimeout   time.Duration `json:"stall_timeout,omitempty"`   // without a finished item; negative for none
	AttemptTimeout time.Duration `json:"attempt_timeout,omitempty"` // of an attempt, whatever it does; 0 for none
	MaxBadItems    int64         `json:"max_bad_items,omitempty"`   // failed and crashed items past which the job fails; 0 for no limit
	MaxBadPercent  float64       `json:"max_bad_percent,omitempty"` // the same in per cent of ended items, from 100 on; 0 for no limit
	Strict         bool          `json:"strict,omitempty"`          // the first item that is neither stored nor skipped fails the job
	MaxSplits      int32         `json:"max_splits,omitempty"`      // batches that may be split to find culprits; negative for none
}

// Defaults of a Policy.
const (
	DefaultMaxAttempts  = 3
	DefaultMaxSplits    = 1000
	DefaultStallTimeout = 10 * time.Minute
)

// Stall returns for how long an attempt may finish no item, 0 for ever.
func (p Policy) Stall() time.Duration {
	if p.StallTimeout == 0 {
		return DefaultStallTimeout
	}
	return max(p.StallTimeout, 0)
}

// Attempts returns MaxAttempts or its default.
func (p Policy) Attempts() int32 {
	if p.MaxAttempts > 0 {
		return p.MaxAttempts
	}
	return DefaultMaxAttempts
}

// Splits returns how many batches may be split, 0 for none.
func (p Policy) Splits() int64 {
	if p.MaxSplits == 0 {
		return DefaultMaxSplits
	}
	return int64(max(p.MaxSplits, 0))
}

// Fold adds what d changed to j, gives it the next revision, and decides whether a limit of its policy stops the job, and
// whether it ended. now is the database's time. It is the one place where a job ends.
func (j *Job) Fold(d *Delta, now time.Time) {
	j.Add(&d.Counters)
	j.IngestDone = j.IngestDone || d.IngestDone > 0
	j.Revision++
	j.UpdatedAt = now
	if j.StartedAt.IsZero() && (j.Batches[BatchRunning] > 0 || j.BatchesTotal() > j.Batches[BatchPending]) {
		j.StartedAt = now
	}
	if reason := j.exceeded(d); reason != "" {
		j.State, j.StopAs, j.Reason, j.Retrying = Cancelling, Failed, reason, 0
	}
	if j.Retrying == 0 {
		j.EndRetry(&j.Counters)
	}
	if end, ok := j.end(); ok {
		j.State = end
		j.EndedAt = now
	}
}

func (j *Job) end() (State, bool) {
	if j.State.Ended() || j.BatchesOpen() != 0 {
		return "", false
	}
	if j.State == Cancelling {
		return j.StopAs, true
	}
	if !j.IngestDone || j.Retrying != 0 {
		return "", false
	}
	if j.Errors > 0 {
		return CompletedWithErrors, true
	}
	for _, o := range Outcomes() {
		if !o.Good() && j.ItemOutcomes[o] > 0 {
			return CompletedWithErrors, true
		}
	}
	return Succeeded, true
}
