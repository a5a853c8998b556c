package sqlite

import (
	"context"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// endedQuery finds jobs that ended in one state at least so long ago, from behind a place on.
const endedQuery = "SELECT " + jobColumns + ` FROM jobs
	WHERE state = ?1 AND ended_at IS NOT NULL AND deleted_at IS NULL AND ended_at <= ?2 AND (ended_at, id) > (?3, ?4)
	ORDER BY ended_at, id LIMIT ?5`

// ended returns jobs that have ended, the one that ended first at the front.
func ended(q querier, f store.EndedFilter, now time.Time, page store.EndedPage) ([]job.Job, error) {
	size := max(page.Size, 1)
	after := int64(-1) // before every time that is kept
	if !page.EndedAt.IsZero() {
		after = page.EndedAt.UnixMicro()
	}
	var all []job.Job
	for _, state := range f.Ends() {
		list, err := collect(q, scanJob, endedQuery, state, micros(now.Add(-f.Age)), after, page.ID, size)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	store.SortEnded(all)
	return all[:min(len(all), size)], nil
}

// EndedJobs implements store.Retention.
func (s *Store) EndedJobs(ctx context.Context, f store.EndedFilter, page store.EndedPage) (list []job.Job, err error) {
	err = s.read(ctx, func(q *snapshot) (err error) {
		list, err = ended(q, f, time.Now(), page)
		return err
	})
	return list, wrap("list ended jobs", err)
}

// DeleteEndedJobs implements store.Retention.
func (s *Store) DeleteEndedJobs(ctx context.Context, f store.EndedFilter, limit int) (list []job.Job, err error) {
	// Mostly there are none, which is seen without disturbing who writes.
	if list, err = s.EndedJobs(ctx, f, store.EndedPage{Size: 1}); err != nil || len(list) == 0 {
		return nil, err
	}
	err = s.write(ctx, keeping, func(t *tx) (err error) {
		if list, err = ended(t, f, t.now, store.EndedPage{Size: limit}); err != nil {
			return err
		}
		for i := range list {
			if err := t.hide(list[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, wrap("delete ended jobs", err)
	}
	return list, nil
}

// ForgetSessions implements store.Retention.
func (s *Store) ForgetSessions(ctx context.Context, age time.Duration, limit int) (n int, err error) {
	const old = `SELECT s.id FROM sessions s WHERE s.ended_at IS NOT NULL AND s.ended_at <= ?1
		AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.session_id = s.id AND b.session_id IS NOT NULL)
		ORDER BY s.ended_at LIMIT ?2`
	var ids []int64
	err = s.read(ctx, func(q *snapshot) (err error) {
		ids, err = collect(q, number, old, micros(time.Now().Add(-age)), max(limit, 1))
		return err
	})
	if err == nil && len(ids) > 0 {
		err = s.write(ctx, keeping, func(t *tx) (err error) {
			n = 0
			if ids, err = collect(t, number, old, micros(t.now.Add(-age)), max(limit, 1)); err != nil {
				return err
			}
			for _, id := range ids {
				if err := t.only("DELETE FROM sessions WHERE id = ?", id); err != nil {
					return err
				}
				n++
			}
			return nil
		})
	}
	if err != nil {
		return 0, wrap("forget ended sessions", err)
	}
	return n, nil
}
