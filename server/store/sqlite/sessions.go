package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const sessionColumns = `s.id, s.worker_id, s.owner, s.host, s.pid, s.version, s.kinds, s.slots, s.registered_at, s.beat_at, s.drained_at,
	s.drain_reason, s.trouble, s.ended_at, s.end_reason, s.completed, s.crashed, (SELECT count(*) FROM batches b WHERE b.session_id = s.id AND b.session_id IS NOT NULL)`

func scanSession(row scanner) (s store.Session, err error) {
	var kinds []byte
	var registered, beat, drained, ended sql.NullInt64
	err = row.Scan(&s.ID, &s.WorkerID, &s.Owner, &s.Host, &s.PID, &s.Version, &kinds, &s.Slots, &registered, &beat, &drained, &s.DrainReason,
		&s.Trouble, &ended,
		&s.EndReason, &s.Completed, &s.Crashed, &s.Running)
	if err != nil {
		return s, err
	}
	s.RegisteredAt, s.BeatAt, s.DrainedAt, s.EndedAt = moment(registered), moment(beat), moment(drained), moment(ended)
	if err := json.Unmarshal(kinds, &s.Kinds); err != nil {
		return s, fmt.Errorf("read kinds of session %d: %w", s.ID, err)
	}
	return s, nil
}

// RegisterSession implements store.Sessions.
func (s *Store) RegisterSession(ctx context.Context, n store.Session) (id int64, ended []store.Ended, err error) {
	n = n.Clean()
	kinds, err := json.Marshal(n.Kinds)
	if err != nil {
		return 0, nil, fmt.Errorf("register session: encode kinds: %w", err)
	}
	err = s.together(ctx, func(t *tx) error {
		g := newGroup(t)
		earlier, err := collect(g, number, "SELECT id FROM sessions WHERE worker_id = ? AND ended_at IS NULL", n.WorkerID)
		if err != nil {
			return err
		}
		others, err := collect(g, number, "SELECT id FROM sessions WHERE worker_id = ?1 AND ended_at IS NULL AND owner <> '' AND ?2 <> '' AND owner <> ?2",
			n.WorkerID, n.Owner)
		if err != nil {
			return err
		}
		if len(others) > 0 {
			return store.ErrWorkerTaken
		}
		for _, e := range earlier {
			if err := g.endSession(e, "the worker registered again", job.End{Kind: job.EndDied, Message: store.ReplacedMessage}); err != nil {
				return err
			}
		}
		now := micros(g.now)
		id, err = g.insert(`INSERT INTO sessions (worker_id, host, pid, version, kinds, slots, owner, registered_at, beat_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, n.WorkerID, n.Host, n.PID, n.Version, string(kinds), n.Slots, n.Owner, now, now)
		if err != nil {
			return err
		}
		for _, e := range earlier {
			err := g.exec(`UPDATE sessions SET (drained_at, drain_reason) = (SELECT e.drained_at, e.drain_reason FROM sessions e WHERE e.id = ?1)
				WHERE id = ?2 AND (SELECT e.drain_reason <> '' FROM sessions e WHERE e.id = ?1)`, e, id)
			if err != nil {
				return err
			}
		}
		ended = g.ended
		return g.flush()
	})
	if err != nil {
		return 0, nil, wrap("register session", err)
	}
	return id, ended, nil
}

// endSession ends a live session, and with it the attempts at what it holds.
func (g *group) endSession(id int64, reason string, end job.End) error {
	changed, err := g.change("UPDATE sessions SET ended_at = ?, end_reason = ? WHERE id = ? AND ended_at IS NULL",
		micros(g.now), store.CleanText(reason, store.MaxMessage), id)
	if err != nil || changed == 0 {
		return err
	}
	list, err := collect(g, scanHeld, "SELECT "+heldColumns+" FROM batches WHERE session_id = ? ORDER BY id", id)
	if err != nil {
		return fmt.Errorf("look for leases of session %d: %w", id, err)
	}
	for i := range list {
		if _, err := g.end(&list[i], end, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// EndSession implements store.Sessions.
func (s *Store) EndSession(ctx context.Context, session int64, reason string) ([]store.Ended, error) {
	return s.endSessions(ctx, reason, job.End{Kind: job.EndReleased, Message: store.DeregisteredMessage},
		"SELECT id FROM sessions WHERE id = ? AND ended_at IS NULL",
		func(time.Time) any { return session })
}

// EndSilentSessions implements store.Sessions.
func (s *Store) EndSilentSessions(ctx context.Context, silent time.Duration) ([]store.Ended, error) {
	return s.endSessions(ctx, "silent", job.End{Kind: job.EndLost, Message: store.LostMessage},
		"SELECT id FROM sessions WHERE ended_at IS NULL AND beat_at < ? ORDER BY id",
		func(now time.Time) any { return micros(now.Add(-silent)) })
}

// endSessions ends the sessions that a query finds.
func (s *Store) endSessions(ctx context.Context, reason string, end job.End, query string, arg func(now time.Time) any) ([]store.Ended, error) {
	var ended []store.Ended
	err := s.write(ctx, settling, func(t *tx) error {
		g := newGroup(t)
		ids, err := collect(g, number, query, arg(g.now))
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := g.endSession(id, reason, end); err != nil {
				return err
			}
		}
		ended = g.ended
		return g.flush()
	})
	if err != nil {
		return nil, wrap("end sessions", err)
	}
	return ended, nil
}

// GetSession implements store.Sessions.
func (s *Store) GetSession(ctx context.Context, id int64) (found store.Session, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		list, err := collect(q, scanSession, "SELECT "+sessionColumns+" FROM sessions s WHERE s.id = ?", id)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return store.ErrNotFound
		case !list[0].EndedAt.IsZero():
			return store.ErrSessionEnded
		}
		found = list[0]
		return nil
	})
	return found, wrap("get session", err)
}

// OpenStream implements store.Sessions.
func (s *Store) OpenStream(ctx context.Context, session int64) (epoch int64, err error) {
	err = s.together(ctx, func(t *tx) error {
		epoch = 0
		err := each(t, func(row scanner) error { return row.Scan(&epoch) }, `UPDATE sessions
			SET stream_epoch = stream_epoch + 1, broken_at = NULL, beat_at = ? WHERE id = ? AND ended_at IS NULL
			RETURNING stream_epoch`, micros(t.now), session)
		if err == nil && epoch == 0 {
			err = store.ErrSessionEnded
		}
		return err
	})
	return epoch, wrap("open heartbeat stream", err)
}

// BreakStream implements store.Sessions.
func (s *Store) BreakStream(ctx context.Context, session, epoch int64, grace time.Duration) error {
	err := s.together(ctx, func(t *tx) error {
		newest, err := t.change("UPDATE sessions SET broken_at = ? WHERE id = ? AND stream_epoch = ? AND ended_at IS NULL",
			micros(t.now), session, epoch)
		if err != nil || newest == 0 {
			return err
		}
		return t.exec("UPDATE batches SET lease_expires_at = min(lease_expires_at, ?) WHERE session_id = ?",
			micros(t.now.Add(grace)), session)
	})
	return wrap("shorten leases after a break", err)
}

// ExcuseStreams implements store.Sessions.
func (s *Store) ExcuseStreams(ctx context.Context, streams []store.Stream) error {
	err := s.write(ctx, settling, func(t *tx) error {
		for _, x := range streams {
			err := t.exec("UPDATE sessions SET broken_at = NULL WHERE id = ? AND stream_epoch = ? AND ended_at IS NULL",
				x.SessionID, x.Epoch)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return wrap("excuse streams", err)
}

// TouchSessions implements store.Sessions.
func (s *Store) TouchSessions(ctx context.Context, sessions []int64) (drained []int64, err error) {
	err = s.renew(ctx, func(t *tx) error {
		drained = nil
		for _, id := range sessions {
			var draining bool
			err := each(t, func(row scanner) error { return row.Scan(&draining) }, `UPDATE sessions SET beat_at = ?
				WHERE id = ? AND ended_at IS NULL RETURNING drained_at IS NOT NULL`, micros(t.now), id)
			if err != nil {
				return err
			}
			if draining {
				drained = append(drained, id)
			}
		}
		return nil
	})
	return drained, wrap("note beats", err)
}

// NoteTrouble implements store.Sessions.
func (s *Store) NoteTrouble(ctx context.Context, session int64, trouble string) error {
	err := s.write(ctx, settling, func(t *tx) error {
		return t.exec("UPDATE sessions SET trouble = ? WHERE id = ? AND ended_at IS NULL",
			store.CleanText(trouble, store.MaxMessage), session)
	})
	return wrap("note a worker's trouble", err)
}

// DrainSession implements store.Sessions.
func (s *Store) DrainSession(ctx context.Context, workerID string) (store.Session, error) {
	var id int64
	err := s.write(ctx, settling, func(t *tx) error {
		id = 0
		err := each(t, func(row scanner) error { return row.Scan(&id) }, `UPDATE sessions
			SET drained_at = coalesce(drained_at, ?) WHERE worker_id = ? AND ended_at IS NULL RETURNING id`, micros(t.now), workerID)
		if err == nil && id == 0 {
			err = store.ErrNotFound
		}
		return err
	})
	if err != nil {
		return store.Session{}, wrap("drain session", err)
	}
	return s.GetSession(ctx, id)
}

// ListSessions implements store.Sessions.
func (s *Store) ListSessions(ctx context.Context, all bool, page store.Page) (list []store.Session, err error) {
	where, args := "s.ended_at IS NULL", []any{}
	if all {
		where = "true"
	}
	if page.After > 0 {
		where += " AND s.id < ?"
		args = append(args, page.After)
	}
	err = s.read(ctx, func(q *snapshot) (err error) {
		list, err = collect(q, scanSession, "SELECT "+sessionColumns+" FROM sessions s WHERE "+where+
			" ORDER BY s.id DESC LIMIT ?", append(args, max(page.Size, 1))...)
		return err
	})
	return list, wrap("list sessions", err)
}
