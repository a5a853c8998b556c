package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// claim is a claim group under way.
type claim struct {
	*group
	lease    time.Duration
	requests []store.ClaimRequest
	claimed  store.Claimed
	open     []int // requests that may still get batches, in their order
	next     int   // index in open of the one whose turn it is
	wanted   int   // batches that all of them together may still get
	rooms    *store.Rooms
}

// requestKey is what makes a request the same as another.
type requestKey struct {
	session int64
	id      string
}

// Claim implements store.Leases.
func (s *Store) Claim(ctx context.Context, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn) (store.Claimed, error) {
	if len(requests) == 0 {
		return store.Claimed{}, nil
	}
	var claimed store.Claimed
	err := s.write(ctx, claiming, func(t *tx) (err error) {
		claimed, err = t.claim(lease, requests, turns)
		return err
	})
	if err != nil {
		return store.Claimed{}, wrap("claim batches", err)
	}
	return claimed, nil
}

// SettleAndClaim implements store.Leases.
func (s *Store) SettleAndClaim(
	ctx context.Context, settlements []store.Settlement, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn,
) (store.Settled, store.Claimed, error) {
	var settled store.Settled
	var claimed store.Claimed
	err := s.write(ctx, settling, func(t *tx) (err error) {
		// What was settled is written before anything is claimed, since limits count it.
		if settled, err = t.settle(settlements); err == nil {
			claimed, err = t.claim(lease, requests, turns)
		}
		return err
	})
	if err != nil {
		return store.Settled{}, store.Claimed{}, wrap("settle and claim batches", err)
	}
	return settled, claimed, nil
}

func (t *tx) claim(lease time.Duration, requests []store.ClaimRequest, turns []store.Turn) (store.Claimed, error) {
	c := &claim{group: newGroup(t), lease: lease, requests: requests, claimed: store.Claimed{
		Grants: make([][]store.Grant, len(requests)), Errs: make([]error, len(requests)), Took: map[int64]store.Took{},
	}}
	same, err := c.admit()
	if err != nil {
		return store.Claimed{}, err
	}
	if c.rooms, err = t.rooms(turns); err != nil {
		return store.Claimed{}, err
	}
	if err := c.choosy(turns); err != nil {
		return store.Claimed{}, err
	}
	for _, turn := range turns {
		if err := c.turn(turn); err != nil {
			return store.Claimed{}, err
		}
	}
	for _, turn := range turns {
		if took, ok := c.claimed.Took[turn.JobID]; ok {
			took.Full = c.rooms.Full(turn)
			c.claimed.Took[turn.JobID] = took
		}
	}
	for i, first := range same {
		c.repeat(i, c.claimed.Grants[first])
		c.claimed.Errs[i] = c.claimed.Errs[first]
	}
	return c.claimed, c.flush()
}

// admit answers the requests of ended sessions and those that were made before, and opens the others. same maps the
// requests that repeat one of this group to that one.
func (c *claim) admit() (same map[int]int, err error) {
	same = map[int]int{}
	first := map[requestKey]int{}
	live := map[int64]error{}
	for i := range c.requests {
		r := &c.requests[i]
		key := requestKey{r.SessionID, store.CleanText(r.RequestID, store.MaxName)}
		if f, ok := first[key]; ok {
			same[i] = f
			continue
		}
		first[key] = i
		if _, known := live[r.SessionID]; !known {
			if live[r.SessionID], err = c.taking(r.SessionID); err != nil {
				return nil, err
			}
		}
		if errors.Is(live[r.SessionID], store.ErrSessionEnded) {
			c.claimed.Errs[i] = store.ErrSessionEnded
			continue
		}
		holds, err := c.holds(key)
		if err != nil {
			return nil, err
		}
		if len(holds) > 0 {
			c.repeat(i, holds)
			continue
		}
		if c.claimed.Errs[i] = live[r.SessionID]; r.Max > 0 && c.claimed.Errs[i] == nil {
			c.open = append(c.open, i)
			c.wanted += r.Max
		}
	}
	return same, nil
}

// taking returns what keeps a session from being granted more: store.ErrSessionEnded, store.ErrSessionDrained or nothing.
func (t *tx) taking(session int64) (refusal, err error) {
	refusal = store.ErrSessionEnded
	err = each(t, func(row scanner) error {
		var drained bool
		err := row.Scan(&drained)
		if refusal = nil; drained {
			refusal = store.ErrSessionDrained
		}
		return err
	}, "SELECT drained_at IS NOT NULL FROM sessions WHERE id = ? AND ended_at IS NULL", session)
	if err != nil {
		return nil, fmt.Errorf("read session %d: %w", session, err)
	}
	return refusal, nil
}

func (c *claim) repeat(request int, grants []store.Grant) {
	for _, g := range grants {
		g.Repeated = true
		c.claimed.Grants[request] = append(c.claimed.Grants[request], g)
	}
}

// holds returns the leases that a session has under a request id.
func (c *claim) holds(key requestKey) ([]store.Grant, error) {
	list, err := collect(c, func(row scanner) (g store.Grant, err error) {
		var expires int64
		var parent sql.NullInt64
		err = row.Scan(&g.BatchID, &g.Attempt, &g.SessionID, &g.JobID, &g.Ordinal, &g.FirstItem, &g.ItemCount,
			&g.DoneItems, &g.Solo, &parent, &expires)
		g.Remaining = max(time.UnixMicro(expires).Sub(c.now), 0)
		return descendant(g, parent), err
	}, `SELECT id, attempt, session_id, job_id, ordinal, first_item, item_count, done_items, solo, parent_id, lease_expires_at
		FROM batches WHERE session_id = ? AND claim_request_id = ? ORDER BY id`, key.session, key.id)
	if err != nil {
		return nil, fmt.Errorf("look for leases of a repeated claim: %w", err)
	}
	for i := range list {
		if err := c.ancestors(&list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

const candidateColumns = "b.id, b.attempt, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.solo, b.parent_id"

func scanCandidate(row scanner) (g store.Grant, err error) {
	var parent sql.NullInt64
	err = row.Scan(&g.BatchID, &g.Attempt, &g.JobID, &g.Ordinal, &g.FirstItem, &g.ItemCount, &g.DoneItems, &g.Solo, &parent)
	return descendant(g, parent), err
}

// descendant notes the batch of which one is a part, if it is.
func descendant(g store.Grant, parent sql.NullInt64) store.Grant {
	if parent.Valid {
		g.Ancestors = []int64{parent.Int64}
	}
	return g
}

// ancestors completes the ancestors of a batch of which the parent is known.
func (t *tx) ancestors(g *store.Grant) error {
	for len(g.Ancestors) > 0 {
		var parent sql.NullInt64
		err := each(t, func(row scanner) error { return row.Scan(&parent) },
			"SELECT parent_id FROM batches WHERE id = ?", g.Ancestors[len(g.Ancestors)-1])
		if err != nil || !parent.Valid {
			return err
		}
		g.Ancestors = append(g.Ancestors, parent.Int64)
	}
	return nil
}

// turn grants a turn's batches: those that came back from an attempt, then fresh ones.
func (c *claim) turn(turn store.Turn) error {
	if turn.Most <= 0 {
		return nil
	}
	took := c.claimed.Took[turn.JobID]
	before := took.Batches
	turn.Most -= before
	allowed := c.rooms.Allowed(turn)
	took.Held = turn.Most - allowed
	defer func() {
		c.rooms.Take(turn, took.Batches-before)
		c.claimed.Took[turn.JobID] = took
	}()
	most := min(allowed, c.wanted)
	if most <= 0 {
		return nil
	}
	rules, err := c.rules(turn.JobID)
	if err != nil || rules.state != job.Running {
		return err
	}
	returned, err := collect(c, scanCandidate, "SELECT "+candidateColumns+` FROM batches b
		WHERE b.job_id = ? AND `+returnedBatches+` AND b.available_at <= ?
		ORDER BY b.available_at, b.id LIMIT ?`, turn.JobID, micros(c.now), most)
	if err != nil {
		return fmt.Errorf("look for returned batches of job %d: %w", turn.JobID, err)
	}
	if err := c.grant(returned); err != nil {
		return err
	}
	if took.Batches += len(returned); len(returned) == most {
		return nil
	}
	fresh, err := collect(c, scanCandidate, "SELECT "+candidateColumns+` FROM batches b
		WHERE b.job_id = ? AND b.state = 0 AND b.available_at IS NULL AND b.ordinal >= ? ORDER BY b.ordinal LIMIT ?`,
		turn.JobID, turn.Floor, most-len(returned))
	if err != nil {
		return fmt.Errorf("look for fresh batches of job %d: %w", turn.JobID, err)
	}
	if err := c.grant(fresh); err != nil {
		return err
	}
	if took.Fresh = len(fresh); took.Fresh > 0 {
		took.Batches += took.Fresh
		took.Last = fresh[took.Fresh-1].Ordinal
	}
	return nil
}

// grant deals batches to the open requests, in turns.
func (c *claim) grant(list []store.Grant) error {
	for _, g := range list {
		i := c.open[c.next]
		if err := c.give(g, i); err != nil {
			return err
		}
		c.wanted--
		if len(c.claimed.Grants[i]) == c.requests[i].Max {
			c.open = append(c.open[:c.next], c.open[c.next+1:]...)
		} else {
			c.next++
		}
		if c.next >= len(c.open) {
			c.next = 0
		}
	}
	return nil
}

// give grants a batch to a request.
func (c *claim) give(g store.Grant, request int) error {
	r := &c.requests[request]
	g.SessionID = r.SessionID
	err := c.only(`UPDATE batches SET state = 1, attempt = attempt + 1, session_id = ?, claim_request_id = ?,
			lease_expires_at = ?, claimed_at = ?, available_at = NULL, avoid_until = NULL, waiting = 0, beats = 0
		WHERE id = ? AND attempt = ? AND state = 0`,
		r.SessionID, store.CleanText(r.RequestID, store.MaxName), micros(c.now.Add(c.lease)), micros(c.now),
		g.BatchID, g.Attempt)
	if err != nil {
		return fmt.Errorf("grant batch %d: %w", g.BatchID, err)
	}
	if err := c.ancestors(&g); err != nil {
		return fmt.Errorf("read ancestors of batch %d: %w", g.BatchID, err)
	}
	g.Attempt++
	g.Remaining = c.lease
	d := c.delta(g.JobID)
	d.Move(job.BatchPending, job.BatchRunning)
	d.ItemsInFlight += int64(g.ItemCount - g.DoneItems)
	c.claimed.Grants[request] = append(c.claimed.Grants[request], g)
	return nil
}

// selectFrame is prepared once: a frame goes with every grant.
const selectFrame = `SELECT octet_length(p.frame), CASE WHEN octet_length(p.frame) <= ? THEN p.frame END
	FROM batches b JOIN batch_payloads p ON p.batch_id = coalesce(b.root_id, b.id) WHERE b.id = ?`

// Payloads implements store.Leases. Frames never change, so that they need not be read from one state of the database.
func (s *Store) Payloads(ctx context.Context, batches []int64, maxBytes int64) (map[int64][]byte, error) {
	frames := make(map[int64][]byte, len(batches))
	for _, id := range batches {
		var size int64
		var frame []byte
		// The frame of a batch that is too large is not read: its length is in the row's header.
		err := s.frames.QueryRowContext(ctx, maxBytes, id).Scan(&size, &frame)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, wrap("read payloads", err)
		}
		if maxBytes -= size; maxBytes < 0 {
			break
		}
		frames[id] = frame
	}
	return frames, nil
}

// Frame implements store.Leases.
func (s *Store) Frame(ctx context.Context, lease job.Lease) ([]byte, error) {
	var frame []byte
	err := s.read(ctx, func(q *snapshot) error {
		err := one(q, []any{&frame}, `SELECT p.frame
			FROM batches b JOIN batch_payloads p ON p.batch_id = coalesce(b.root_id, b.id)
			WHERE b.id = ? AND b.attempt = ? AND b.session_id = ?`, lease.BatchID, lease.Attempt, lease.SessionID)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrNotFound
		}
		return err
	})
	return frame, wrap("read frame", err)
}
