package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// selectHalted serves the answers to beats and is read from the small index of open jobs.
const selectHalted = `SELECT id, state FROM jobs WHERE state IN ('paused', 'cancelling')`

// halted reads which jobs want their batches back, and why, with what is queued.
func halted(t *tx) map[int64]job.State {
	states := map[int64]job.State{}
	each(t.queue(selectHalted), func(row pgx.Rows) error {
		var (
			id    int64
			state job.State
		)
		err := row.Scan(&id, &state)
		states[id] = state
		return err
	})
	return states
}

// renewLeases renews what nobody else has locked, and says of each lease whether it is renewed and whether it was live.
// IS NOT DISTINCT FROM is = here, except that it cannot be searched for: rows are found by their id and nothing else.
const renewLeases = `
WITH free AS MATERIALIZED (
    SELECT b.id
    FROM batches b
    JOIN unnest($1::bigint[], $2::integer[], $3::bigint[]) AS w(id, attempt, session_id)
        ON b.id = w.id AND b.attempt = w.attempt AND b.session_id IS NOT DISTINCT FROM w.session_id
    WHERE b.id = ANY ($1::bigint[])
    ORDER BY b.id
    FOR UPDATE OF b SKIP LOCKED
), renewed AS (
    UPDATE batches b
    SET lease_expires_at = clock_timestamp() + $4::interval, beats = b.beats + 1,
        waiting = (b.id, b.attempt) IN (SELECT x.id, x.attempt FROM unnest($5::bigint[], $6::integer[]) AS x(id, attempt))
    WHERE b.id = ANY (ARRAY(SELECT id FROM free))
    RETURNING b.id, b.job_id, b.done_items
)
SELECT w.n, r.id IS NOT NULL, b.id IS NOT NULL, coalesce(r.job_id, b.job_id, 0), coalesce(r.done_items, b.done_items, 0)
FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) WITH ORDINALITY AS w(id, attempt, session_id, n)
LEFT JOIN (SELECT id, job_id, attempt, session_id, done_items FROM batches WHERE id = ANY ($1::bigint[])) b
    ON b.id = w.id AND b.attempt = w.attempt AND b.session_id IS NOT DISTINCT FROM w.session_id
LEFT JOIN renewed r ON r.id = b.id`

// Beat implements store.Leases.
func (s *Store) Beat(ctx context.Context, lease time.Duration, beats []store.Beat) ([]store.BeatAnswer, []int, error) {
	answers := make([]store.BeatAnswer, len(beats))
	var renewals, reports, skipped []int
	for i, b := range beats {
		if len(b.Outcomes) == 0 {
			renewals = append(renewals, i)
		} else {
			reports = append(reports, i)
		}
	}
	// A renewal that came after a report of the same lease must tell what that one made final.
	for _, step := range []struct {
		of  []int
		run func(context.Context, time.Duration, []store.Beat, []int, []store.BeatAnswer) ([]int, error)
	}{{reports, s.report}, {renewals, s.renew}} {
		if len(step.of) == 0 {
			continue
		}
		skip, err := step.run(ctx, lease, beats, step.of, answers)
		if err != nil {
			return nil, nil, err
		}
		skipped = append(skipped, skip...)
	}
	slices.Sort(skipped)
	return answers, skipped, nil
}

// leaseArrays is a list of leases as arrays, in the order of their batches' ids.
type leaseArrays struct {
	batches  []int64
	attempts []int32
	sessions []int64
}

func newLeases(leases []job.Lease) leaseArrays {
	a := leaseArrays{make([]int64, len(leases)), make([]int32, len(leases)), make([]int64, len(leases))}
	for i, l := range leases {
		a.batches[i], a.attempts[i], a.sessions[i] = l.BatchID, l.Attempt, l.SessionID
	}
	return a
}

func leasesOf(beats []store.Beat, of []int) leaseArrays {
	leases := make([]job.Lease, len(of))
	for k, i := range of {
		leases[k] = beats[i].Lease
	}
	return newLeases(leases)
}

// waitingOf returns the leases of which the last of some beats says that their handlers have not begun: reports of outcomes
// are made before renewals, whatever came first, and say that they have.
func waitingOf(beats []store.Beat) leaseArrays {
	last := map[job.Lease]int{}
	for i := range beats {
		last[beats[i].Lease] = i
	}
	var leases []job.Lease
	for i := range beats {
		if b := &beats[i]; last[b.Lease] == i && b.Waiting && len(b.Outcomes) == 0 {
			leases = append(leases, b.Lease)
		}
	}
	return newLeases(leases)
}

// renew renews the leases of the beats with these indexes. It does not wait for the disk: what a crash of the database
// loses of it is a fraction of a second of a lease.
func (s *Store) renew(ctx context.Context, lease time.Duration, beats []store.Beat, of []int, answers []store.BeatAnswer) ([]int, error) {
	a := leasesOf(beats, of)
	waiting := waitingOf(beats)
	var (
		skipped []int
		states  map[int64]job.State
	)
	err := s.write(ctx, "renew leases", func(_ context.Context, t *tx) error {
		skipped = nil
		t.queue(`SET LOCAL synchronous_commit = off`)
		states = halted(t)
		each(t.queue(renewLeases, a.batches, a.attempts, a.sessions, lease, waiting.batches, waiting.attempts), func(row pgx.Rows) error {
			var (
				n             int
				renewed, live bool
				answer        store.BeatAnswer
			)
			err := row.Scan(&n, &renewed, &live, &answer.JobID, &answer.Acknowledged)
			answer.Lost = !live
			if live && !renewed {
				skipped = append(skipped, of[n-1])
			}
			answers[of[n-1]] = answer
			return err
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	markHalted(answers, of, states)
	return skipped, nil
}

func markHalted(answers []store.BeatAnswer, of []int, states map[int64]job.State) {
	for _, i := range of {
		if a := &answers[i]; !a.Lost {
			a.Cancelled, a.Paused = states[a.JobID] == job.Cancelling, states[a.JobID] == job.Paused
		}
	}
}

// lockReported locks the batches of reports, unless somebody else has, and says of each whether it has the lock.
const lockReported = `
WITH free AS MATERIALIZED (
    SELECT b.id, b.job_id, b.attempt, b.session_id, b.item_count, b.done_items
    FROM batches b
    WHERE b.id = ANY ($1::bigint[])
    ORDER BY b.id
    FOR UPDATE SKIP LOCKED
)
SELECT b.id, f.id IS NOT NULL, coalesce(f.job_id, b.job_id), b.first_item, coalesce(f.attempt, b.attempt),
       coalesce(CASE WHEN f.id IS NULL THEN b.session_id ELSE f.session_id END, 0),
       coalesce(f.item_count, b.item_count), coalesce(f.done_items, b.done_items)
FROM batches b LEFT JOIN free f ON f.id = b.id
WHERE b.id = ANY ($1::bigint[])`

const updateReported = `
UPDATE batches b
SET lease_expires_at = clock_timestamp() + $4::interval, done_items = w.done_items, outcomes = b.outcomes || w.outcomes,
    beats = b.beats + 1, waiting = false
FROM unnest($1::bigint[], $2::integer[], $3::bytea[]) AS w(id, done_items, outcomes)
WHERE b.id = w.id AND b.id = ANY ($1::bigint[])`

// report records the outcomes of the beats with these indexes and renews their leases.
func (s *Store) report(ctx context.Context, lease time.Duration, beats []store.Beat, of []int, answers []store.BeatAnswer) ([]int, error) {
	a := leasesOf(beats, of)
	var (
		skipped []int
		states  map[int64]job.State
	)
	err := s.write(ctx, "record outcomes", func(ctx context.Context, t *tx) error {
		skipped = nil
		rows := map[int64]*reported{}
		states = halted(t)
		each(t.queue(lockReported, a.batches), func(row pgx.Rows) error {
			r := new(reported)
			err := row.Scan(&r.lease.BatchID, &r.locked, &r.jobID, &r.first, &r.lease.Attempt, &r.lease.SessionID, &r.items, &r.done)
			rows[r.lease.BatchID] = r
			return err
		})
		if err := t.send(ctx); err != nil {
			return err
		}
		var y tally
		for _, i := range of {
			r := rows[beats[i].BatchID]
			switch {
			case r == nil || r.lease != beats[i].Lease:
				answers[i] = store.BeatAnswer{Lost: true}
			case !r.locked:
				answers[i] = store.BeatAnswer{JobID: r.jobID, Acknowledged: r.done}
				skipped = append(skipped, i)
			default:
				r.apply(beats[i], &y)
				answers[i] = store.BeatAnswer{JobID: r.jobID, Acknowledged: r.done}
			}
		}
		var (
			batches  []int64
			done     []int32
			outcomes [][]byte
		)
		for id, r := range rows {
			if r.named {
				batches = append(batches, id)
				done = append(done, r.done)
				outcomes = append(outcomes, r.outcomes)
			}
		}
		if len(batches) == 0 {
			return errNothing
		}
		t.queue(updateReported, batches, done, outcomes, lease)
		y.queue(t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	markHalted(answers, of, states)
	return skipped, nil
}

// reported is a batch about which outcomes are reported.
type reported struct {
	lease    job.Lease
	jobID    int64
	first    int64 // item
	items    int32
	done     int32
	locked   bool // by this transaction
	named    bool // by a beat that holds the lease
	outcomes []byte
}

// apply records what a beat adds. One that leaves a gap, or passes the end, adds nothing, but renews: the answer tells
// where to go on.
func (r *reported) apply(b store.Beat, y *tally) {
	r.named = true
	if r.outcomes == nil {
		r.outcomes = []byte{}
	}
	runs, ok := advance(b.From, b.Outcomes, r.done, r.items)
	if !ok || len(runs) == 0 {
		return
	}
	n := job.Items(runs)
	d := y.of(r.jobID)
	d.Done(r.lease.BatchID, r.first, r.done, runs)
	d.ItemsInFlight -= int64(n)
	recordFindings(y, b.Findings, r.lease.BatchID, r.jobID, r.done, r.done+n)
	recordResults(y, b.Results, r.lease.BatchID, r.jobID, r.first, r.done, r.done+n)
	r.done += n
	r.outcomes = job.AppendRuns(r.outcomes, runs)
}

// advance returns what of the outcomes reported from an item on comes after the done ones, and whether they fit: without
// a gap before them and not past the batch's items.
func advance(from int32, outcomes []job.Run, done, items int32) ([]job.Run, bool) {
	if from < 0 || from > done || int64(from)+int64(job.Items(outcomes)) > int64(items) {
		return nil, false
	}
	return job.SkipItems(outcomes, done-from), true
}

// recordFindings records those of findings whose item's outcome is made final now: the others were recorded with it
// before, or will be.
func recordFindings(y *tally, findings []store.Finding, batchID, jobID int64, from, to int32) {
	for _, f := range findings {
		if f.Position >= from && f.Position < to {
			f.BatchID, f.JobID = batchID, jobID
			y.finding(f)
		}
	}
}
