package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// heldColumns are those of a batch b that its end is decided by.
const heldColumns = `b.id, b.job_id, b.first_item, b.item_count, b.done_items, b.state, b.attempt, b.failures, b.crashes, b.losses, b.lone_losses,
    coalesce(b.session_id, 0), coalesce(b.ended_session, 0), coalesce(b.ended_as, ''), b.claimed_at`

// held is a batch that this transaction has locked.
type held struct {
	job.Batch
	endedSession int64 // holder of the last ended attempt
	endedAs      job.EndKind
	changed      bool
	added        []byte        // to its outcomes
	backoff      time.Duration // until it is available again
}

// lives reports whether l is the batch's lease.
func (b *held) lives(l job.Lease) bool {
	return b.State == job.BatchRunning && b.Attempt == l.Attempt && b.SessionID == l.SessionID
}

// lastEnd returns how an attempt ended, if the batch's row still says so.
func (b *held) lastEnd(attempt int32) (recordedEnd, bool) {
	if b.State == job.BatchRunning || b.Attempt != attempt || b.endedAs == "" {
		return recordedEnd{}, false
	}
	return recordedEnd{b.endedSession, b.endedAs, b.State}, true
}

// rule is what the end of an attempt needs to know of its job.
type rule struct {
	state  job.State
	policy job.Policy
}

// holder is what the end of an attempt needs to know of its session.
type holder struct {
	worker string
	broken time.Time     // when the worker's side closed its newest stream; zero while one is open
	silent time.Duration // since it was last heard of
}

// died reports whether b's lease has run out since its session broke: one that was granted later shows that the worker
// had come back.
func (h holder) died(b *held) bool { return !h.broken.IsZero() && !h.broken.Before(b.ClaimedAt) }

// papers is what an ended attempt's log line says of its batch.
type papers struct {
	documents []string
	total     int
}

// ending is a transaction that ends attempts: it locks batches, has package job decide, and queues what follows.
type ending struct {
	*tally
	now    time.Time
	order  []int64 // of held, by id
	held   map[int64]*held
	rules  map[int64]rule
	holder map[int64]holder
	papers map[int64]papers
	past   []store.Attempt
	pastOf []int64 // job of each
	ended  []store.Ended
}

const selectRules = `SELECT id, state, policy FROM jobs WHERE id = ANY ($1::bigint[])`

const selectHolders = `
SELECT id, worker_id, broken_at, greatest(clock_timestamp() - beat_at, interval '0')
FROM sessions WHERE id = ANY ($1::bigint[])`

const selectPapers = `
SELECT batch_id, documents[1:10], cardinality(documents) FROM batch_payloads WHERE batch_id = ANY ($1::bigint[])`

// lock queues a statement that locks batches and returns their heldColumns in the order of their ids.
func (e *ending) lock(t *tx, sql string, args ...any) {
	e.held = map[int64]*held{}
	each(t.queue(sql, args...), func(row pgx.Rows) error {
		var (
			b         held
			claimedAt *time.Time
		)
		err := row.Scan(&b.ID, &b.JobID, &b.FirstItem, &b.ItemCount, &b.DoneItems, &b.State, &b.Attempt, &b.Failures, &b.Crashes,
			&b.Losses, &b.LoneLosses, &b.SessionID, &b.endedSession, &b.endedAs, &claimedAt)
		b.ClaimedAt = timeOf(claimedAt)
		e.held[b.ID] = &b
		e.order = append(e.order, b.ID)
		return err
	})
}

// prepare sends what is queued, and reads what the ends of the locked batches need.
func (e *ending) prepare(ctx context.Context, t *tx) error {
	if err := t.send(ctx); err != nil {
		return err
	}
	e.rules, e.holder, e.papers = map[int64]rule{}, map[int64]holder{}, map[int64]papers{}
	var jobs, sessions, batches []int64
	for _, b := range e.held {
		if b.State == job.BatchRunning {
			jobs = append(jobs, b.JobID)
			sessions = append(sessions, b.SessionID)
			batches = append(batches, b.ID)
		}
	}
	if len(batches) == 0 {
		return nil
	}
	t.queue(selectNow).QueryRow(func(row pgx.Row) error { return row.Scan(&e.now) })
	each(t.queue(selectRules, jobs), func(row pgx.Rows) error {
		var (
			id int64
			r  rule
		)
		err := row.Scan(&id, &r.state, &r.policy)
		e.rules[id] = r
		return err
	})
	each(t.queue(selectHolders, sessions), func(row pgx.Rows) error {
		var (
			id       int64
			h        holder
			brokenAt *time.Time
		)
		err := row.Scan(&id, &h.worker, &brokenAt, &h.silent)
		h.broken = timeOf(brokenAt)
		e.holder[id] = h
		return err
	})
	each(t.queue(selectPapers, batches), func(row pgx.Rows) error {
		var (
			id int64
			p  papers
		)
		err := row.Scan(&id, &p.documents, &p.total)
		e.papers[id] = p
		return err
	})
	return t.send(ctx)
}

// end ends the attempt that holds b, whose lease was checked. What it had done is final, whatever ended it.
func (e *ending) end(b *held, end job.End, findings []store.Finding) store.SettleAnswer {
	runs, ok := advance(end.From, end.Outcomes, b.DoneItems, b.ItemCount)
	done := b.DoneItems + job.Items(runs)
	if !ok || (end.Kind == job.EndCompleted && done != b.ItemCount) {
		return store.SettleAnswer{State: b.State, Err: store.ErrIncomplete}
	}
	from, crashedBefore := b.DoneItems, b.Crashes+b.Losses > 0
	b.DoneItems = done
	r := e.rules[b.JobID]
	decision := job.Decide(&b.Batch, end.Kind, end.Retryable, r.state, r.policy)
	if decision.State.Ended() && done < b.ItemCount {
		runs = append(runs[:len(runs):len(runs)], job.Run{Count: b.ItemCount - done, Outcome: decision.Undone})
		b.DoneItems = b.ItemCount
	}

	d := e.of(b.JobID)
	d.Move(job.BatchRunning, decision.State)
	d.ItemsInFlight -= int64(b.ItemCount - from)
	d.Done(b.ID, b.FirstItem, from, runs)
	if end.Kind.Crashed() && !crashedBefore {
		d.CrashedEver++
	}
	if decision.State.Ended() {
		d.End(b.ID, decision.State, decision.Crashes > 0, e.now.Sub(b.ClaimedAt))
	}
	count := sessionCount{session: b.SessionID}
	if decision.State == job.BatchCompleted {
		count.completed = 1
	}
	if end.Kind.Crashed() {
		count.crashed = 1
	}
	e.session(b.JobID, count)
	recordFindings(e.tally, findings, b.ID, b.JobID, from, b.DoneItems)
	if end.Kind != job.EndCompleted {
		e.remember(b, end, decision.State)
	}

	b.changed = true
	b.added = job.AppendRuns(b.added, runs)
	b.backoff = decision.Backoff
	b.State, b.Failures, b.Crashes, b.Losses = decision.State, decision.Failures, decision.Crashes, decision.Losses
	b.LoneLosses = decision.LoneLosses
	b.endedSession, b.endedAs, b.SessionID = b.SessionID, end.Kind, 0
	return store.SettleAnswer{JobID: b.JobID, State: b.State}
}

// remember notes an attempt that did not complete, for its history and for the log.
func (e *ending) remember(b *held, end job.End, after job.BatchState) {
	worker := e.holder[b.SessionID].worker
	message := store.CleanText(end.Message, store.MaxMessage)
	e.past = append(e.past, store.Attempt{
		BatchID: b.ID, Attempt: b.Attempt, SessionID: b.SessionID, WorkerID: worker, Kind: end.Kind, Message: message,
		ClaimedAt: b.ClaimedAt, State: after,
	})
	e.pastOf = append(e.pastOf, b.JobID)
	e.ended = append(e.ended, store.Ended{
		Lease: job.Lease{BatchID: b.ID, Attempt: b.Attempt, SessionID: b.SessionID},
		JobID: b.JobID, Kind: end.Kind, Message: message, State: after, WorkerID: worker,
		Documents: e.papers[b.ID].documents, Total: e.papers[b.ID].total,
	})
}

// shareEnds has who ends batches badly wait for a retry of their job, or a retry for it: a batch says in which run it ended,
// and is counted before the next one begins.
const shareEnds = `
SELECT pg_advisory_xact_lock_shared($1, (w.id % 2147483647)::integer) FROM (SELECT id FROM unnest($2::bigint[]) AS id ORDER BY id) w`

// endBatches sees the run that is current once shareEnds has been granted.
const endBatches = `
UPDATE batches b
SET state = w.state, failures = w.failures, crashes = w.crashes, losses = w.losses, lone_losses = w.lone_losses, done_items = w.done_items,
    outcomes = b.outcomes || w.outcomes, ended_session = b.session_id, ended_as = w.ended_as, session_id = NULL,
    claim_request_id = NULL, lease_expires_at = NULL,
    settled_at = CASE WHEN w.state > 1 THEN clock_timestamp() END,
    ended_run = CASE WHEN w.state IN (3, 4) THEN (SELECT j.run FROM jobs j WHERE j.id = b.job_id) END,
    available_at = CASE WHEN w.state = 0 THEN clock_timestamp() + w.backoff END
FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
            $8::bytea[], $9::text[], $10::interval[], $11::integer[])
     AS w(id, attempt, state, failures, crashes, losses, done_items, outcomes, ended_as, backoff, lone_losses)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[]) AND b.attempt = w.attempt`

const insertAttempts = `
INSERT INTO attempts (batch_id, attempt, job_id, session_id, worker_id, ended_as, message, state_after, claimed_at, ended_at)
SELECT w.batch_id, w.attempt, w.job_id, w.session_id, w.worker_id, w.ended_as, w.message, w.state_after, w.claimed_at,
       clock_timestamp()
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::smallint[],
            $9::timestamptz[])
     AS w(batch_id, attempt, job_id, session_id, worker_id, ended_as, message, state_after, claimed_at)`

// queue queues all that follows from the ends.
func (e *ending) queue(t *tx) {
	var (
		id                                       []int64
		attempt, failures, crashes, losses, done []int32
		lone                                     []int32
		state                                    []int16
		outcomes                                 [][]byte
		bad                                      []int64 // jobs
		as                                       []string
		backoff                                  []time.Duration
	)
	for _, k := range e.order {
		b := e.held[k]
		if !b.changed {
			continue
		}
		id, attempt, state = append(id, b.ID), append(attempt, b.Attempt), append(state, int16(b.State))
		failures, crashes, losses = append(failures, b.Failures), append(crashes, b.Crashes), append(losses, b.Losses)
		done, outcomes = append(done, b.DoneItems), append(outcomes, append([]byte{}, b.added...))
		as, backoff = append(as, string(b.endedAs)), append(backoff, b.backoff)
		lone = append(lone, b.LoneLosses)
		if b.State == job.BatchFailed || b.State == job.BatchCrashed {
			bad = append(bad, b.JobID)
		}
	}
	if len(bad) > 0 {
		t.queue(shareEnds, retryLock, bad)
	}
	if len(id) > 0 {
		t.queue(endBatches, id, attempt, state, failures, crashes, losses, done, outcomes, as, backoff, lone)
	}
	e.queueAttempts(t)
	e.tally.queue(t)
}

func (e *ending) queueAttempts(t *tx) {
	n := len(e.past)
	if n == 0 {
		return
	}
	var (
		batches, sessions  = make([]int64, n), make([]int64, n)
		numbers            = make([]int32, n)
		states             = make([]int16, n)
		workers, kinds, ms = make([]string, n), make([]string, n), make([]string, n)
		claimed            = make([]time.Time, n)
	)
	for i, a := range e.past {
		batches[i], sessions[i], numbers[i], states[i] = a.BatchID, a.SessionID, a.Attempt, int16(a.State)
		workers[i], kinds[i], ms[i], claimed[i] = a.WorkerID, string(a.Kind), a.Message, a.ClaimedAt
	}
	t.queue(insertAttempts, batches, numbers, e.pastOf, sessions, workers, kinds, ms, states, claimed)
}

// endAll ends all that was locked the same way and for the same reason.
func (e *ending) endAll(how func(b *held) (job.EndKind, string)) {
	for _, id := range e.order {
		b := e.held[id]
		kind, message := how(b)
		e.end(b, job.End{Kind: kind, Message: message, From: b.DoneItems}, nil)
	}
}

// timeOf returns the zero time for a null.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
