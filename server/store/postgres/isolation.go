package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const selectColleagues = `
SELECT worker_id, kinds, greatest(clock_timestamp() - beat_at, interval '0')
FROM sessions WHERE ended_at IS NULL AND drained_at IS NULL AND broken_at IS NULL`

// selectShared counts what sessions hold and have begun with, and what ended since they were last heard of, or their streams
// broke, because they died or fell silent: not what a worker that lived reported.
const selectShared = `
SELECT s.id,
       (SELECT count(*) FROM batches b WHERE b.session_id = s.id AND NOT b.waiting)
       + (SELECT count(*) FROM attempts a
          WHERE a.session_id = s.id AND a.ended_at >= least(s.broken_at, s.beat_at)
            AND (a.ended_as = 'died' AND a.signal IS NULL OR a.ended_as = 'lost'))
FROM sessions s WHERE s.id = ANY ($1::bigint[])`

// readDeaths queues the reading of what the deaths of processes are judged by.
func (e *ending) readDeaths(t *tx, sessions []int64) {
	e.shared = map[int64]int{}
	readColleagues(t, &e.colleagues)
	each(t.queue(selectShared, sessions), func(row pgx.Rows) error {
		var (
			id int64
			n  int
		)
		err := row.Scan(&id, &n)
		e.shared[id] = n
		return err
	})
}

// readColleagues queues the reading of the workers that live and take batches.
func readColleagues(t *tx, list *[]store.Colleague) {
	*list = nil
	each(t.queue(selectColleagues), func(row pgx.Rows) error {
		var c store.Colleague
		err := row.Scan(&c.ID, &c.Kinds, &c.Silent)
		*list = append(*list, c)
		return err
	})
}

// death says what is known of the death of the process that handled b.
func (e *ending) death(b *held, end *job.End, r rule) job.Death {
	holder := e.holder[b.SessionID]
	d := job.Death{
		Worker: holder.worker, Drained: holder.condemned, Others: store.Others(e.colleagues, holder.worker, r.kind), Splits: r.splits,
	}
	for _, x := range e.deferred {
		if x.JobID == b.JobID && x.decision.State == job.BatchSplit {
			d.Splits++
		}
	}
	if end.Crash != nil {
		d.Suspect = end.Crash.Suspect
		return d
	}
	d.Process, d.Shared = true, e.shared[b.SessionID] > 1
	return d
}

const selectFrames = `SELECT batch_id, frame FROM batch_payloads WHERE batch_id = ANY ($1::bigint[])`

const insertPart = `
INSERT INTO batches (job_id, root_id, parent_id, ordinal, first_item, item_count, weight, state, crashes, done_items, outcomes,
                     settled_at, available_at, documents, lone_deaths, suspect, died_on, solo, ended_run,
                     ended_session, ended_as, claimed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::smallint, $9, $10, $11,
        CASE WHEN $8::smallint > 1 THEN clock_timestamp() END, CASE WHEN $8::smallint = 0 THEN clock_timestamp() END, $12, $13, $14, $15, $16,
        CASE WHEN $8::smallint = 4 THEN (SELECT j.run FROM jobs j WHERE j.id = $1) END,
        CASE WHEN $8::smallint = 4 THEN $17::bigint END, CASE WHEN $8::smallint = 4 THEN 'died' END,
        CASE WHEN $8::smallint > 1 THEN $18::timestamptz END) -- in the attempt that ended
RETURNING id`

// isolate applies the ends that need the items of their batches: adds the parts of batches that are split, and names
// culprits. It reads one payload at a time.
func (e *ending) isolate(ctx context.Context, t *tx) error {
	for _, x := range e.deferred {
		var frame []byte
		each(t.queue(selectFrames, []int64{x.root()}), func(row pgx.Rows) error {
			var id int64
			return row.Scan(&id, &frame)
		})
		if err := t.send(ctx); err != nil {
			return err
		}
		items, err := store.Items(frame, &x.Batch)
		if err != nil {
			x.decision.Unreadable(err)
			e.apply(x)
			continue
		}
		culprit := x.decision.Suspect
		e.apply(x)
		if x.State == job.BatchCrashed {
			e.finding(store.Culprit(&items[culprit-1], x.JobID, x.ID, &x.end))
			continue
		}
		if err := e.addParts(ctx, t, x, items); err != nil {
			return err
		}
	}
	e.deferred = nil
	return nil
}

func (e *ending) addParts(ctx context.Context, t *tx, x *outcome, items []payload.Item) error {
	parts := store.Cut(items, x.Weight, x.Outcomes, x.decision.Parts)
	ids := make([]int64, len(parts))
	if slices.ContainsFunc(parts, func(p store.NewPart) bool { return p.State == job.BatchCrashed }) {
		t.queue(shareEnds, retryLock, []int64{x.JobID})
	}
	for i, p := range parts {
		documents := append([]string{}, p.Documents...)
		t.queue(insertPart, x.JobID, x.root(), x.ID, x.Ordinal, p.FirstItem, p.Items, p.Weight, int16(p.State),
			x.decision.PartCrashes(p.Part), job.Items(p.Outcomes), job.AppendRuns([]byte{}, p.Outcomes), documents, p.LoneDeaths,
			p.Suspect, p.DiedOn, p.Solo, x.endedSession, x.ClaimedAt).QueryRow(func(row pgx.Row) error { return row.Scan(&ids[i]) })
	}
	if err := t.send(ctx); err != nil {
		return err
	}
	d := e.of(x.JobID)
	for i, p := range parts {
		d.Batches[p.State]++
		if p.Solo {
			e.choosy.Store(true)
		}
		if p.State == job.BatchCrashed {
			d.Done(ids[i], p.FirstItem, 0, p.Outcomes)
			e.finding(store.Culprit(&items[p.First], x.JobID, ids[i], &x.end))
		}
	}
	return nil
}
