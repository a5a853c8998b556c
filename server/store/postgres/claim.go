package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Classes of advisory locks. They last until the end of a transaction and cost no writing.
const (
	sessionLock = 7650_1 // a session's claims against its end, and one repeated claim against another
	workerLock  = 7650_2 // registrations of one worker id
	jobLock     = 7650_3 // claims of a job that has a limit
	projectLock = 7650_4 // claims of a project that has one
	retryLock   = 7650_5 // bad ends of a job's batches, shared, against its retries
	judgeLock   = 7650_6 // verdicts on workers, so that no two of them drain the last two
)

const lockSessions = `
SELECT pg_advisory_xact_lock($1, (id % 2147483647)::integer) FROM unnest($2::bigint[]) AS id`

const selectLiveSessions = `
SELECT id, drained_at IS NOT NULL FROM sessions WHERE id = ANY ($1::bigint[]) AND ended_at IS NULL`

// selectRepeated finds what sessions hold under request ids they used before.
const selectRepeated = `
SELECT w.n, b.id, b.attempt, b.session_id, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.solo,
       coalesce(b.parent_id, 0), greatest(b.lease_expires_at - clock_timestamp(), interval '0')
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS w(session_id, request_id, n)
CROSS JOIN LATERAL (
    SELECT h.id, h.attempt, h.session_id, h.job_id, h.ordinal, h.first_item, h.item_count, h.done_items, h.solo, h.parent_id,
           h.lease_expires_at
    FROM batches h
    WHERE h.session_id = w.session_id AND h.claim_request_id = w.request_id
    OFFSET 0 -- one search of the index per request, not a join
) b`

// claimBatches deals pending batches to requests. A slot is one batch that a request may get; slots are in the order of
// dealing, one per request and round. Turn by turn, returned batches come first, then fresh ones; each limit stops taking,
// and so locking, as soon as it is reached. What was dealt goes into the update as arrays: however wrong the planner's numbers
// are, which on a young table are those of an empty one, it neither becomes a join over the whole table nor searches for
// every id once for each of them.
const claimBatches = `
WITH asked AS MATERIALIZED (
    SELECT w.most, w.n
    FROM unnest($1::bigint[], $2::text[], $3::integer[]) WITH ORDINALITY AS w(session_id, request_id, most, n)
    WHERE (SELECT s.ended_at IS NULL AND s.drained_at IS NULL FROM sessions s WHERE s.id = w.session_id)
      AND (SELECT h.id FROM batches h
           WHERE h.session_id = w.session_id AND h.claim_request_id = w.request_id LIMIT 1) IS NULL
      AND NOT EXISTS (SELECT FROM batches h WHERE h.session_id = w.session_id AND h.solo)
), slots AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY k, a.n) AS slot, a.n
    FROM asked a CROSS JOIN LATERAL generate_series(1, a.most) AS k
), taken AS MATERIALIZED (
    SELECT p.id, p.available_at, p.ordinal, t.n
    FROM unnest($4::bigint[], $5::integer[], $6::integer[]) WITH ORDINALITY AS t(job_id, floor, most, n)
    CROSS JOIN LATERAL (
        SELECT r.id, r.available_at, r.ordinal
        FROM (
            SELECT b.id, b.available_at, b.ordinal
            FROM batches b
            WHERE b.job_id = t.job_id AND ` + returnedBatches + `
              AND b.available_at <= (SELECT clock_timestamp())
              AND (SELECT j.state = 'running' FROM jobs j WHERE j.id = t.job_id)
            ORDER BY b.available_at, b.id
            LIMIT t.most
            FOR UPDATE OF b SKIP LOCKED
        ) r
        UNION ALL
        SELECT f.id, f.available_at, f.ordinal
        FROM (
            SELECT b.id, b.available_at, b.ordinal
            FROM batches b
            WHERE b.job_id = t.job_id AND b.ordinal >= t.floor AND b.state = 0 AND b.available_at IS NULL
              AND (SELECT j.state = 'running' FROM jobs j WHERE j.id = t.job_id)
            ORDER BY b.ordinal
            LIMIT t.most
            FOR UPDATE OF b SKIP LOCKED
        ) f
        LIMIT t.most
    ) p
    LIMIT (SELECT count(*) FROM slots)
), picked AS MATERIALIZED (
    SELECT id, available_at IS NULL AS fresh,
           row_number() OVER (ORDER BY n, available_at NULLS LAST, CASE WHEN available_at IS NULL THEN ordinal END, id) AS slot
    FROM taken
), dealt AS MATERIALIZED (
    SELECT id, slot, fresh, (ARRAY(SELECT n FROM slots ORDER BY slot))[slot] AS n FROM picked
)
UPDATE batches b
SET state = 1, attempt = b.attempt + 1, session_id = ($1::bigint[])[d.n], claim_request_id = ($2::text[])[d.n],
    claimed_at = clock_timestamp(), lease_expires_at = clock_timestamp() + $7::interval, available_at = NULL, waiting = false,
    beats = 0
FROM unnest(ARRAY(SELECT id FROM dealt), ARRAY(SELECT slot FROM dealt), ARRAY(SELECT fresh FROM dealt), ARRAY(SELECT n FROM dealt))
     AS d(id, slot, fresh, n)
WHERE b.id = d.id AND b.id = ANY (ARRAY(SELECT id FROM dealt))
RETURNING d.n, d.slot, d.fresh, b.id, b.attempt, b.session_id, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items,
          coalesce(b.parent_id, 0)`

// batchesAtOnce bounds what one request gets, however much it asks for.
const batchesAtOnce = 1000

// granted is a grant with its place in the dealing.
type granted struct {
	store.Grant
	request int // index in what was asked
	slot    int64
	fresh   bool // never claimed before
}

// Claim implements store.Leases.
func (s *Store) Claim(ctx context.Context, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn) (store.Claimed, error) {
	if len(requests) == 0 {
		return store.Claimed{}, nil
	}
	c := newClaim(lease, requests, turns)
	err := s.write(ctx, "claim batches", func(ctx context.Context, t *tx) error {
		c.picky = s.choosy.Load()
		return c.run(ctx, t)
	})
	return s.claimed(ctx, c, err)
}

// SettleAndClaim implements store.Leases. Settlements that all go the short way travel together with the claim, unless limits
// have to be counted in between.
func (s *Store) SettleAndClaim(
	ctx context.Context, settlements []store.Settlement, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn,
) (store.Settled, store.Claimed, error) {
	if len(settlements) == 0 {
		claimed, err := s.Claim(ctx, lease, requests, turns)
		return store.Settled{}, claimed, err
	}
	c, x := newClaim(lease, requests, turns), s.settling(settlements)
	err := s.write(ctx, "settle and claim batches", func(ctx context.Context, t *tx) error {
		c.lock(t) // before any batch, as who ends a session does
		x.begin(t)
		apart := len(x.others) > 0 || c.turns.limited()
		if apart {
			if err := x.finish(ctx, t); err != nil {
				return err
			}
		}
		c.picky = s.choosy.Load()
		y := x.ending.tally
		if apart {
			y = new(tally)
		}
		if err := c.take(ctx, t, y); err != nil {
			return err
		}
		if apart {
			y.queue(t)
			return nil
		}
		return x.finish(ctx, t)
	})
	if err != nil {
		return store.Settled{}, store.Claimed{}, err
	}
	claimed, err := s.claimed(ctx, c, nil)
	if err != nil {
		claimed = store.Claimed{Grants: make([][]store.Grant, len(requests)), Errs: slices.Repeat([]error{err}, len(requests))}
	}
	return store.Settled{Answers: x.answers, Ended: x.ended}, claimed, nil
}

func newClaim(lease time.Duration, requests []store.ClaimRequest, turns []store.Turn) *claim {
	return &claim{requests: requests, asking: ask(requests), turns: newTurns(turns), lease: lease}
}

// claimed is the answer of a claim that has run.
func (s *Store) claimed(ctx context.Context, c *claim, err error) (store.Claimed, error) {
	if err == nil && c.seen && !c.picky && len(c.grants) == 0 {
		// There is nothing but batches that not every session may have.
		c.picky = true
		err = s.write(ctx, "claim batches", c.run)
	}
	if err != nil {
		return store.Claimed{}, err
	}
	s.choosy.Store(c.seen)
	claimed := store.Claimed{
		Grants: make([][]store.Grant, len(c.requests)),
		Errs:   make([]error, len(c.requests)),
		Took:   c.took,
	}
	byAsked := deal(len(c.ids), c.grants, c.old)
	for i, r := range c.requests {
		at := c.index[key(r)]
		claimed.Grants[i] = byAsked[at]
		switch drained, lives := c.live[r.SessionID]; {
		case !lives:
			claimed.Errs[i] = store.ErrSessionEnded
		case drained && len(claimed.Grants[i]) == 0:
			claimed.Errs[i] = store.ErrSessionDrained
		case c.first[at] != i:
			// The same request again in one group gets the first one's leases.
			claimed.Grants[i] = slices.Clone(byAsked[at])
			for k := range claimed.Grants[i] {
				claimed.Grants[i][k].Repeated = true
			}
		}
	}
	return claimed, nil
}

// claim is a claim group under way.
type claim struct {
	requests []store.ClaimRequest
	asking
	turns  turnArrays
	lease  time.Duration
	picky  bool           // look for batches that not every session may have
	seen   bool           // there are some
	live   map[int64]bool // sessions, and whether they are being drained
	grants []granted
	old    []granted
	took   map[int64]store.Took
}

// run claims in a transaction of its own.
func (c *claim) run(ctx context.Context, t *tx) error {
	c.lock(t)
	var y tally
	if err := c.take(ctx, t, &y); err != nil {
		return err
	}
	if len(c.grants) == 0 {
		return errNothing
	}
	y.queue(t)
	return nil
}

// lock queues the locks that claims take first.
func (c *claim) lock(t *tx) { t.queue(lockSessions, sessionLock, c.locks) }

// take claims, and counts what it took. Whatever was queued has run when it returns.
func (c *claim) take(ctx context.Context, t *tx, y *tally) error {
	c.seen, c.live, c.grants, c.old = false, map[int64]bool{}, nil, nil
	each(t.queue(selectLiveSessions, c.locks), func(row pgx.Rows) error {
		var (
			id      int64
			drained bool
		)
		err := row.Scan(&id, &drained)
		c.live[id] = drained
		return err
	})
	each(t.queue(selectRepeated, c.sessions, c.ids), func(row pgx.Rows) error {
		var (
			g      = granted{Grant: store.Grant{Repeated: true}}
			parent int64
		)
		err := row.Scan(&g.request, &g.BatchID, &g.Attempt, &g.SessionID, &g.JobID, &g.Ordinal, &g.FirstItem,
			&g.ItemCount, &g.DoneItems, &g.Solo, &parent, &g.Remaining)
		g.descend(parent)
		c.old = append(c.old, g)
		return err
	})
	rooms, err := t.rooms(ctx, c.turns.turns)
	if err != nil {
		return err
	}
	given, most := map[int64]int{}, c.most
	if c.picky {
		if given, most, err = c.choosy(ctx, t, rooms); err != nil {
			return err
		}
	}
	allowed := c.turns.allow(rooms, given)
	t.queue(probeChoosy, c.turns.jobs).QueryRow(func(row pgx.Row) error { return row.Scan(&c.seen) })
	each(t.queue(claimBatches, c.sessions, c.ids, most, c.turns.jobs, c.turns.floors, allowed, c.lease), func(row pgx.Rows) error {
		var (
			g      = granted{Grant: store.Grant{Remaining: c.lease}}
			parent int64
		)
		err := row.Scan(&g.request, &g.slot, &g.fresh, &g.BatchID, &g.Attempt, &g.SessionID, &g.JobID, &g.Ordinal,
			&g.FirstItem, &g.ItemCount, &g.DoneItems, &parent)
		g.descend(parent)
		c.grants = append(c.grants, g)
		return err
	})
	if err := t.send(ctx); err != nil {
		return err
	}
	c.took = c.turns.took(c.grants, rooms, allowed, given, c.seen)
	if err := c.readAncestors(ctx, t); err != nil {
		return err
	}
	for _, g := range c.grants {
		d := y.of(g.JobID)
		d.Move(job.BatchPending, job.BatchRunning)
		d.ItemsInFlight += int64(g.ItemCount - g.DoneItems)
	}
	return nil
}
