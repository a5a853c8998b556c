package sqlite

import (
	"encoding/json"
	"fmt"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// death says what is known of the death of the process that handled a batch.
func (g *group) death(h *held, end *job.End, rules jobRules, session *sessionCounts) (job.Death, error) {
	d := job.Death{Worker: session.workerID, Drained: session.condemned, Splits: rules.splits + g.delta(h.JobID).Batches[job.BatchSplit]}
	workers, err := g.colleagues()
	if err != nil {
		return d, err
	}
	d.Others = store.Others(workers, session.workerID, rules.kind)
	if end.Crash != nil {
		d.Suspect = end.Crash.Suspect
		return d, nil
	}
	shared, err := g.sharing(h.SessionID)
	d.Process, d.Shared = true, shared > 1
	return d, err
}

// sharing counts what a session holds and has begun with, and what ended since it was last heard of, or its stream broke,
// because it died or fell silent: not what a worker that lived reported. It does so once, before this transaction ends any
// of it.
func (g *group) sharing(session int64) (n int, err error) {
	if n, known := g.shared[session]; known {
		return n, nil
	}
	err = each(g, func(row scanner) error { return row.Scan(&n) }, `SELECT
			(SELECT count(*) FROM batches WHERE session_id = ?1 AND waiting = 0)
			+ (SELECT count(*) FROM attempts a JOIN sessions s ON s.id = a.session_id
				WHERE a.session_id = ?1 AND a.ended_at >= coalesce(min(s.broken_at, s.beat_at), s.beat_at)
					AND (a.ended_as = 'died' AND a.signal IS NULL OR a.ended_as = 'lost'))`,
		session)
	if err != nil {
		return 0, fmt.Errorf("count batches of session %d: %w", session, err)
	}
	g.shared[session] = n
	return n, nil
}

// colleagues returns the workers that live and take batches.
func (t *tx) colleagues() ([]store.Colleague, error) {
	list, err := collect(t, func(row scanner) (w store.Colleague, err error) {
		var kinds []byte
		var beat int64
		if err := row.Scan(&w.ID, &kinds, &beat); err != nil {
			return w, err
		}
		w.Silent = t.since(beat)
		return w, json.Unmarshal(kinds, &w.Kinds)
	}, `SELECT worker_id, kinds, beat_at FROM sessions WHERE ended_at IS NULL AND drained_at IS NULL AND broken_at IS NULL`)
	if err != nil {
		return nil, fmt.Errorf("read other workers: %w", err)
	}
	return list, nil
}

// itemsFor returns the items of a batch whose end names one of them or splits it, nil otherwise. If they cannot be read,
// the decision becomes one that does without.
func (g *group) itemsFor(h *held, d *job.Decision) (items []payload.Item, err error) {
	if d.State != job.BatchSplit && d.Undone != job.ItemCrashed {
		return nil, nil
	}
	var frame []byte
	if err := each(g, func(row scanner) error { return row.Scan(&frame) },
		"SELECT frame FROM batch_payloads WHERE batch_id = ?", h.root()); err != nil {
		return nil, fmt.Errorf("read payload of batch %d: %w", h.ID, err)
	}
	items, err = store.Items(frame, &h.Batch)
	if err != nil {
		d.Unreadable(err)
		return nil, nil
	}
	return items, nil
}

// isolate adds the parts of a batch that is split, and names the culprit.
func (g *group) isolate(h *held, end *job.End, d *job.Decision, items []payload.Item) error {
	if d.State == job.BatchCrashed {
		return g.finding(store.Culprit(&items[d.Suspect-1], h.JobID, h.ID, end))
	}
	rules, err := g.rules(h.JobID)
	if err != nil {
		return err
	}
	delta := g.delta(h.JobID)
	for _, p := range store.Cut(items, h.Weight, h.Outcomes, d.Parts) {
		documents, err := json.Marshal(append([]string{}, p.Documents...))
		if err != nil {
			return fmt.Errorf("encode documents: %w", err)
		}
		var available, settled, run, session, as, claimed any
		if p.State == job.BatchCrashed {
			run, session, as = rules.run, h.SessionID, job.EndDied
		}
		if p.State == job.BatchPending {
			available = micros(g.now)
		} else { // in the attempt that ended
			claimed, settled = h.claimed, micros(g.now)
		}
		id, err := g.insert(`INSERT INTO batches (job_id, root_id, parent_id, ordinal, first_item, item_count, weight, state,
				crashes, done_items, outcomes, settled_at, available_at, documents, lone_deaths, suspect, died_on, solo, ended_run,
				ended_session, ended_as, claimed_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			h.JobID, h.root(), h.ID, h.Ordinal, p.FirstItem, p.Items, p.Weight, p.State, d.PartCrashes(p.Part), job.Items(p.Outcomes),
			blob(job.AppendRuns(nil, p.Outcomes)), settled, available, string(documents), p.LoneDeaths, p.Suspect, p.DiedOn, p.Solo, run, session, as, claimed)
		if err != nil {
			return fmt.Errorf("add part of batch %d: %w", h.ID, err)
		}
		delta.Batches[p.State]++
		if p.State != job.BatchCrashed {
			continue
		}
		delta.Done(id, p.FirstItem, 0, p.Outcomes)
		if err := g.finding(store.Culprit(&items[p.First], h.JobID, id, end)); err != nil {
			return err
		}
	}
	return nil
}
