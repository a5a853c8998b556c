package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/store"
)

// The two kinds of returned batches, in the words of their indexes.
const (
	returnedBatches = `b.state = 0 AND b.available_at IS NOT NULL AND NOT b.solo AND b.avoid_until IS NULL`
	choosyBatches   = `b.state = 0 AND b.available_at IS NOT NULL AND (b.solo OR b.avoid_until IS NOT NULL)`
)

// probeChoosy costs next to nothing when there is none, which is nearly always.
const (
	choosyThere = `SELECT FROM batches b WHERE b.job_id = ANY (`
	probeChoosy = `SELECT EXISTS (` + choosyThere + `$1::bigint[]) AND ` + choosyBatches + `)`
)

// choosyAtOnce bounds the choosy batches that one claim group looks at, of each job.
const choosyAtOnce = 64

const lockChoosy = `
SELECT t.n, b.id, b.attempt, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.solo, coalesce(b.parent_id, 0),
       CASE WHEN b.avoid_until > clock_timestamp() THEN b.died_on ELSE '' END, clock_timestamp() - b.available_at
FROM unnest($1::bigint[]) WITH ORDINALITY AS t(job_id, n)
CROSS JOIN LATERAL (
    SELECT b.id, b.attempt, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.solo, b.parent_id, b.avoid_until,
           b.died_on, b.available_at
    FROM batches b
    WHERE b.job_id = t.job_id AND ` + choosyBatches + ` AND b.available_at <= (SELECT clock_timestamp())
      AND (SELECT j.state = 'running' FROM jobs j WHERE j.id = t.job_id)
    ORDER BY b.available_at, b.id
    LIMIT $2
    FOR UPDATE OF b SKIP LOCKED
) b
ORDER BY t.n, b.available_at, b.id`

// selectClaimants says what live sessions hold, and which kinds they serve.
const selectClaimants = `
SELECT s.id, s.worker_id, (SELECT count(*) FROM batches b WHERE b.session_id = s.id),
       EXISTS (SELECT FROM batches b WHERE b.session_id = s.id AND b.solo),
       s.broken_at IS NULL AND s.kinds && ARRAY(SELECT j.kind FROM jobs j WHERE j.id = ANY ($1::bigint[]))
FROM sessions s WHERE s.ended_at IS NULL AND s.drained_at IS NULL
ORDER BY s.id`

// choosy claims batches that not every session may have. It returns how many each job gave, and how many batches the
// requests may still get.
func (c *claim) choosy(ctx context.Context, t *tx, rooms *store.Rooms) (given map[int64]int, most []int32, err error) {
	given, most = map[int64]int{}, slices.Clone(c.most)
	var jobs []int64
	for _, turn := range c.turns.turns {
		if turn.Most > 0 {
			jobs = append(jobs, turn.JobID)
		}
	}
	found := map[int64][]store.Choosy{}
	each(t.queue(lockChoosy, jobs, choosyAtOnce), func(row pgx.Rows) error {
		var (
			b         store.Choosy
			n, parent int64
			waited    time.Duration
		)
		err := row.Scan(&n, &b.BatchID, &b.Attempt, &b.JobID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &b.DoneItems, &b.Solo, &parent,
			&b.Avoid, &waited)
		if parent != 0 {
			b.Ancestors = []int64{parent}
		}
		b.Grant.Solo, b.Waited = b.Solo, max(waited, 0)
		found[b.JobID] = append(found[b.JobID], b)
		return err
	})
	if err := t.send(ctx); err != nil || len(found) == 0 {
		return given, most, err
	}
	var askers, live []store.Claimant
	each(t.queue(selectClaimants, jobs), func(row pgx.Rows) error {
		var (
			s             store.Claimant
			solo, serving bool
		)
		if err := row.Scan(&s.Session, &s.Worker, &s.Held, &solo, &serving); err != nil {
			return err
		}
		if serving {
			live = append(live, s)
		}
		for i, session := range c.sessions {
			if session == s.Session && !solo && !c.held[i] {
				s.Room += int(c.most[i])
			}
		}
		if slices.Contains(c.locks, s.Session) {
			askers = append(askers, s)
		}
		return nil
	})
	if err := t.send(ctx); err != nil {
		return nil, nil, err
	}
	// The first to ask is the first to get.
	slices.SortStableFunc(askers, func(a, b store.Claimant) int {
		return slices.Index(c.sessions, a.Session) - slices.Index(c.sessions, b.Session)
	})
	var waiting []store.Choosy
	for _, turn := range c.turns.turns {
		list := found[turn.JobID]
		list = list[:min(len(list), rooms.Allowed(turn))]
		for k, to := range store.Match(list, askers) {
			if to < 0 {
				waiting = append(waiting, list[k])
				continue
			}
			i := c.requestOf(askers[to].Session, most)
			most[i]--
			g := granted{Grant: list[k].Grant, request: i + 1}
			g.Attempt++
			g.SessionID, g.Remaining = c.sessions[i], c.lease
			c.grants = append(c.grants, g)
			if g.Solo {
				c.alone[g.SessionID] = true
			}
			given[turn.JobID]++
		}
		rooms.Take(turn, given[turn.JobID])
	}
	c.give(t, len(c.grants))
	t.queue(probeChoosy, c.turns.jobs).QueryRow(func(row pgx.Row) error { return row.Scan(&c.seen) })
	// A request that got one is answered with that.
	for _, g := range c.grants {
		most[g.request-1] = 0
	}
	for i := range live {
		if k := slices.IndexFunc(askers, func(a store.Claimant) bool { return a.Session == live[i].Session }); k >= 0 {
			live[i].Held = askers[k].Held
		}
	}
	if keep := store.Keep(waiting, live); keep != 0 {
		for i, session := range c.sessions {
			if session == keep {
				most[i] = 0
			}
		}
	}
	return given, most, nil
}

// requestOf returns a request of a session that may still get something.
func (c *claim) requestOf(session int64, most []int32) int {
	for i := range c.sessions {
		if c.sessions[i] == session && most[i] > 0 && !c.held[i] {
			return i
		}
	}
	panic("a session was given more than it asked for")
}

// descend notes the batch of which one is a part, if it is.
func (g *granted) descend(parent int64) {
	if parent != 0 {
		g.Ancestors = []int64{parent}
	}
}

const selectAncestors = `
WITH RECURSIVE family(id, parent_id) AS (
    SELECT b.id, b.parent_id FROM batches b WHERE b.id = ANY ($1::bigint[])
    UNION
    SELECT b.id, b.parent_id FROM family f JOIN batches b ON b.id = f.parent_id
)
SELECT id, coalesce(parent_id, 0) FROM family`

// readAncestors completes the ancestors of what is granted, of which the parents are known.
func (c *claim) readAncestors(ctx context.Context, t *tx) error {
	var parts []int64
	for _, g := range slices.Concat(c.grants, c.old) {
		parts = append(parts, g.Ancestors...)
	}
	if len(parts) == 0 {
		return nil
	}
	parent := map[int64]int64{}
	each(t.queue(selectAncestors, parts), func(row pgx.Rows) error {
		var id, of int64
		err := row.Scan(&id, &of)
		parent[id] = of
		return err
	})
	if err := t.send(ctx); err != nil {
		return err
	}
	for _, list := range [][]granted{c.grants, c.old} {
		for i := range list {
			for id := first(list[i].Ancestors); id != 0 && parent[id] != 0; id = parent[id] {
				list[i].Ancestors = append(list[i].Ancestors, parent[id])
			}
		}
	}
	return nil
}

// first returns the first of a list, 0 of an empty one.
func first(list []int64) int64 {
	if len(list) == 0 {
		return 0
	}
	return list[0]
}
