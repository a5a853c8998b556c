package sqlite

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// The two kinds of returned batches, in the words of their indexes.
const (
	returnedBatches = "state = 0 AND available_at IS NOT NULL AND solo = 0 AND avoid_until IS NULL"
	choosyBatches   = "state = 0 AND available_at IS NOT NULL AND (solo <> 0 OR avoid_until IS NOT NULL)"
)

// choosyAtOnce bounds the choosy batches that one claim group looks at, of each job.
const choosyAtOnce = 64

// choosy grants the batches of turns that not every session may have, and takes from the open requests those of sessions
// that get nothing else.
func (c *claim) choosy(turns []store.Turn) error {
	if len(c.open) == 0 {
		return nil
	}
	if err := c.leaveOut(func(session int64) (bool, error) {
		busy := false
		err := each(c, func(scanner) error { busy = true; return nil },
			"SELECT 1 FROM batches WHERE session_id = ? AND session_id IS NOT NULL AND solo <> 0 LIMIT 1", session)
		return busy, err
	}); err != nil {
		return fmt.Errorf("look for solo batches: %w", err)
	}
	var askers []store.Claimant
	var waiting []store.Choosy
	kinds := map[string]bool{}
	for _, turn := range turns {
		found, err := c.findChoosy(turn)
		if err != nil {
			return fmt.Errorf("look for choosy batches of job %d: %w", turn.JobID, err)
		}
		if len(found) == 0 {
			continue
		}
		if askers == nil {
			if askers, err = c.askers(); err != nil {
				return err
			}
		}
		took := c.claimed.Took[turn.JobID]
		rest, given, err := c.match(found[:min(len(found), c.rooms.Allowed(turn))], askers)
		if err != nil {
			return err
		}
		c.rooms.Take(turn, given)
		took.Batches += given
		if took.Choosy = len(rest) > 0; took.Choosy {
			kinds[c.jobs[turn.JobID].kind] = true
			waiting = append(waiting, rest...)
		}
		c.claimed.Took[turn.JobID] = took
	}
	return c.settleOpen(askers, waiting, kinds)
}

// findChoosy returns the choosy batches that are available, of a turn that may give some.
func (c *claim) findChoosy(turn store.Turn) ([]store.Choosy, error) {
	if turn.Most <= 0 {
		return nil, nil
	}
	list, err := collect(c, func(row scanner) (b store.Choosy, err error) {
		var available int64
		var avoided bool
		b.Grant, err = scanCandidate(scan(func(dest ...any) error {
			return row.Scan(append(dest, &b.Avoid, &avoided, &available)...)
		}))
		if b.Solo = b.Grant.Solo; !avoided {
			b.Avoid = ""
		}
		b.Waited = c.since(available)
		return b, err
	}, "SELECT "+candidateColumns+`, b.died_on, coalesce(b.avoid_until > ?1, 0), b.available_at FROM batches b
		WHERE b.job_id = ?2 AND `+choosyBatches+` AND b.available_at <= ?1 ORDER BY b.available_at, b.id LIMIT ?3`,
		micros(c.now), turn.JobID, choosyAtOnce)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	rules, err := c.rules(turn.JobID)
	if rules.state != job.Running {
		return nil, err
	}
	return list, err
}

// askers returns the sessions of the open requests, each once, with what they hold and ask for.
func (c *claim) askers() ([]store.Claimant, error) {
	var list []store.Claimant
	for _, i := range c.open {
		r := &c.requests[i]
		if k := slices.IndexFunc(list, func(a store.Claimant) bool { return a.Session == r.SessionID }); k >= 0 {
			list[k].Room += r.Max
			continue
		}
		a := store.Claimant{Session: r.SessionID, Room: r.Max}
		err := each(c, func(row scanner) error { return row.Scan(&a.Worker, &a.Held) },
			`SELECT s.worker_id, (SELECT count(*) FROM batches b WHERE b.session_id = s.id AND b.session_id IS NOT NULL)
			FROM sessions s WHERE s.id = ?`, r.SessionID)
		if err != nil {
			return nil, fmt.Errorf("read session %d: %w", r.SessionID, err)
		}
		list = append(list, a)
	}
	return list, nil
}

// match gives batches to the sessions that may have them. It returns those that are left, and how many were given.
func (c *claim) match(batches []store.Choosy, askers []store.Claimant) (rest []store.Choosy, given int, err error) {
	for i, to := range store.Match(batches, askers) {
		if to < 0 {
			rest = append(rest, batches[i])
			continue
		}
		request := slices.IndexFunc(c.open, func(r int) bool {
			return c.requests[r].SessionID == askers[to].Session && len(c.claimed.Grants[r]) < c.requests[r].Max
		})
		if err := c.give(batches[i].Grant, c.open[request]); err != nil {
			return nil, 0, err
		}
		given++
	}
	return rest, given, nil
}

// settleOpen leaves open those requests that may still get other batches.
func (c *claim) settleOpen(askers []store.Claimant, waiting []store.Choosy, kinds map[string]bool) error {
	if askers == nil {
		return nil
	}
	keep := int64(0)
	if slices.ContainsFunc(waiting, func(b store.Choosy) bool { return b.Solo }) {
		live, err := collect(c, func(row scanner) (a store.Claimant, err error) {
			var served []byte
			if err := row.Scan(&a.Session, &a.Worker, &served, &a.Held); err != nil {
				return a, err
			}
			var list []string
			err = json.Unmarshal(served, &list)
			if !slices.ContainsFunc(list, func(k string) bool { return kinds[k] }) {
				a.Held = 0
			}
			return a, err
		}, `SELECT s.id, s.worker_id, s.kinds, (SELECT count(*) FROM batches b WHERE b.session_id = s.id AND b.session_id IS NOT NULL)
			FROM sessions s WHERE s.ended_at IS NULL AND s.drained_at IS NULL AND s.broken_at IS NULL`)
		if err != nil {
			return fmt.Errorf("read sessions: %w", err)
		}
		keep = store.Keep(waiting, live)
	}
	// A request that got one is answered with that.
	c.open = slices.DeleteFunc(c.open, func(i int) bool { return len(c.claimed.Grants[i]) > 0 })
	return c.leaveOut(func(session int64) (bool, error) {
		k := slices.IndexFunc(askers, func(a store.Claimant) bool { return a.Session == session })
		return session == keep || askers[k].Room == 0, nil
	})
}

// leaveOut closes the open requests of sessions that may get nothing more, and those that have all they asked for.
func (c *claim) leaveOut(out func(session int64) (bool, error)) error {
	open := c.open
	c.open, c.wanted, c.next = nil, 0, 0
	for _, i := range open {
		r := &c.requests[i]
		not, err := out(r.SessionID)
		if err != nil {
			return err
		}
		if left := r.Max - len(c.claimed.Grants[i]); !not && left > 0 {
			c.open = append(c.open, i)
			c.wanted += left
		}
	}
	return nil
}
