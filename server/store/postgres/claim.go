package postgres

import (
	"cmp"
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

// selectAskers says of each request whether its session lives, is being drained, or holds a solo batch, and whether it was
// answered before; and of all whether there are choosy batches. LIMIT 1 makes each a search of the index, not a join.
const selectAskers = `
SELECT w.n, s.id IS NOT NULL, s.drained_at IS NOT NULL,
       (SELECT true FROM batches h WHERE h.session_id = w.session_id AND h.solo LIMIT 1) IS NOT NULL,
       (SELECT true FROM batches h
        WHERE h.session_id = w.session_id AND h.claim_request_id = w.request_id LIMIT 1) IS NOT NULL,
       (SELECT EXISTS (` + choosyThere + `$3::bigint[]) AND ` + choosyBatches + `))
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS w(session_id, request_id, n)
LEFT JOIN LATERAL (
    SELECT i.id, i.drained_at FROM sessions i WHERE i.id = w.session_id AND i.ended_at IS NULL OFFSET 0
) s ON true`

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

// lockPending locks batches that may be given, turn by turn, in each the returned ones first; each limit stops taking, and so
// locking, as soon as it is reached. Whom they are given to is not for the database to say: that made a statement whose start
// cost more than its work.
const lockPending = `
SELECT t.n, p.id, p.available_at, p.attempt, p.job_id, p.ordinal, p.first_item, p.item_count, p.done_items, coalesce(p.parent_id, 0)
FROM unnest($1::bigint[], $2::integer[], $3::integer[]) WITH ORDINALITY AS t(job_id, floor, most, n)
CROSS JOIN LATERAL (SELECT FROM jobs j WHERE j.id = t.job_id AND j.state = 'running' OFFSET 0) j
CROSS JOIN LATERAL (
    SELECT r.id, r.available_at, r.attempt, r.job_id, r.ordinal, r.first_item, r.item_count, r.done_items, r.parent_id
    FROM (
        SELECT b.id, b.available_at, b.attempt, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.parent_id
        FROM batches b
        WHERE b.job_id = t.job_id AND ` + returnedBatches + `
          AND b.available_at <= (SELECT clock_timestamp())
        ORDER BY b.available_at, b.id
        LIMIT t.most
        FOR UPDATE OF b SKIP LOCKED
    ) r
    UNION ALL
    SELECT f.id, f.available_at, f.attempt, f.job_id, f.ordinal, f.first_item, f.item_count, f.done_items, f.parent_id
    FROM (
        SELECT b.id, b.available_at, b.attempt, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.parent_id
        FROM batches b
        WHERE b.job_id = t.job_id AND b.ordinal >= t.floor AND b.state = 0 AND b.available_at IS NULL
        ORDER BY b.ordinal
        LIMIT t.most
        FOR UPDATE OF b SKIP LOCKED
    ) f
    LIMIT t.most
) p
LIMIT $4`

// claimBatches gives batches that are locked to sessions, and returns their payloads as far as these are small.
const claimBatches = `
UPDATE batches b
SET state = 1, attempt = b.attempt + 1, session_id = w.session_id, claim_request_id = w.request_id, claimed_at = clock_timestamp(),
    lease_expires_at = clock_timestamp() + $4::interval, available_at = NULL, avoid_until = NULL, waiting = false, beats = 0
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) WITH ORDINALITY AS w(id, session_id, request_id, n)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[])
RETURNING w.n, (SELECT p.frame FROM batch_payloads p
                WHERE p.batch_id = coalesce(b.root_id, b.id) AND octet_length(p.frame) <= $5)`

// batchesAtOnce bounds what one request gets, however much it asks for.
const batchesAtOnce = 1000

// frameBytes is up to which size a payload comes with its grant.
const frameBytes = 8 << 10

// granted is a grant with its place in the dealing.
type granted struct {
	store.Grant
	request int  // index in what was asked
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
	byAsked := byRequest(len(c.ids), c.grants, c.old)
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
	alone  map[int64]bool // sessions that hold a solo batch
	held   []bool         // requests under which something is held
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

// take claims, and counts what it took. Whatever was queued before has run when it returns, and what it took is queued.
func (c *claim) take(ctx context.Context, t *tx, y *tally) error {
	c.ask(t)
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
	pending, err := c.pending(ctx, t, allowed, most)
	if err != nil {
		return err
	}
	dealt := c.deal(pending, most)
	c.took = c.turns.took(c.grants, rooms, allowed, given, c.seen)
	if err := c.readOld(ctx, t); err != nil {
		return err
	}
	c.give(t, dealt)
	for _, g := range c.grants {
		d := y.of(g.JobID)
		d.Move(job.BatchPending, job.BatchRunning)
		d.ItemsInFlight += int64(g.ItemCount - g.DoneItems)
	}
	return nil
}

// ask queues the question who asks.
func (c *claim) ask(t *tx) {
	c.seen, c.grants, c.old = false, nil, nil
	c.live, c.alone, c.held = map[int64]bool{}, map[int64]bool{}, make([]bool, len(c.ids))
	each(t.queue(selectAskers, c.sessions, c.ids, c.turns.jobs), func(row pgx.Rows) error {
		var (
			n                          int
			lives, drained, solo, held bool
		)
		if err := row.Scan(&n, &lives, &drained, &solo, &held, &c.seen); err != nil {
			return err
		}
		session := c.sessions[n-1]
		if lives {
			c.live[session] = drained
		}
		if solo {
			c.alone[session] = true
		}
		c.held[n-1] = held
		return nil
	})
}

// may reports whether a request may get something new.
func (c *claim) may(i int) bool {
	drained, lives := c.live[c.sessions[i]]
	return lives && !drained && !c.alone[c.sessions[i]] && !c.held[i]
}

// pendingBatch is one that is locked and may be given, with the place of its turn.
type pendingBatch struct {
	granted
	turn        int
	availableAt time.Time // zero of a fresh one
}

// pending locks batches of the turns. Whatever was queued has run when it returns.
func (c *claim) pending(ctx context.Context, t *tx, allowed, most []int32) ([]pendingBatch, error) {
	want := 0
	for _, n := range most {
		want += int(n)
	}
	var found []pendingBatch
	if want > 0 && len(c.turns.jobs) > 0 {
		each(t.queue(lockPending, c.turns.jobs, c.turns.floors, allowed, want), func(row pgx.Rows) error {
			var (
				b           pendingBatch
				availableAt *time.Time
				parent      int64
			)
			err := row.Scan(&b.turn, &b.BatchID, &availableAt, &b.Attempt, &b.JobID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &b.DoneItems,
				&parent)
			b.descend(parent)
			b.availableAt, b.fresh = timeOf(availableAt), availableAt == nil
			found = append(found, b)
			return err
		})
	}
	if err := t.send(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(x, y pendingBatch) int {
		switch {
		case x.turn != y.turn:
			return cmp.Compare(x.turn, y.turn)
		case x.fresh != y.fresh && x.fresh:
			return 1
		case x.fresh != y.fresh:
			return -1
		case x.fresh:
			return cmp.Compare(x.Ordinal, y.Ordinal)
		}
		return cmp.Or(x.availableAt.Compare(y.availableAt), cmp.Compare(x.BatchID, y.BatchID))
	})
	return found, nil
}

// deal gives what was found to the requests, one after the other and round after round, and returns how many that were. What
// is left was locked for requests that may get nothing, and is let go with the transaction.
func (c *claim) deal(found []pendingBatch, most []int32) int {
	dealt := 0
	for round := int32(0); dealt < len(found); round++ {
		before := dealt
		for i := range c.ids {
			if dealt == len(found) || round >= most[i] || !c.may(i) {
				continue
			}
			g := found[dealt].granted
			g.Attempt++
			g.SessionID, g.Remaining, g.request = c.sessions[i], c.lease, i+1
			c.grants = append(c.grants, g)
			dealt++
		}
		if dealt == before {
			break
		}
	}
	return dealt
}

// give queues the statement by which the last n grants become true, and notes the payloads that come with it.
func (c *claim) give(t *tx, n int) {
	if n == 0 {
		return
	}
	from := len(c.grants) - n
	batches, sessions, requests := make([]int64, n), make([]int64, n), make([]string, n)
	for i, g := range c.grants[from:] {
		batches[i], sessions[i], requests[i] = g.BatchID, g.SessionID, c.ids[g.request-1]
	}
	each(t.queue(claimBatches, batches, sessions, requests, c.lease, frameBytes), func(row pgx.Rows) error {
		var (
			n     int
			frame []byte
		)
		err := row.Scan(&n, &frame)
		c.grants[from+n-1].Frame = frame
		return err
	})
}

// readOld reads what is held under requests that were answered before, and the ancestors of all that is granted.
func (c *claim) readOld(ctx context.Context, t *tx) error {
	if slices.Contains(c.held, true) {
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
		if err := t.send(ctx); err != nil {
			return err
		}
	}
	return c.readAncestors(ctx, t)
}
