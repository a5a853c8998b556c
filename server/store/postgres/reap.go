package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// lockExpired locks those of the given batches whose leases have expired.
const lockExpired = `
SELECT ` + heldColumns + `
FROM batches b
WHERE b.id = ANY ($1::bigint[]) AND b.session_id IS NOT NULL AND b.lease_expires_at <= (SELECT clock_timestamp())
ORDER BY b.id
LIMIT $2
FOR UPDATE SKIP LOCKED`

// lockAllExpired does the same among all running batches, which are found by the small index of these. The condition is
// repeated where the rows are locked.
const lockAllExpired = `
WITH expired AS MATERIALIZED (
    SELECT r.id FROM batches r WHERE r.session_id IS NOT NULL AND r.lease_expires_at <= (SELECT clock_timestamp())
)
SELECT ` + heldColumns + `
FROM batches b
WHERE b.id = ANY (ARRAY(SELECT id FROM expired ORDER BY id LIMIT $1))
  AND b.session_id IS NOT NULL AND b.lease_expires_at <= (SELECT clock_timestamp())
ORDER BY b.id
FOR UPDATE SKIP LOCKED`

// peers are the sessions that live, by id.
type peers map[int64]job.Peer

const selectPeers = `
SELECT id, greatest(clock_timestamp() - registered_at, interval '0'), greatest(clock_timestamp() - beat_at, interval '0')
FROM sessions WHERE ended_at IS NULL`

// peers reads the sessions that live when there is a silent one whose leases have run out.
func (e *ending) peers(ctx context.Context, t *tx) (peers, error) {
	silent := false
	for _, b := range e.held {
		silent = silent || !e.holder[b.SessionID].died(b)
	}
	if !silent {
		return nil, nil
	}
	list := peers{}
	each(t.queue(selectPeers), func(row pgx.Rows) error {
		var (
			id int64
			p  job.Peer
		)
		err := row.Scan(&id, &p.Age, &p.Silent)
		list[id] = p
		return err
	})
	return list, t.send(ctx)
}

// without returns the sessions but one.
func (p peers) without(session int64) []job.Peer {
	others := make([]job.Peer, 0, len(p))
	for id, other := range p {
		if id != session {
			others = append(others, other)
		}
	}
	return others
}

const selectPast = `
SELECT a.batch_id, a.ended_as, a.session_id, coalesce((SELECT s.beat_at <= a.ended_at FROM sessions s WHERE s.id = a.session_id), false)
FROM unnest($1::bigint[]) AS w(id)
CROSS JOIN LATERAL (
    SELECT p.batch_id, p.attempt, p.ended_as, p.session_id, p.ended_at
    FROM attempts p WHERE p.batch_id = w.id ORDER BY p.attempt DESC LIMIT 20
) a
ORDER BY a.batch_id, a.attempt DESC`

// earlier reads the last attempts at those batches that were lost so often that a row of losses may count as a death.
func (e *ending) earlier(ctx context.Context, t *tx) (map[int64][]job.Past, error) {
	var batches []int64
	for id, b := range e.held {
		if b.Losses >= 2 && !e.holder[b.SessionID].died(b) {
			batches = append(batches, id)
		}
	}
	if len(batches) == 0 {
		return nil, nil
	}
	past := map[int64][]job.Past{}
	each(t.queue(selectPast, batches), func(row pgx.Rows) error {
		var (
			id int64
			p  job.Past
		)
		err := row.Scan(&id, &p.Kind, &p.SessionID, &p.Gone)
		past[id] = append(past[id], p)
		return err
	})
	return past, t.send(ctx)
}

// Reap implements store.Leases.
func (s *Store) Reap(ctx context.Context, batches []int64, limit int) (store.Reaped, error) {
	var (
		now   time.Time
		ended []store.Ended
	)
	err := s.write(ctx, "end expired leases", func(ctx context.Context, t *tx) error {
		e := ending{tally: new(tally), choosy: &s.choosy, deaths: true}
		ended = nil
		t.queue(selectNow).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
		switch {
		case batches == nil:
			e.lock(t, lockAllExpired, limit)
		case len(batches) > 0:
			e.lock(t, lockExpired, batches, limit)
		}
		if err := e.prepare(ctx, t); err != nil {
			return err
		}
		if len(e.order) == 0 {
			return errNothing
		}
		peers, err := e.peers(ctx, t)
		if err != nil {
			return err
		}
		past, err := e.earlier(ctx, t)
		if err != nil {
			return err
		}
		e.endAll(func(b *held) (job.EndKind, string) {
			h := e.holder[b.SessionID]
			if h.died(b) {
				return job.EndDied, store.BrokenMessage
			}
			kind := b.Silence(h.silent, peers.without(b.SessionID))
			switch {
			case kind == job.EndDied:
				return kind, store.SilentMessage
			case job.Vanished(b.SessionID, past[b.ID]):
				return job.EndDied, store.VanishedMessage
			}
			return kind, store.LostMessage
		})
		if err := e.finish(ctx, t); err != nil {
			return err
		}
		ended = e.ended
		return nil
	})
	if err != nil {
		return store.Reaped{}, err
	}
	return store.Reaped{Ended: ended, Now: now}, nil
}
