package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Beat implements store.Leases. Nothing is ever skipped: there is one writer.
func (s *Store) Beat(ctx context.Context, lease time.Duration, beats []store.Beat) ([]store.BeatAnswer, []int, error) {
	if len(beats) == 0 {
		return nil, nil, nil
	}
	durable := false
	for i := range beats {
		durable = durable || len(beats[i].Outcomes) > 0
	}
	var answers []store.BeatAnswer
	apply := func(t *tx) error {
		g := newGroup(t)
		answers = make([]store.BeatAnswer, len(beats))
		for i := range beats {
			var err error
			if answers[i], err = g.beat(lease, &beats[i]); err != nil {
				return err
			}
		}
		return g.flush()
	}
	var err error
	if durable {
		err = s.write(ctx, renewing, apply)
	} else {
		err = s.renew(ctx, apply)
	}
	if err != nil {
		return nil, nil, wrap("renew leases", err)
	}
	return answers, nil, nil
}

func (g *group) beat(lease time.Duration, b *store.Beat) (store.BeatAnswer, error) {
	var h held
	h.ID, h.Attempt, h.SessionID = b.BatchID, b.Attempt, b.SessionID
	live := false
	err := each(g, func(row scanner) error {
		live = true
		return row.Scan(&h.JobID, &h.FirstItem, &h.ItemCount, &h.DoneItems)
	}, `UPDATE batches SET lease_expires_at = ?, beats = beats + 1, waiting = ? WHERE id = ? AND attempt = ? AND session_id = ?
		RETURNING job_id, first_item, item_count, done_items`,
		micros(g.now.Add(lease)), b.Waiting && len(b.Outcomes) == 0, b.BatchID, b.Attempt, b.SessionID)
	if err != nil {
		return store.BeatAnswer{}, fmt.Errorf("renew batch %d: %w", b.BatchID, err)
	}
	if !live {
		return store.BeatAnswer{Lost: true}, nil
	}
	rules, err := g.rules(h.JobID)
	if err != nil {
		return store.BeatAnswer{}, err
	}
	if runs, ok := h.news(b.From, b.Outcomes); ok && len(runs) > 0 {
		done := h.DoneItems
		if err := g.add(&h, runs, b.Findings); err != nil {
			return store.BeatAnswer{}, err
		}
		if err := g.keep(&h, done, h.DoneItems, b.Results); err != nil {
			return store.BeatAnswer{}, err
		}
	}
	return store.BeatAnswer{
		JobID: h.JobID, Cancelled: rules.state.Stopping(), Paused: rules.state == job.Paused, Acknowledged: h.DoneItems,
	}, nil
}

// news returns the part of a report from position from on that the batch has not recorded yet. ok is false when the
// report leaves a gap or passes the end.
func (h *held) news(from int32, runs []job.Run) (rest []job.Run, ok bool) {
	if from > h.DoneItems || int64(from)+int64(job.Items(runs)) > int64(h.ItemCount) {
		return nil, false
	}
	return job.SkipItems(runs, h.DoneItems-from), true
}

// Settle implements store.Leases.
func (s *Store) Settle(ctx context.Context, settlements []store.Settlement) ([]store.SettleAnswer, []store.Ended, error) {
	if len(settlements) == 0 {
		return nil, nil, nil
	}
	var settled store.Settled
	err := s.write(ctx, settling, func(t *tx) (err error) {
		settled, err = t.settle(settlements)
		return err
	})
	if err != nil {
		return nil, nil, wrap("settle batches", err)
	}
	return settled.Answers, settled.Ended, nil
}

func (t *tx) settle(settlements []store.Settlement) (store.Settled, error) {
	g := newGroup(t)
	answers := make([]store.SettleAnswer, len(settlements))
	for i := range settlements {
		var err error
		if answers[i], err = g.settle(&settlements[i]); err != nil {
			return store.Settled{}, err
		}
	}
	return store.Settled{Answers: answers, Ended: g.ended}, g.flush()
}

// completeBatch is the way of nearly all settlements: an attempt that completed with exactly the outcomes that were missing.
const completeBatch = `UPDATE batches SET state = 2, done_items = item_count, outcomes = CAST(outcomes || ? AS BLOB),
		session_id = NULL, claim_request_id = NULL, lease_expires_at = NULL, ended_session = session_id, ended_as = 'completed',
		settled_at = ?, ended_run = NULL
	WHERE id = ? AND attempt = ? AND session_id = ? AND done_items = ? AND item_count - done_items = ?
	RETURNING job_id, root_id, first_item, item_count, crashes, claimed_at`

// complete settles a completion, if it is such a one.
func (g *group) complete(s *store.Settlement) (answer store.SettleAnswer, done bool, err error) {
	var (
		h    held
		root sql.NullInt64
		n    = job.Items(s.Outcomes)
	)
	err = each(g, func(row scanner) error {
		done = true
		return row.Scan(&h.JobID, &root, &h.FirstItem, &h.ItemCount, &h.Crashes, &h.claimed)
	}, completeBatch, blob(job.AppendRuns(nil, s.Outcomes)), micros(g.now), s.BatchID, s.Attempt, s.SessionID, s.From, n)
	if err != nil || !done {
		return answer, false, err
	}
	h.ID, h.DoneItems = s.BatchID, h.ItemCount
	session, err := g.session(s.SessionID)
	if err != nil {
		return answer, false, err
	}
	session.completed++
	d := g.delta(h.JobID)
	d.Move(job.BatchRunning, job.BatchCompleted)
	d.ItemsInFlight -= int64(n)
	d.Done(h.ID, h.FirstItem, s.From, s.Outcomes)
	if !root.Valid {
		d.End(h.ID, job.BatchCompleted, h.Crashes > 0, g.since(h.claimed))
	}
	if err = g.find(&h, s.From, s.Findings); err == nil {
		err = g.keep(&h, s.From, h.ItemCount, s.Results)
	}
	return store.SettleAnswer{JobID: h.JobID, State: job.BatchCompleted}, true, err
}

func (g *group) settle(s *store.Settlement) (store.SettleAnswer, error) {
	if s.Kind == job.EndCompleted {
		answer, done, err := g.complete(s)
		if err != nil {
			return store.SettleAnswer{}, fmt.Errorf("complete batch %d: %w", s.BatchID, err)
		}
		if done {
			return answer, nil
		}
	}
	h, found, err := g.batch(s.BatchID)
	if err != nil {
		return store.SettleAnswer{}, fmt.Errorf("read batch %d: %w", s.BatchID, err)
	}
	if !found {
		return store.SettleAnswer{Lost: true}, nil
	}
	if h.State != job.BatchRunning || h.lease() != s.Lease {
		return g.settled(&h, s)
	}
	runs, ok := h.news(s.From, s.Outcomes)
	if !ok || s.Kind == job.EndCompleted && h.DoneItems+job.Items(runs) != h.ItemCount {
		return store.SettleAnswer{State: h.State, Err: store.ErrIncomplete}, nil
	}
	end, done := s.End, h.DoneItems
	if end.Kind == job.EndDied && end.Crash == nil {
		end.Crash = new(job.Crash) // the worker that says so lives
	}
	state, err := g.end(&h, end, runs, s.Findings)
	if err == nil {
		err = g.keep(&h, done, done+job.Items(runs), s.Results)
	}
	return store.SettleAnswer{JobID: h.JobID, State: state}, err
}

// settled answers a settlement of an attempt that has ended: equal to that end, or lost.
func (g *group) settled(h *held, s *store.Settlement) (store.SettleAnswer, error) {
	if s.Kind == job.EndCompleted {
		if h.endedAs == job.EndCompleted && h.Attempt == s.Attempt && h.endedSession == s.SessionID {
			return store.SettleAnswer{State: job.BatchCompleted}, nil
		}
		return store.SettleAnswer{Lost: true}, nil
	}
	answer := store.SettleAnswer{Lost: true}
	err := each(g, func(row scanner) error {
		answer.Lost = false
		return row.Scan(&answer.State)
	}, "SELECT state_after FROM attempts WHERE batch_id = ? AND attempt = ? AND session_id = ? AND ended_as = ?",
		s.BatchID, s.Attempt, s.SessionID, s.Kind)
	if err != nil {
		return answer, fmt.Errorf("read attempt %d of batch %d: %w", s.Attempt, s.BatchID, err)
	}
	return answer, nil
}

// Reap implements store.Leases.
func (s *Store) Reap(ctx context.Context, batches []int64, limit int) (store.Reaped, error) {
	var r store.Reaped
	err := s.write(ctx, settling, func(t *tx) error {
		g := newGroup(t)
		r = store.Reaped{Now: t.now}
		expired, err := g.expired(batches, limit)
		if err != nil {
			return err
		}
		for i := range expired {
			if _, err := g.sharing(expired[i].SessionID); err != nil {
				return err
			}
		}
		for i := range expired {
			end, err := g.expiry(&expired[i])
			if err != nil {
				return err
			}
			if _, err := g.end(&expired[i].held, end, nil, nil); err != nil {
				return err
			}
		}
		r.Ended = g.ended
		return g.flush()
	})
	if err != nil {
		return store.Reaped{}, wrap("end expired leases", err)
	}
	return r, nil
}

// overdue is a batch whose lease has run out.
type overdue struct {
	held
	broken bool          // its session's stream was closed by the worker's side, after it was claimed
	silent time.Duration // since its session was last heard of
}

// expiry says how an attempt ended whose lease has run out.
func (g *group) expiry(o *overdue) (job.End, error) {
	if o.broken {
		return job.End{Kind: job.EndDied, Message: store.BrokenMessage}, nil
	}
	others, err := collect(g, func(row scanner) (p job.Peer, err error) {
		var registered, beat int64
		err = row.Scan(&registered, &beat)
		p.Age, p.Silent = g.since(registered), g.since(beat)
		return p, err
	}, "SELECT registered_at, beat_at FROM sessions WHERE ended_at IS NULL AND id <> ?", o.SessionID)
	if err != nil {
		return job.End{}, fmt.Errorf("read other sessions: %w", err)
	}
	end := job.End{Kind: o.Silence(o.silent, others), Message: store.LostMessage}
	if end.Kind == job.EndDied {
		end.Message = store.SilentMessage
		return end, nil
	}
	vanished, err := g.vanished(o)
	if vanished {
		end = job.End{Kind: job.EndDied, Message: store.VanishedMessage}
	}
	return end, err
}

// vanished reports whether the loss of an attempt counts as a death, since its worker was the last of several that vanished.
func (g *group) vanished(o *overdue) (bool, error) {
	if o.Losses < 2 {
		return false, nil
	}
	earlier, err := collect(g, func(row scanner) (p job.Past, err error) {
		err = row.Scan(&p.Kind, &p.SessionID, &p.Gone)
		return p, err
	}, `SELECT a.ended_as, a.session_id, coalesce(s.beat_at <= a.ended_at, 0) FROM attempts a LEFT JOIN sessions s ON s.id = a.session_id
		WHERE a.batch_id = ? ORDER BY a.attempt DESC LIMIT 20`, o.ID)
	if err != nil {
		return false, fmt.Errorf("read attempts at batch %d: %w", o.ID, err)
	}
	return job.Vanished(o.SessionID, earlier), nil
}

// expired returns expired leases, in the order of batch ids: of some batches, or with nil of all.
func (g *group) expired(batches []int64, limit int) ([]overdue, error) {
	const due = `session_id IS NOT NULL AND lease_expires_at <= ?1 ORDER BY id LIMIT ?2`
	query, args := "SELECT "+heldColumns+" FROM batches INDEXED BY batches_running WHERE "+due, []any{micros(g.now), limit}
	if batches != nil {
		query = "SELECT " + heldColumns + " FROM batches WHERE id IN (SELECT value FROM json_each(?3)) AND " + due
		args = append(args, array(batches))
	}
	list, err := collect(g, func(row scanner) (o overdue, err error) {
		o.held, err = scanHeld(row)
		return o, err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("look for expired leases: %w", err)
	}
	for i := range list {
		var beat int64
		err := each(g, func(row scanner) error { return row.Scan(&list[i].broken, &beat) },
			"SELECT coalesce(broken_at >= ?, 0), beat_at FROM sessions WHERE id = ?", list[i].claimed, list[i].SessionID)
		if err != nil {
			return nil, fmt.Errorf("read session %d: %w", list[i].SessionID, err)
		}
		list[i].silent = g.since(beat)
	}
	return list, nil
}
