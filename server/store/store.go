// Package store says what a coordinator must remember, as interfaces by consumer. The packages postgres and sqlite
// implement all of them; storetest is the suite that both pass and the specification of what is written here.
//
// Three rules hold for every method:
//
//   - It returns after the commit, or it changed nothing.
//   - It may be repeated: the second call gives the first one's answer or changes nothing.
//   - Its write repeats its own condition, so that any number of coordinators may call it at once.
//
// Decisions are package job's; a store applies them under the lock of the row they are about. Errors of a driver never
// leave a store as such: they are wrapped in one of the errors below, or are none of a caller's business.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// Errors that callers tell apart, with errors.Is.
var (
	ErrNotFound       = errors.New("not found")
	ErrUploadFenced   = errors.New("the upload was opened again by a newer stream")
	ErrUploadMismatch = errors.New("the upload id belongs to an upload with another header")
	ErrSessionEnded   = errors.New("the session has ended")
	ErrWorkerTaken    = errors.New("the worker id belongs to a live session of somebody else")
	ErrSessionDrained = errors.New("the session is being drained")
	ErrJobOpen        = errors.New("the job has not ended")
	ErrNothingToRetry = errors.New("there is no batch to retry")
	ErrUnavailable    = errors.New("the database cannot be reached") // transient; retry
	ErrFull           = errors.New("the database has no space left") // transient; retry when somebody made room
	ErrSchema         = errors.New("the database schema is not this program's")
)

// Store is all of it.
type Store interface {
	Uploads
	Leases
	Sessions
	Tokens
	Jobs
	Listings
	Upkeep
	Retention
	Workers
	Wakeups
	Gauges
	Deliveries

	// ClusterID names this database for ever; stores of annotations bind themselves to it.
	ClusterID(ctx context.Context) (string, error)
	// Check returns nil when the database is reachable and its schema is this program's.
	Check(ctx context.Context) error
	// CheckRoom writes a little and returns nil when there was room for it: ErrFull otherwise. It leaves nothing behind.
	CheckRoom(ctx context.Context) error
	Close() error
}

// Finding is a warning or an error about one item, or about an upload (Item 0), with its exact place.
type Finding struct {
	ID       int64 // of the row; set by the store
	JobID    int64
	BatchID  int64 // 0 when found at ingest
	Item     int64 // number in the upload, from 1
	Severity Severity
	Code     string
	File     string
	Line     int64
	Offset   int64
	Document string
	Path     string
	Message  string

	// Position of the item in its batch, from 0, in what a worker reports; not kept. The report by which the outcome of
	// the item at this position becomes final records the finding; every other one drops it.
	Position int32
}

// Severity of a finding. The numbers are those of the protocol and are kept in the database.
type Severity uint8

// The severities.
const (
	Warning Severity = 1
	Error   Severity = 2
)

// ClaimRequest is one caller that waits for work.
type ClaimRequest struct {
	SessionID int64
	RequestID string // repeating it returns the same leases
	Max       int
}

// Turn is a job from which a claim group may take. No group has two of one job.
type Turn struct {
	JobID int64
	Floor int32 // no fresh batch lies before this ordinal
	Most  int   // most batches to take

	JobLimit     int    // batches of the job that may run at the same time; 0 for no limit
	Project      string // that ProjectLimit is about
	ProjectLimit int    // the same of all jobs of the project; 0 for no limit
}

// Grant is a lease as it was granted.
type Grant struct {
	job.Lease
	JobID     int64
	Ordinal   int32
	FirstItem int64
	ItemCount int32
	DoneItems int32         // items at its front whose outcome is final already: not to be handled again
	Remaining time.Duration // of the lease, when the store answered
	Repeated  bool          // the answer to a repeated request
	Solo      bool          // the session holds nothing else, and gets nothing else meanwhile
	Ancestors []int64       // that it was split from, the last one first
	Frame     []byte        // its payload, if the engine had it at hand and it is small; else Payloads reads it
}

// Claimed is what a claim group got.
type Claimed struct {
	Grants [][]Grant      // by request
	Errs   []error        // by request: nil, ErrSessionEnded or ErrSessionDrained
	Took   map[int64]Took // by job id, for each turn with Most > 0
}

// Took says what a turn gave. That it is less than the turn's Most without what was Held means that the job has no more,
// from the floor on, only when requests were left unfilled.
type Took struct {
	Batches int   // returned and fresh ones
	Fresh   int   // of these, never claimed before
	Last    int32 // ordinal of the last fresh one
	Held    int   // of the turn's Most, those that its limits kept it from taking
	Full    bool  // it has no room left under its limits, as far as could be seen without waiting for other claims
	Choosy  bool  // batches may wait, of it or of others, that none of the sessions may have at the moment
}

// Beat renews one lease, and may bring outcomes that have become final.
type Beat struct {
	job.Lease
	From     int32     // position, in items of the batch, from which Outcomes count
	Outcomes []job.Run // empty for a mere renewal
	Findings []Finding
	Results  Results // of the items that Outcomes are about
	Waiting  bool    // its handler has not begun: nothing accuses the batch when the worker dies
}

// BeatAnswer is what became of a beat.
type BeatAnswer struct {
	JobID        int64 // 0 when lost
	Lost         bool  // the lease is not the session's any more
	Cancelled    bool  // the job is being stopped
	Paused       bool  // the job is paused: the batch should be given back
	Acknowledged int32 // the batch's done items
}

// Settlement ends one attempt.
type Settlement struct {
	job.Lease
	job.End
	Findings []Finding
	Results  Results // of the items that its outcomes are about
}

// SettleAnswer is what became of a settlement.
type SettleAnswer struct {
	JobID int64          // 0 when nothing changed
	Lost  bool           // the lease was not the session's: nothing changed
	State job.BatchState // of the batch right after this end
	Err   error          // ErrIncomplete: completed with items that have no outcome
}

// Settled is what became of a group of settlements.
type Settled struct {
	Answers []SettleAnswer // in the order of the settlements
	Ended   []Ended        // attempts ended now that did not complete
}

// ErrIncomplete says that an attempt was settled as completed while items lack outcomes, or its outcomes leave a gap or
// pass the end.
var ErrIncomplete = errors.New("the outcomes do not cover the batch's items exactly")

// Ended is an attempt that was ended by the coordinator, or by a settlement that did not complete, for the log.
type Ended struct {
	job.Lease
	JobID     int64
	Kind      job.EndKind
	Message   string
	State     job.BatchState
	Decision  string // about the batch and why; "" when there was nothing to decide
	WorkerID  string
	Documents []string // the first ten
	Total     int      // documents of the batch
}

// Reaped is the result of one round of the reaper.
type Reaped struct {
	Ended []Ended
	Now   time.Time // the database's clock
}

// Leases is what claims, heartbeats, settles and the reaper need. Each call takes a group and is one transaction;
// rows are locked in id order.
type Leases interface {
	// Claim gives pending batches to the requests, in turns over the requests, so that callers waiting together share.
	// Turn by turn, batches of the job that were returned come first, those that are available longest, then its fresh
	// ones; only of jobs that are running. Before them come those that died and are choosy: solo ones go to a session that
	// holds nothing, which then gets nothing else before it ended, and for some time one is not given to the worker on which
	// it died. So that a solo one finds its session, one session may be kept from taking more. At no moment do more batches run than the limits of turns say, whoever else
	// claims with the same limits. A request id that its session already used returns the leases it still holds
	// under that id, if any.
	Claim(ctx context.Context, lease time.Duration, requests []ClaimRequest, turns []Turn) (Claimed, error)
	// Payloads returns the frames of as many of the batches, from the first on, as have at most maxBytes together, by
	// batch id. Not even one may fit.
	Payloads(ctx context.Context, batches []int64, maxBytes int64) (map[int64][]byte, error)
	// Frame returns one batch's frame on the condition that lease is live; ErrNotFound otherwise.
	Frame(ctx context.Context, lease job.Lease) ([]byte, error)
	// Beat renews leases to end in lease from now, and records outcomes, findings and results. A renewal after expiry, but
	// before the reaper, succeeds. Outcomes that are repeated in part count from the first new one on; those that leave
	// a gap, or pass the end of the batch, are not recorded, and Acknowledged tells where to go on. A group of renewals
	// without outcomes does not wait for the disk. A lease that somebody else has locked at the moment is skipped, in
	// which case it is neither lost nor renewed: skipped tells their indexes.
	Beat(ctx context.Context, lease time.Duration, beats []Beat) (answers []BeatAnswer, skipped []int, err error)
	// Settle ends attempts, each on its own: one that is lost or incomplete spoils no other. One of the same kind as the
	// end already recorded for the same lease gets that end's answer again, whatever became of the batch since. A batch
	// that ends with items undone gives these the outcome that package job decides, so that its outcomes are complete.
	// ended lists the attempts ended now that did not complete.
	Settle(ctx context.Context, settlements []Settlement) (answers []SettleAnswer, ended []Ended, err error)
	// SettleAndClaim settles, as Settle does, and then claims, as Claim does, in one transaction: what the settlements end is
	// not held any more by those who claim, has made room under limits, and may be claimed where it is pending again. When
	// settling has been committed and claiming failed, that is an error of each request in Claimed, not of the call.
	SettleAndClaim(ctx context.Context, settlements []Settlement, lease time.Duration, requests []ClaimRequest, turns []Turn) (
		Settled, Claimed, error)
	// Reap ends leases that have expired: of the given batches, or with nil of all there are, at most limit. Rows that
	// are locked are left for the next round. An expired lease whose session's stream broke since it was granted died; of others package
	// job decides, by what is known of the other sessions, whether they are lost.
	Reap(ctx context.Context, batches []int64, limit int) (Reaped, error)
}

// Jobs is what the life of a job needs.
type Jobs interface {
	// GetJob returns a job as of its last fold. ErrNotFound, also when it is being deleted.
	GetJob(ctx context.Context, id int64) (job.Job, error)
	// ListJobs returns jobs, newest first.
	ListJobs(ctx context.Context, f JobFilter, page Page) ([]job.Job, error)
	// ClaimableJobs returns the jobs that are running, in no order: for the dispatcher's turns.
	ClaimableJobs(ctx context.Context) ([]job.Job, error)
	// PauseJob makes a running job paused: nothing of it is claimed, and beats are told to give its batches back. A paused
	// job is returned as it is. ErrJobStopped.
	PauseJob(ctx context.Context, id int64) (job.Job, error)
	// ResumeJob makes a paused job running. A running job is returned as it is. ErrJobStopped.
	ResumeJob(ctx context.Context, id int64) (job.Job, error)
	// StopJob makes a running or paused job cancelling, with how it will end and why. What a retry has not moved yet has its
	// outcomes again. A job already being stopped stays as it is; an ended job is returned as it is.
	StopJob(ctx context.Context, id int64, as job.State, reason string) (job.Job, error)
	// RetryJob starts a job's next run: batches that ended badly are pending again, with the outcomes that handlers gave,
	// with their counts of failures, crashes and losses from 0, and with attempts that count on. An ended job is running
	// again, a running or paused one stays so; an upload that was not finished may be resumed, and waits for that as long as
	// any. Named batches are moved at once; all others by RetryStep, before which the job does not end, though the outcomes
	// that only their ends gave are taken back now. What an earlier retry has not moved yet, and what ended in its states
	// since, this one moves. Nothing is changed when the request id is that of the job's last retry. ErrNotFound; ErrJobOpen
	// while the job is being stopped; ErrNothingToRetry, unless it is an ended job's upload that can be resumed.
	RetryJob(ctx context.Context, id int64, r Retry) (job.Job, error)
	// RetryStep looks at the next limit batches at most of a retried job that ended badly, and moves those that ended before
	// the retry and in its states to pending. How many items have ended it does not change. It returns how many were moved,
	// and whether there may be more.
	RetryStep(ctx context.Context, id int64, limit int) (moved int, more bool, err error)
	// RetryingJobs returns the ids of jobs whose retries still move batches.
	RetryingJobs(ctx context.Context) ([]int64, error)
	// SweepJob cancels at most limit pending batches of a cancelling job, with their items, and returns how many.
	SweepJob(ctx context.Context, id int64, limit int) (int, error)
	// CancellingJobs returns the ids of jobs being stopped.
	CancellingJobs(ctx context.Context) ([]int64, error)
	// DeleteJob hides an ended job with all that belongs to it; DeleteStep removes it later. Its upload id may be used
	// for another job at once. ErrJobOpen, ErrNotFound.
	DeleteJob(ctx context.Context, id int64) error
	// Fold moves the deltas of a job into it and may stop or end it. changed is false when there were none.
	Fold(ctx context.Context, id int64) (j job.Job, changed bool, err error)
	// DirtyJobs returns the ids of jobs that have deltas, or that have nothing left to do but to end.
	DirtyJobs(ctx context.Context) ([]int64, error)
}

// Retry says which batches of a job to try again by hand.
type Retry struct {
	RequestID string
	States    []job.BatchState // of failed, crashed and cancelled; empty for all three
	Batches   []int64          // only these; those that are not the job's, or not in these states, are left alone
}

// Set returns the states as a set.
func (r Retry) Set() job.States {
	if len(r.States) == 0 {
		return job.Bad
	}
	return job.StatesOf(r.States...) & job.Bad
}

// Upkeep is what runs in the background, in small steps.
type Upkeep interface {
	// DeleteStep removes at most limit rows of jobs marked as deleted, children before parents, and tells whether
	// anything is left.
	DeleteStep(ctx context.Context, limit int) (more bool, err error)
	// Now returns the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Change tells other coordinators what to look at.
type Change struct {
	Jobs []int64 // snapshots, or claimable batches, have changed
	All  bool    // too many to name
}

// Wakeups carries changes between coordinators. A lost one costs at most the poll interval, never correctness.
type Wakeups interface {
	// Notify sends a change to the other coordinators. The caller bounds how often.
	Notify(ctx context.Context, c Change) error
	// Listen calls f, one call at a time, for every change of other coordinators until ctx ends. It reconnects by
	// itself and calls f with All after it did. With an engine that has no other coordinators it just waits.
	Listen(ctx context.Context, f func(Change)) error
}
