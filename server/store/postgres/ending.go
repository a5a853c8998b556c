package postgres

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// heldColumns are those of a batch b that its end is decided by.
const heldColumns = `b.id, b.job_id, coalesce(b.root_id, 0), b.ordinal, b.first_item, b.item_count, b.weight, b.done_items, b.state, b.attempt, b.failures,
    b.crashes, b.losses, b.lone_losses, b.lone_deaths, b.suspect, b.died_on, b.solo, b.waiting, b.beats,
    coalesce(b.session_id, 0), coalesce(b.ended_session, 0), coalesce(b.ended_as, ''), b.claimed_at, b.outcomes`

// held is a batch that this transaction has locked.
type held struct {
	job.Batch
	endedSession int64 // holder of the last ended attempt
	endedAs      job.EndKind
	waiting      bool // its handler has not begun, as far as is known
	changed      bool
	added        []byte        // to its outcomes
	backoff      time.Duration // until it is available again
	avoid        time.Duration // until the worker it died on may have it again
}

// root is the batch that ingest cut, which holds the payload.
func (b *held) root() int64 { return cmp.Or(b.RootID, b.ID) }

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
	kind   string
	splits int64 // batches that were split, as of the last fold
}

// holder is what the end of an attempt needs to know of its session.
type holder struct {
	worker    string
	condemned bool          // drained since everything dies on it
	completed int64         // batches, as of the last fold
	broken    time.Time     // when the worker's side closed its newest stream; zero while one is open
	silent    time.Duration // since it was last heard of
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
	pastAt []int64 // batches that the session of each had completed
	ended  []store.Ended

	choosy     *atomic.Bool      // of the store: batches that not every session may have are there
	deaths     bool              // processes may have died: prepare reads what that needs
	colleagues []store.Colleague // live sessions
	shared     map[int64]int     // batches that sessions hold, or held when they died
	deferred   []*outcome        // ends that need the items of their batches
}

const selectRules = `SELECT id, state, policy, kind, batches_split FROM jobs WHERE id = ANY ($1::bigint[])`

const selectHolders = `
SELECT id, worker_id, drain_reason <> '', completed, broken_at, greatest(clock_timestamp() - beat_at, interval '0')
FROM sessions WHERE id = ANY ($1::bigint[])`

const selectPapers = `
SELECT b.id, p.documents[1:10], cardinality(p.documents)
FROM batches b CROSS JOIN LATERAL (
    SELECT coalesce(b.documents, (SELECT o.documents FROM batch_payloads o WHERE o.batch_id = b.id)) AS documents OFFSET 0
) p
WHERE b.id = ANY ($1::bigint[])`

// lock queues a statement that locks batches and returns their heldColumns in the order of their ids.
func (e *ending) lock(t *tx, sql string, args ...any) {
	e.held = map[int64]*held{}
	each(t.queue(sql, args...), func(row pgx.Rows) error {
		var (
			b         held
			claimedAt *time.Time
			outcomes  []byte
		)
		err := row.Scan(&b.ID, &b.JobID, &b.RootID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &b.Weight, &b.DoneItems, &b.State, &b.Attempt,
			&b.Failures, &b.Crashes, &b.Losses, &b.LoneLosses, &b.LoneDeaths, &b.Suspect, &b.DiedOn, &b.Solo, &b.waiting, &b.Beats,
			&b.SessionID, &b.endedSession, &b.endedAs, &claimedAt, &outcomes)
		if err != nil {
			return err
		}
		b.ClaimedAt = timeOf(claimedAt)
		b.Outcomes, err = job.ParseRuns(outcomes)
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
		err := row.Scan(&id, &r.state, &r.policy, &r.kind, &r.splits)
		e.rules[id] = r
		return err
	})
	each(t.queue(selectHolders, sessions), func(row pgx.Rows) error {
		var (
			id       int64
			h        holder
			brokenAt *time.Time
		)
		err := row.Scan(&id, &h.worker, &h.condemned, &h.completed, &brokenAt, &h.silent)
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
	if e.deaths {
		e.readDeaths(t, sessions)
	}
	return t.send(ctx)
}

// outcome is what the end of an attempt leads to, until it is applied.
type outcome struct {
	*held
	end      job.End
	decision job.Decision
	from     int32     // done items before
	runs     []job.Run // that it adds
	findings []store.Finding
	answer   *store.SettleAnswer // nil when nobody waits for it
	crashed  bool                // it had crashed before
}

// end ends the attempt that holds b, whose lease was checked. What it had done is final, whatever ended it. The answer is
// complete when apply has returned.
func (e *ending) end(b *held, end job.End, findings []store.Finding, answer *store.SettleAnswer) {
	runs, ok := advance(end.From, end.Outcomes, b.DoneItems, b.ItemCount)
	done := b.DoneItems + job.Items(runs)
	if !ok || (end.Kind == job.EndCompleted && done != b.ItemCount) {
		*answer = store.SettleAnswer{State: b.State, Err: store.ErrIncomplete}
		return
	}
	if end.Kind == job.EndDied && end.Crash == nil && b.waiting {
		end.Kind, end.Message = job.EndReleased, store.WaitingMessage
	}
	r := e.rules[b.JobID]
	c := job.Case{End: end.Kind, Retryable: end.Retryable, State: r.state, Policy: r.policy}
	if end.Kind == job.EndDied {
		c.Death = e.death(b, &end, r)
	}
	x := &outcome{
		held: b, end: end, from: b.DoneItems, runs: runs, findings: findings, answer: answer, crashed: b.Crashes+b.Losses > 0,
	}
	b.DoneItems = done
	b.Outcomes = append(slices.Clip(b.Outcomes), runs...)
	x.decision = job.Decide(&b.Batch, c)
	// From here on another end of the same attempt is a repetition.
	b.State, b.endedSession, b.endedAs, b.changed = x.decision.State, b.SessionID, end.Kind, true
	if x.decision.State == job.BatchSplit || x.decision.Undone == job.ItemCrashed {
		e.deferred = append(e.deferred, x)
		return
	}
	e.apply(x)
}

// apply counts and notes what an end leads to.
func (e *ending) apply(x *outcome) {
	b, decision, runs := x.held, &x.decision, x.runs
	if decision.Undone != 0 && b.DoneItems < b.ItemCount {
		undone := job.Run{Count: b.ItemCount - b.DoneItems, Outcome: decision.Undone}
		runs, b.Outcomes = append(slices.Clip(runs), undone), append(b.Outcomes, undone)
		b.DoneItems = b.ItemCount
	}
	d := e.of(b.JobID)
	d.Move(job.BatchRunning, decision.State)
	d.ItemsInFlight -= int64(b.ItemCount - x.from)
	d.Done(b.ID, b.FirstItem, x.from, runs)
	if x.end.Kind.Crashed() && !x.crashed && decision.Crashes+decision.Losses > 0 && b.RootID == 0 {
		d.CrashedEver++
	}
	if decision.State.Ended() && b.RootID == 0 {
		d.End(b.ID, decision.State, decision.Crashes > 0, e.now.Sub(b.ClaimedAt))
	}
	count := sessionCount{session: b.SessionID}
	if decision.State == job.BatchCompleted {
		count.completed = 1
	}
	if x.end.Kind.Crashed() {
		count.crashed = 1
	}
	e.session(b.JobID, count)
	recordFindings(e.tally, x.findings, b.ID, b.JobID, x.from, b.DoneItems)
	if x.end.Kind != job.EndCompleted {
		e.remember(b, &x.end, decision)
	}

	b.added = job.AppendRuns(b.added, runs)
	b.backoff, b.avoid = decision.Backoff, decision.Avoid
	b.State, b.Failures, b.Crashes, b.Losses = decision.State, decision.Failures, decision.Crashes, decision.Losses
	b.LoneLosses, b.Suspicion = decision.LoneLosses, decision.Suspicion
	b.SessionID = 0
	if x.answer != nil {
		*x.answer = store.SettleAnswer{JobID: b.JobID, State: b.State}
	}
}

// remember notes an attempt that did not complete, for its history and for the log.
func (e *ending) remember(b *held, end *job.End, decision *job.Decision) {
	worker := e.holder[b.SessionID].worker
	message := store.CleanText(end.Message, store.MaxMessage)
	a := store.Attempt{
		BatchID: b.ID, Attempt: b.Attempt, SessionID: b.SessionID, WorkerID: worker, Kind: end.Kind, Message: message,
		ClaimedAt: b.ClaimedAt, State: decision.State, Beats: b.Beats, Decision: decision.Why,
	}
	if end.Crash != nil {
		crash := store.CleanCrash(end.Crash)
		a.Crash = &crash
	}
	e.past = append(e.past, a)
	e.pastOf = append(e.pastOf, b.JobID)
	e.pastAt = append(e.pastAt, e.holder[b.SessionID].completed)
	e.ended = append(e.ended, store.Ended{
		Lease: job.Lease{BatchID: b.ID, Attempt: b.Attempt, SessionID: b.SessionID},
		JobID: b.JobID, Kind: end.Kind, Message: message, State: decision.State, Decision: decision.Why, WorkerID: worker,
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
    lone_deaths = w.lone_deaths, suspect = w.suspect, died_on = w.died_on, solo = w.solo,
    outcomes = b.outcomes || w.outcomes, ended_session = b.session_id, ended_as = w.ended_as, session_id = NULL,
    claim_request_id = NULL, lease_expires_at = NULL,
    settled_at = CASE WHEN w.state > 1 THEN clock_timestamp() END,
    ended_run = CASE WHEN w.state IN (3, 4) THEN (SELECT j.run FROM jobs j WHERE j.id = b.job_id) END,
    available_at = CASE WHEN w.state = 0 THEN clock_timestamp() + w.backoff END,
    avoid_until = CASE WHEN w.state = 0 AND w.avoid > interval '0' THEN clock_timestamp() + w.avoid END
FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
            $8::bytea[], $9::text[], $10::interval[], $11::integer[], $12::integer[], $13::integer[], $14::text[], $15::boolean[],
            $16::interval[])
     AS w(id, attempt, state, failures, crashes, losses, done_items, outcomes, ended_as, backoff, lone_losses, lone_deaths,
          suspect, died_on, solo, avoid)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[]) AND b.attempt = w.attempt`

// finish applies the ends that need the items of their batches, and queues all that follows from the ends.
func (e *ending) finish(ctx context.Context, t *tx) error {
	if err := e.isolate(ctx, t); err != nil {
		return err
	}
	var (
		id                                       []int64
		attempt, failures, crashes, losses, done []int32
		lone, deaths, suspects                   []int32
		state                                    []int16
		outcomes                                 [][]byte
		bad                                      []int64 // jobs
		as, diedOn                               []string
		backoff, avoid                           []time.Duration
		solo                                     []bool
	)
	for _, k := range e.order {
		b := e.held[k]
		if !b.changed {
			continue
		}
		id, attempt, state = append(id, b.ID), append(attempt, b.Attempt), append(state, int16(b.State))
		failures, crashes, losses = append(failures, b.Failures), append(crashes, b.Crashes), append(losses, b.Losses)
		done, outcomes = append(done, b.DoneItems), append(outcomes, append([]byte{}, b.added...))
		as, backoff, avoid = append(as, string(b.endedAs)), append(backoff, b.backoff), append(avoid, b.avoid)
		lone, deaths, suspects = append(lone, b.LoneLosses), append(deaths, b.LoneDeaths), append(suspects, b.Suspect)
		diedOn, solo = append(diedOn, b.DiedOn), append(solo, b.Solo)
		if b.State == job.BatchPending && (b.Solo || b.avoid > 0) {
			e.choosy.Store(true)
		}
		if b.State == job.BatchFailed || b.State == job.BatchCrashed {
			bad = append(bad, b.JobID)
		}
	}
	if len(bad) > 0 {
		t.queue(shareEnds, retryLock, bad)
	}
	if len(id) > 0 {
		t.queue(endBatches, id, attempt, state, failures, crashes, losses, done, outcomes, as, backoff, lone, deaths, suspects, diedOn,
			solo, avoid)
	}
	e.queueAttempts(t)
	e.tally.queue(t)
	return nil
}

// endAll ends all that was locked the same way and for the same reason.
func (e *ending) endAll(how func(b *held) (job.EndKind, string)) {
	for _, id := range e.order {
		b := e.held[id]
		kind, message := how(b)
		e.end(b, job.End{Kind: kind, Message: message, From: b.DoneItems}, nil, nil)
	}
}

// timeOf returns the zero time for a null.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
