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

// completeBatches is the way of nearly all settlements: attempts that completed with exactly the outcomes that were
// missing. It does not name state, which would have the planner walk a partial index, and compares the session in a way
// that cannot be searched for: rows are found by their id. Sorted ids lock them in order.
const completeBatches = `
UPDATE batches b
SET state = 2, done_items = b.item_count, outcomes = b.outcomes || w.outcomes, ended_session = b.session_id,
    ended_as = 'completed', session_id = NULL, claim_request_id = NULL, lease_expires_at = NULL,
    settled_at = clock_timestamp()
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::integer[], $5::integer[], $6::bytea[]) WITH ORDINALITY
     AS w(id, attempt, session_id, from_item, item_count, outcomes, n)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[])
  AND b.attempt = w.attempt AND b.session_id IS NOT DISTINCT FROM w.session_id
  AND b.done_items = w.from_item AND b.item_count - w.from_item = w.item_count
RETURNING w.n, b.job_id, b.root_id IS NULL, b.first_item, b.crashes, b.claimed_at, b.settled_at`

// lockSettled waits for what others do to the batches.
const lockSettled = `
SELECT ` + heldColumns + `
FROM batches b
WHERE b.id = ANY ($1::bigint[])
ORDER BY b.id
FOR UPDATE`

// selectSettled finds the ends that were recorded for attempts before.
const selectSettled = `
SELECT a.batch_id, a.attempt, a.session_id, a.ended_as, a.state_after
FROM unnest($1::bigint[], $2::integer[]) AS w(batch_id, attempt)
JOIN attempts a ON a.batch_id = w.batch_id AND a.attempt = w.attempt
WHERE a.batch_id = ANY ($1::bigint[])`

// Settle implements store.Leases.
func (s *Store) Settle(ctx context.Context, settlements []store.Settlement) ([]store.SettleAnswer, []store.Ended, error) {
	if len(settlements) == 0 {
		return nil, nil, nil
	}
	x := s.settling(settlements)
	err := s.write(ctx, "settle batches", func(ctx context.Context, t *tx) error {
		x.begin(t)
		return x.finish(ctx, t)
	})
	if err != nil {
		return nil, nil, err
	}
	return x.answers, x.ended, nil
}

// settling is a group of settlements under way.
type settling struct {
	store          *Store
	settlements    []store.Settlement
	simple, others []int
	matched        []bool // of simple
	ending         ending
	answers        []store.SettleAnswer
	ended          []store.Ended
}

func (s *Store) settling(settlements []store.Settlement) *settling {
	x := &settling{store: s, settlements: settlements}
	x.simple, x.others = sortOut(settlements)
	return x
}

// begin queues what nearly all settlements need, from nothing.
func (x *settling) begin(t *tx) {
	x.answers = make([]store.SettleAnswer, len(x.settlements))
	x.ending = ending{tally: new(tally), choosy: &x.store.choosy}
	if len(x.simple) > 0 {
		x.complete(t)
	}
}

// finish does what is left once the statements of begin have run, which it sees to if need be, and queues what there is
// to record.
func (x *settling) finish(ctx context.Context, t *tx) error {
	if err := t.send(ctx); err != nil {
		return err
	}
	rest := slices.Clone(x.others)
	for k, i := range x.simple {
		if !x.matched[k] {
			rest = append(rest, i)
		}
	}
	if slices.Sort(rest); len(rest) > 0 {
		if err := x.ending.settle(ctx, t, x.settlements, rest, x.answers); err != nil {
			return err
		}
	}
	if err := x.ending.finish(ctx, t); err != nil {
		return err
	}
	x.ended = x.ending.ended
	return nil
}

// sortOut tells completions that may go the short way, one for each batch and in the order of their ids, from all others.
func sortOut(settlements []store.Settlement) (simple, others []int) {
	named := make(map[int64]bool, len(settlements))
	for i, s := range settlements {
		if s.Kind == job.EndCompleted && s.From >= 0 && !named[s.BatchID] {
			simple = append(simple, i)
		} else {
			others = append(others, i)
		}
		named[s.BatchID] = true
	}
	slices.SortFunc(simple, func(x, y int) int { return cmp.Compare(settlements[x].BatchID, settlements[y].BatchID) })
	return simple, others
}

// complete queues the statement that settles completions, and notes which it matched.
func (x *settling) complete(t *tx) {
	of, y := x.simple, x.ending.tally
	var (
		leases      = make([]job.Lease, len(of))
		from, count = make([]int32, len(of)), make([]int32, len(of))
		outcomes    = make([][]byte, len(of))
	)
	x.matched = make([]bool, len(of))
	for k, i := range of {
		set := &x.settlements[i]
		leases[k] = set.Lease
		from[k], count[k] = set.From, job.Items(set.Outcomes)
		outcomes[k] = job.AppendRuns([]byte{}, set.Outcomes)
	}
	a := newLeases(leases)
	each(t.queue(completeBatches, a.batches, a.attempts, a.sessions, from, count, outcomes), func(row pgx.Rows) error {
		var (
			n                  int
			whole              bool // not a part of a split batch
			jobID, firstItem   int64
			crashes            int32
			claimedAt, endedAt time.Time
		)
		if err := row.Scan(&n, &jobID, &whole, &firstItem, &crashes, &claimedAt, &endedAt); err != nil {
			return err
		}
		k := n - 1
		x.matched[k] = true
		set := &x.settlements[of[k]]
		x.answers[of[k]] = store.SettleAnswer{JobID: jobID, State: job.BatchCompleted}
		d := y.of(jobID)
		d.Move(job.BatchRunning, job.BatchCompleted)
		d.ItemsInFlight -= int64(count[k])
		d.Done(set.BatchID, firstItem, from[k], set.Outcomes)
		if whole {
			d.End(set.BatchID, job.BatchCompleted, crashes > 0, endedAt.Sub(claimedAt))
		}
		y.session(jobID, sessionCount{session: set.SessionID, completed: 1})
		recordFindings(y, set.Findings, set.BatchID, jobID, from[k], from[k]+count[k])
		recordResults(y, set.Results, set.BatchID, jobID, firstItem, from[k], from[k]+count[k])
		return nil
	})
}

// settle judges settlements one by one, in their order, with their batches locked.
func (e *ending) settle(ctx context.Context, t *tx, settlements []store.Settlement, of []int, answers []store.SettleAnswer) error {
	leases := make([]job.Lease, len(of))
	for k, i := range of {
		leases[k] = settlements[i].Lease
		e.deaths = e.deaths || settlements[i].Kind == job.EndDied
	}
	a := newLeases(leases)
	e.lock(t, lockSettled, a.batches)
	// Read after the lock, so that an end is found which another transaction recorded while this one waited.
	recorded := map[[2]int64]recordedEnd{}
	each(t.queue(selectSettled, a.batches, a.attempts), func(row pgx.Rows) error {
		var (
			batch   int64
			attempt int32
			r       recordedEnd
		)
		err := row.Scan(&batch, &attempt, &r.session, &r.kind, &r.state)
		recorded[[2]int64{batch, int64(attempt)}] = r
		return err
	})
	if err := e.prepare(ctx, t); err != nil {
		return err
	}
	for _, i := range of {
		set := settlements[i]
		b := e.held[set.BatchID]
		switch {
		case b == nil:
			answers[i] = store.SettleAnswer{Lost: true}
		case b.lives(set.Lease):
			done := b.DoneItems
			if set.Kind == job.EndDied && set.Crash == nil {
				set.Crash = new(job.Crash) // the worker that says so lives
			}
			e.end(b, set.End, set.Findings, &answers[i])
			if answers[i].Err == nil {
				recordResults(e.tally, set.Results, b.ID, b.JobID, b.FirstItem, done, set.From+job.Items(set.Outcomes))
			}
		default:
			end, ok := recorded[[2]int64{set.BatchID, int64(set.Attempt)}]
			if !ok {
				end, ok = b.lastEnd(set.Attempt)
			}
			if ok && end.session == set.SessionID && end.kind == set.Kind {
				answers[i] = store.SettleAnswer{State: end.state}
			} else {
				answers[i] = store.SettleAnswer{Lost: true}
			}
		}
	}
	return nil
}

// recordedEnd is what is known of an attempt that ended.
type recordedEnd struct {
	session int64
	kind    job.EndKind
	state   job.BatchState // that the batch got
}
