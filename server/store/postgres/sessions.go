package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// leasesAtOnce bounds the leases that one transaction ends for a session, and the sessions that one ends.
const leasesAtOnce = 1000

// insertSession has the session drained as those before it were that ended only now.
const insertSession = `
INSERT INTO sessions (worker_id, host, pid, version, kinds, slots, owner, registered_at, beat_at, drained_at, drain_reason)
SELECT $1, $2, $3, $4, $5, $6, $8, clock_timestamp(), clock_timestamp(), max(e.drained_at), coalesce(max(e.drain_reason), '')
FROM sessions e WHERE e.id = ANY ($7::bigint[]) AND e.drain_reason <> ''
RETURNING id`

// othersSessions are live sessions of a worker id that belong to somebody else.
const othersSessions = `
SELECT id FROM sessions WHERE worker_id = $1 AND ended_at IS NULL AND owner <> '' AND $2 <> '' AND owner <> $2`

// endSessions ends sessions, or with $3 those of them that have been silent for so long.
const endSessions = `
UPDATE sessions SET ended_at = clock_timestamp(), end_reason = $2
WHERE id = ANY ($1::bigint[]) AND ended_at IS NULL
  AND ($3::interval IS NULL OR beat_at <= clock_timestamp() - $3::interval)`

// lockLeasesOf waits for what others do to the leases of those of the sessions that have ended. The ids are looked up
// first, so that the rows are locked in their order without the table being walked in it; the condition is repeated in a
// form that cannot be searched for.
const lockLeasesOf = `
WITH leases AS MATERIALIZED (
    SELECT r.id
    FROM batches r
    WHERE r.session_id = ANY (ARRAY(SELECT s.id FROM sessions s WHERE s.id = ANY ($1::bigint[]) AND s.ended_at IS NOT NULL))
)
SELECT ` + heldColumns + `
FROM batches b
WHERE b.id = ANY (ARRAY(SELECT id FROM leases ORDER BY id LIMIT $2)) AND coalesce(b.session_id, 0) = ANY ($1::bigint[])
ORDER BY b.id
FOR UPDATE`

// farewell is how sessions end: which, why, and what becomes of the leases they hold.
type farewell struct {
	sessions []int64       // in order
	silent   time.Duration // 0, or only those that have been silent for so long
	reason   string
	kind     job.EndKind
	message  string
}

func (f farewell) how(*held) (job.EndKind, string) { return f.kind, f.message }

// RegisterSession implements store.Sessions.
func (s *Store) RegisterSession(ctx context.Context, n store.Session) (int64, []store.Ended, error) {
	n = n.Clean()
	worker := fnv.New32a()
	_, _ = worker.Write([]byte(n.WorkerID)) // a hash takes everything
	var (
		id    int64
		ended []store.Ended
		full  bool
	)
	bye := farewell{reason: store.ReplacedMessage, kind: job.EndDied, message: store.ReplacedMessage}
	err := s.write(ctx, "register session", func(ctx context.Context, t *tx) error {
		bye.sessions = nil
		t.queue(`SELECT pg_advisory_xact_lock($1, $2)`, workerLock, int32(worker.Sum32()))
		var others []int64
		ids(t.queue(`SELECT id FROM sessions WHERE worker_id = $1 AND ended_at IS NULL`, n.WorkerID), &bye.sessions)
		ids(t.queue(othersSessions, n.WorkerID, n.Owner), &others)
		if err := t.send(ctx); err != nil {
			return err
		}
		if len(others) > 0 {
			return store.ErrWorkerTaken
		}
		e := ending{tally: new(tally), choosy: &s.choosy, deaths: bye.kind == job.EndDied}
		if err := e.endSessions(ctx, t, bye); err != nil {
			return err
		}
		if err := e.finish(ctx, t); err != nil {
			return err
		}
		ended, full = e.ended, len(e.order) == leasesAtOnce
		t.queue(insertSession, n.WorkerID, n.Host, n.PID, n.Version, n.Kinds, n.Slots, bye.sessions, n.Owner).QueryRow(func(row pgx.Row) error {
			return row.Scan(&id)
		})
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	if full {
		more, err := s.endLeases(ctx, bye)
		return id, append(ended, more...), err
	}
	return id, ended, nil
}

// endSessions ends sessions and as many of their leases as one transaction should. Claims of theirs that are under way
// are waited for, so that none is granted after its session ended.
func (e *ending) endSessions(ctx context.Context, t *tx, bye farewell) error {
	if len(bye.sessions) == 0 {
		return nil
	}
	var silent *time.Duration
	if bye.silent > 0 {
		silent = &bye.silent
	}
	t.queue(lockSessions, sessionLock, bye.sessions)
	t.queue(endSessions, bye.sessions, store.CleanText(bye.reason, store.MaxMessage), silent)
	e.lock(t, lockLeasesOf, bye.sessions, leasesAtOnce)
	if err := e.prepare(ctx, t); err != nil {
		return err
	}
	e.endAll(bye.how)
	return nil
}

// endLeases ends what ended sessions still hold, in steps.
func (s *Store) endLeases(ctx context.Context, bye farewell) ([]store.Ended, error) {
	var all []store.Ended
	for {
		var e ending
		err := s.write(ctx, "end leases of session", func(ctx context.Context, t *tx) error {
			e = ending{tally: new(tally), choosy: &s.choosy, deaths: bye.kind == job.EndDied}
			e.lock(t, lockLeasesOf, bye.sessions, leasesAtOnce)
			if err := e.prepare(ctx, t); err != nil {
				return err
			}
			e.endAll(bye.how)
			return e.finish(ctx, t)
		})
		if err != nil {
			return all, err
		}
		all = append(all, e.ended...)
		if len(e.order) < leasesAtOnce {
			return all, nil
		}
	}
}

// EndSession implements store.Sessions.
func (s *Store) EndSession(ctx context.Context, session int64, reason string) ([]store.Ended, error) {
	return s.end(ctx, farewell{
		sessions: []int64{session}, reason: reason, kind: job.EndReleased, message: store.DeregisteredMessage,
	})
}

const selectSilent = `
SELECT id FROM sessions
WHERE ended_at IS NULL AND beat_at <= clock_timestamp() - $1::interval
ORDER BY id
LIMIT $2`

// EndSilentSessions implements store.Sessions.
func (s *Store) EndSilentSessions(ctx context.Context, silent time.Duration) ([]store.Ended, error) {
	sessions, err := s.ids(ctx, "find silent sessions", selectSilent, silent, leasesAtOnce)
	if err != nil || len(sessions) == 0 {
		return nil, err
	}
	return s.end(ctx, farewell{
		sessions: sessions, silent: silent, reason: "silent", kind: job.EndLost, message: store.LostMessage,
	})
}

func (s *Store) end(ctx context.Context, bye farewell) ([]store.Ended, error) {
	var e ending
	err := s.write(ctx, "end session", func(ctx context.Context, t *tx) error {
		e = ending{tally: new(tally), choosy: &s.choosy, deaths: bye.kind == job.EndDied}
		if err := e.endSessions(ctx, t, bye); err != nil {
			return err
		}
		return e.finish(ctx, t)
	})
	if err != nil {
		return nil, err
	}
	if len(e.order) == leasesAtOnce {
		more, err := s.endLeases(ctx, bye)
		return append(e.ended, more...), err
	}
	return e.ended, nil
}

const openStream = `
UPDATE sessions SET stream_epoch = stream_epoch + 1, broken_at = NULL, beat_at = clock_timestamp()
WHERE id = $1 AND ended_at IS NULL
RETURNING stream_epoch`

// OpenStream implements store.Sessions.
func (s *Store) OpenStream(ctx context.Context, session int64) (int64, error) {
	var epoch int64
	err := s.write(ctx, "open stream", func(ctx context.Context, t *tx) error {
		epoch = 0
		each(t.queue(openStream, session), func(row pgx.Rows) error { return row.Scan(&epoch) })
		if err := t.send(ctx); err != nil {
			return err
		}
		if epoch == 0 {
			return fmt.Errorf("session %d: %w", session, store.ErrSessionEnded)
		}
		return nil
	})
	return epoch, err
}

const breakStream = `
UPDATE sessions SET broken_at = clock_timestamp()
WHERE id = $1 AND stream_epoch = $2 AND ended_at IS NULL
RETURNING id`

// shortenLeases lets the leases of a session end in a grace, and none later than it would anyway.
const shortenLeases = `
WITH leases AS MATERIALIZED (SELECT r.id FROM batches r WHERE r.session_id = $1),
locked AS MATERIALIZED (
    SELECT b.id
    FROM batches b
    WHERE b.id = ANY (ARRAY(SELECT id FROM leases)) AND b.session_id IS NOT DISTINCT FROM $1
    ORDER BY b.id
    FOR UPDATE
)
UPDATE batches b
SET lease_expires_at = least(b.lease_expires_at, clock_timestamp() + $2::interval)
WHERE b.id = ANY (ARRAY(SELECT id FROM locked))`

// BreakStream implements store.Sessions.
func (s *Store) BreakStream(ctx context.Context, session, epoch int64, grace time.Duration) error {
	return s.write(ctx, "break stream", func(ctx context.Context, t *tx) error {
		var broken []int64
		ids(t.queue(breakStream, session, epoch), &broken)
		if err := t.send(ctx); err != nil {
			return err
		}
		if len(broken) == 0 {
			return errNothing
		}
		t.queue(shortenLeases, session, grace)
		return nil
	})
}

const excuseStreams = `
UPDATE sessions s SET broken_at = NULL
FROM unnest($1::bigint[], $2::bigint[]) AS w(id, stream_epoch)
WHERE s.id = w.id AND s.stream_epoch = w.stream_epoch AND s.ended_at IS NULL`

// ExcuseStreams implements store.Sessions.
func (s *Store) ExcuseStreams(ctx context.Context, streams []store.Stream) error {
	sessions, epochs := make([]int64, len(streams)), make([]int64, len(streams))
	for i, x := range streams {
		sessions[i], epochs[i] = x.SessionID, x.Epoch
	}
	return s.write(ctx, "excuse streams", func(_ context.Context, t *tx) error {
		t.queue(excuseStreams, sessions, epochs)
		return nil
	})
}

const touchSessions = `
UPDATE sessions SET beat_at = clock_timestamp()
WHERE id = ANY (ARRAY(
    SELECT id FROM sessions WHERE id = ANY ($1::bigint[]) AND ended_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED))`

const selectDrained = `
SELECT id FROM sessions WHERE id = ANY ($1::bigint[]) AND ended_at IS NULL AND drained_at IS NOT NULL`

// TouchSessions implements store.Sessions.
func (s *Store) TouchSessions(ctx context.Context, sessions []int64) ([]int64, error) {
	var drained []int64
	err := s.write(ctx, "note beats of sessions", func(_ context.Context, t *tx) error {
		drained = nil
		t.queue(`SET LOCAL synchronous_commit = off`)
		t.queue(touchSessions, sessions)
		ids(t.queue(selectDrained, sessions), &drained)
		return nil
	})
	return drained, err
}

const noteTrouble = `UPDATE sessions SET trouble = $2 WHERE id = $1 AND ended_at IS NULL`

// NoteTrouble implements store.Sessions.
func (s *Store) NoteTrouble(ctx context.Context, session int64, trouble string) error {
	return s.write(ctx, "note a worker's trouble", func(_ context.Context, t *tx) error {
		t.queue(noteTrouble, session, store.CleanText(trouble, store.MaxMessage))
		return nil
	})
}

const drainSession = `
UPDATE sessions SET drained_at = coalesce(drained_at, clock_timestamp())
WHERE worker_id = $1 AND ended_at IS NULL
RETURNING id`

// DrainSession implements store.Sessions. It waits for a claim of the session that is under way.
func (s *Store) DrainSession(ctx context.Context, workerID string) (store.Session, error) {
	var drained []int64
	err := s.write(ctx, "drain session", func(ctx context.Context, t *tx) error {
		drained = nil
		var live []int64
		ids(t.queue(`SELECT id FROM sessions WHERE worker_id = $1 AND ended_at IS NULL`, workerID), &live)
		if err := t.send(ctx); err != nil {
			return err
		}
		t.queue(lockSessions, sessionLock, live)
		ids(t.queue(drainSession, workerID), &drained)
		if err := t.send(ctx); err != nil {
			return err
		}
		if len(drained) == 0 {
			return errNothing
		}
		return nil
	})
	if err != nil {
		return store.Session{}, err
	}
	if len(drained) == 0 {
		return store.Session{}, fmt.Errorf("worker %q: %w", workerID, store.ErrNotFound)
	}
	return s.GetSession(ctx, drained[0])
}

const sessionColumns = `
SELECT s.id, s.worker_id, s.owner, s.host, s.pid, s.version, s.kinds, s.slots, s.registered_at, s.beat_at,
       s.drained_at, s.drain_reason, s.trouble, s.ended_at, s.end_reason, s.completed, s.crashed, (SELECT count(*) FROM batches b WHERE b.session_id = s.id)
FROM sessions s`

func scanSession(row pgx.CollectableRow) (store.Session, error) {
	var (
		n                  store.Session
		drainedAt, endedAt *time.Time
	)
	err := row.Scan(&n.ID, &n.WorkerID, &n.Owner, &n.Host, &n.PID, &n.Version, &n.Kinds, &n.Slots, &n.RegisteredAt, &n.BeatAt,
		&drainedAt, &n.DrainReason, &n.Trouble, &endedAt, &n.EndReason, &n.Completed, &n.Crashed, &n.Running)
	n.DrainedAt, n.EndedAt = timeOf(drainedAt), timeOf(endedAt)
	return n, err
}

// GetSession implements store.Sessions.
func (s *Store) GetSession(ctx context.Context, id int64) (store.Session, error) {
	var n store.Session
	err := s.call(ctx, "read session", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sessionColumns+` WHERE s.id = $1`, id)
		if err != nil {
			return err
		}
		n, err = pgx.CollectExactlyOneRow(rows, scanSession)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("session %d: %w", id, store.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return store.Session{}, err
	}
	if !n.EndedAt.IsZero() {
		return store.Session{}, fmt.Errorf("session %d: %w", id, store.ErrSessionEnded)
	}
	return n, nil
}

const (
	listAllSessions  = sessionColumns + ` WHERE s.id < $1 ORDER BY s.id DESC LIMIT $2`
	listLiveSessions = sessionColumns + ` WHERE s.ended_at IS NULL AND s.id < $1 ORDER BY s.id DESC LIMIT $2`
)

// ListSessions implements store.Sessions.
func (s *Store) ListSessions(ctx context.Context, all bool, page store.Page) ([]store.Session, error) {
	sql := listLiveSessions
	if all {
		sql = listAllSessions
	}
	var list []store.Session
	err := s.call(ctx, "list sessions", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, before(page), max(page.Size, 1))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanSession)
		return err
	})
	return list, err
}
