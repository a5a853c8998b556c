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
	simple, others := sortOut(settlements)
	var (
		answers []store.SettleAnswer
		ended   []store.Ended
	)
	err := s.write(ctx, "settle batches", func(ctx context.Context, t *tx) error {
		answers = make([]store.SettleAnswer, len(settlements))
		e := ending{tally: new(tally), choosy: &s.choosy}
		rest := others
		if len(simple) > 0 {
			missed, err := complete(ctx, t, settlements, simple, answers, e.tally)
			if err != nil {
				return err
			}
			if len(missed) > 0 {
				rest = slices.Sorted(slices.Values(append(missed, others...)))
			}
		}
		if len(rest) > 0 {
			if err := e.settle(ctx, t, settlements, rest, answers); err != nil {
				return err
			}
		}
		if err := e.finish(ctx, t); err != nil {
			return err
		}
		ended = e.ended
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return answers, ended, nil
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

// complete settles completions in one statement and returns those that it did not match.
func complete(ctx context.Context, t *tx, settlements []store.Settlement, of []int, answers []store.SettleAnswer, y *tally) ([]int, error) {
	var (
		leases      = make([]job.Lease, len(of))
		from, count = make([]int32, len(of)), make([]int32, len(of))
		outcomes    = make([][]byte, len(of))
		matched     = make([]bool, len(of))
	)
	for k, i := range of {
		leases[k] = settlements[i].Lease
		from[k], count[k] = settlements[i].From, job.Items(settlements[i].Outcomes)
		outcomes[k] = job.AppendRuns([]byte{}, settlements[i].Outcomes)
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
		matched[k] = true
		set := settlements[of[k]]
		answers[of[k]] = store.SettleAnswer{JobID: jobID, State: job.BatchCompleted}
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
	if err := t.send(ctx); err != nil {
		return nil, err
	}
	var missed []int
	for k, i := range of {
		if !matched[k] {
			missed = append(missed, i)
		}
	}
	return missed, nil
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
