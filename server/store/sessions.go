package store

import (
	"context"
	"time"
)

// Session is one life of a worker process.
type Session struct {
	ID           int64
	WorkerID     string
	Owner        string // who registered it; "" where nobody is asked
	Host         string
	PID          int32
	Version      string
	Kinds        []string
	Slots        int32
	RegisteredAt time.Time
	BeatAt       time.Time // last beat known to the database
	DrainedAt    time.Time // when it was asked to take no more and to end; zero unless it was
	DrainReason  string    // why JudgeWorkers drained it; "" when it did not
	Trouble      string    // what keeps it from working, as it says itself; "" while nothing does
	EndedAt      time.Time // zero while it lives
	EndReason    string
	Running      int64 // leases held
	Completed    int64 // batches completed
	Crashed      int64 // attempts that died or were lost
}

// Stream is a heartbeat stream that a session opened.
type Stream struct {
	SessionID int64
	Epoch     int64
}

// Sessions is what worker sessions need.
type Sessions interface {
	// RegisterSession starts a session and ends an earlier one of the same worker id: what that one held has died.
	// ErrWorkerTaken when that one lives and is another owner's, unless either of them has none.
	// If JudgeWorkers had drained that one, this one is drained as well: its process did not end, it died.
	RegisterSession(ctx context.Context, s Session) (id int64, ended []Ended, err error)
	// GetSession returns a live session. ErrSessionEnded or ErrNotFound otherwise.
	GetSession(ctx context.Context, id int64) (Session, error)
	// OpenStream notes that a session has opened a heartbeat stream and returns its number, which only grows. A
	// reconnect grace that runs is called off. ErrSessionEnded.
	OpenStream(ctx context.Context, session int64) (epoch int64, err error)
	// BreakStream notes that the worker's side closed the stream: the session's leases are shortened to end in grace,
	// unless it has opened a newer stream than epoch. It lengthens none, and is nothing for a session that has ended.
	BreakStream(ctx context.Context, session, epoch int64, grace time.Duration) error
	// ExcuseStreams takes back that streams broke, each unless its session has opened a newer one: leases that run out
	// because of it, as soon as they did with it, are lost, and nobody has died.
	ExcuseStreams(ctx context.Context, streams []Stream) error
	// TouchSessions notes that sessions have beaten, and returns those of them that are being drained. Not waited for by
	// anybody.
	TouchSessions(ctx context.Context, sessions []int64) (drained []int64, err error)
	// NoteTrouble notes what keeps a session from working, "" for nothing. Of one that has ended nothing changes.
	NoteTrouble(ctx context.Context, session int64, trouble string) error
	// DrainSession notes that a worker's live session is to take no more and to end: it is granted nothing any more. Of
	// one that is being drained nothing changes. ErrNotFound.
	DrainSession(ctx context.Context, workerID string) (Session, error)
	// JudgeWorkers drains the workers on which everything dies, as package job judges by what died within Judged, since they
	// were drained last, but no worker that is the last one of a kind it serves. Their sessions keep
	// the reason. Batches that died on no other worker are acquitted: as if they had not died, but
	// for what is remembered of their attempts, and that they may stay solo.
	JudgeWorkers(ctx context.Context) ([]DrainedWorker, error)
	// EndSession ends a session that deregistered: what it still holds is released.
	EndSession(ctx context.Context, session int64, reason string) ([]Ended, error)
	// EndSilentSessions ends sessions of which nothing was heard for so long; what they still hold, if anything, is
	// lost.
	EndSilentSessions(ctx context.Context, silent time.Duration) ([]Ended, error)
	// ListSessions returns live sessions, and with all also those that ended and are still kept, newest first.
	ListSessions(ctx context.Context, all bool, page Page) ([]Session, error)
}
