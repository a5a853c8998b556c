package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// claimSome asks for batches.
func (m *model) claimSome(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	requests, turns := m.drawClaim(t, c)
	lease := m.lasts(t, "lease")
	m.send(t, c, func() { m.claimThese(c, lease, requests, turns) })
}

// drawClaim draws who asks for batches, sometimes several callers together, under new request ids or ones of before, and
// whose turn it is.
func (m *model) drawClaim(t *rapid.T, c *coordinator) (requests []store.ClaimRequest, turns []store.Turn) {
	for range 1 + dice(t, 2, "requests") {
		if len(m.requests) > 0 && dice(t, 5, "repeated") == 0 {
			if r := pick(t, m.requests, "request"); !m.session(r.SessionID).dead {
				requests = append(requests, r)
				continue
			}
		}
		s := m.process(t)
		r := request(s.id, m.name("request"), dice(t, 5, "most"))
		requests = append(requests, r)
		m.requests = append(m.requests, r)
	}
	for _, j := range m.jobs {
		turns = append(turns, m.turn(j, c.floors[j.id], dice(t, 4, "most of a turn")))
	}
	if len(turns) > 1 && rapid.Bool().Draw(t, "other way round") {
		slices.Reverse(turns)
	}
	alone(turns)
	return requests, turns
}

func (m *model) claimThese(c *coordinator, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn) {
	m.freshen()
	want := m.deal(c, requests, turns)
	got, err := c.Claim(c.ctx, lease, requests, turns)
	m.must(err)
	m.claimedThese(c, lease, requests, got, want)
}

// claimedThese compares what a claim got with what it must get, which was taken already.
func (m *model) claimedThese(c *coordinator, lease time.Duration, requests []store.ClaimRequest, got store.Claimed, want dealt) {
	for i, r := range requests {
		var refused error
		if s := m.session(r.SessionID); s.over {
			refused = store.ErrSessionEnded
		} else if s.drained && len(want.grants[i]) == 0 {
			refused = store.ErrSessionDrained
		}
		if !errors.Is(got.Errs[i], refused) {
			m.Fatalf("claim for session %d: %v, want %v", r.SessionID, got.Errs[i], refused)
		}
		for k, g := range got.Grants[i] {
			if g.Remaining < 0 || g.Remaining > long || !g.Repeated && g.Remaining != lease {
				m.Fatalf("granted for %v, asked for %v: %+v", g.Remaining, lease, g)
			}
			if root := m.batches[g.BatchID].root(); g.Frame != nil && !bytes.Equal(g.Frame, root.cut.Frame) {
				m.Fatalf("the payload that came with %+v is not that of batch %d", g, root.id)
			}
			got.Grants[i][k].Remaining, got.Grants[i][k].Frame = 0, nil
		}
	}
	m.equal("grants", got.Grants, want.grants)
	for id, took := range got.Took {
		// An engine may say it of all turns, and when somebody else might have them.
		if took.Choosy && !want.choosy || !took.Choosy && want.left[id] {
			m.Fatalf("job %d has choosy batches: %v; left over: %v, of any job: %v", id, took.Choosy, want.left[id], want.choosy)
		}
		took.Choosy = false
		got.Took[id] = took
	}
	m.equal("what the turns gave", got.Took, want.took)
	for _, list := range got.Grants {
		for _, g := range list {
			b := m.batches[g.BatchID]
			if !g.Repeated {
				m.touch(b, touched{lease: true})
				b.expired = lease == brief
				m.grants = append(m.grants, g)
			}
			remaining := long
			if b.expired {
				remaining = 0
			}
			c.ledger.Hold(g.Lease, g.JobID, remaining)
		}
	}
	for id, t := range got.Took {
		if t.Fresh > 0 {
			c.floors[id] = max(c.floors[id], t.Last+1)
		}
	}
	m.elapse(lease)
}

// dealt is what a claim must give.
type dealt struct {
	grants [][]store.Grant // by request
	took   map[int64]store.Took
	left   map[int64]bool // turns whose choosy batches none of the sessions may have, though they ask for more
	choosy bool           // some are pending
}

// deal says what a claim must give, and takes it.
func (m *model) deal(c *coordinator, requests []store.ClaimRequest, turns []store.Turn) dealt {
	type key struct {
		session int64
		id      string
	}
	x := dealt{make([][]store.Grant, len(requests)), map[int64]store.Took{}, map[int64]bool{}, m.anyChoosy(turns)}
	first := map[key]int{}
	var open []int // requests that may get something
	for i, r := range requests {
		k, s := key{r.SessionID, r.RequestID}, m.session(r.SessionID)
		if _, again := first[k]; again {
			continue
		}
		first[k] = i
		held := m.running(s)
		for _, b := range held {
			if b.request == r.RequestID {
				x.grants[i] = append(x.grants[i], b.grant(true))
			}
		}
		alone := slices.ContainsFunc(held, func(b *knownBatch) bool { return b.Solo })
		if len(x.grants[i]) == 0 && r.Max > 0 && s.takes() && !alone {
			open = append(open, i)
		}
	}
	for _, turn := range turns {
		if turn.Most > 0 {
			x.took[turn.JobID] = store.Took{}
		}
	}
	if m.cluster.Looks || c.choosy {
		m.dealRest(&x, requests, turns, m.dealChoosy(&x, requests, turns, open))
	} else if n := m.dealRest(&x, requests, turns, open); n == 0 && x.choosy {
		m.dealRest(&x, requests, turns, m.dealChoosy(&x, requests, turns, open))
	}
	c.choosy = m.anyChoosy(turns)
	for i, r := range requests {
		if f := first[key{r.SessionID, r.RequestID}]; f != i {
			for _, g := range x.grants[f] {
				g.Repeated = true
				x.grants[i] = append(x.grants[i], g)
			}
		}
	}
	return x
}

// anyChoosy tells whether jobs have choosy batches that are pending.
func (m *model) anyChoosy(turns []store.Turn) bool {
	return slices.ContainsFunc(turns, func(t store.Turn) bool {
		return slices.ContainsFunc(m.known(t.JobID).batches, func(b *knownBatch) bool {
			return b.state == job.BatchPending && b.returned && b.choosy()
		})
	})
}

// claimant is a session that asks for batches.
type claimant struct {
	*knownSession
	held, room int
}

func (m *model) claimant(s *knownSession) *claimant {
	return &claimant{knownSession: s, held: len(m.running(s))}
}

// dealChoosy gives batches that not every session may have, each to the first that may, and returns the requests that may
// get others: those that got none, of sessions that did not get a solo one, and without the session that is to be left
// with nothing, so that a solo batch gets it at last.
func (m *model) dealChoosy(x *dealt, requests []store.ClaimRequest, turns []store.Turn, open []int) []int {
	var askers []*claimant
	for _, i := range open {
		s := m.session(requests[i].SessionID)
		k := slices.IndexFunc(askers, func(c *claimant) bool { return c.knownSession == s })
		if k < 0 {
			k = len(askers)
			askers = append(askers, m.claimant(s))
		}
		askers[k].room += requests[i].Max
	}
	var left []*knownBatch
	some := false
	for _, turn := range turns {
		list := m.available(turn, true)
		some = some || len(list) > 0
		allowed, _ := m.room(turn)
		for _, b := range list[:min(len(list), allowed)] {
			k := slices.IndexFunc(askers, func(c *claimant) bool {
				return c.room > 0 && (!b.Solo || c.held == 0) && (!b.avoided || c.worker != b.DiedOn)
			})
			if k < 0 {
				left = append(left, b)
				x.left[turn.JobID] = len(open) > 0
				continue
			}
			c := askers[k]
			for _, i := range open {
				if requests[i].SessionID == c.id && len(x.grants[i]) < requests[i].Max {
					m.give(x, b, requests[i], i)
					break
				}
			}
			c.held++
			if c.room--; b.Solo {
				c.room = 0
			}
		}
	}
	if !some {
		return open
	}
	kept := m.kept(left)
	return slices.DeleteFunc(open, func(i int) bool {
		s := m.session(requests[i].SessionID)
		return len(x.grants[i]) > 0 || s == kept ||
			slices.ContainsFunc(askers, func(c *claimant) bool { return c.knownSession == s && c.room == 0 })
	})
}

// kept returns the session that is to take nothing more: of those that hold something and may have a solo batch that has
// waited, the one that holds least.
func (m *model) kept(left []*knownBatch) *knownSession {
	for _, b := range left {
		if !b.Solo || !b.waited {
			continue
		}
		var best *claimant
		for _, s := range m.sessions {
			if !s.takes() || s.broken || b.avoided && s.worker == b.DiedOn {
				continue
			}
			if c := m.claimant(s); c.held > 0 && (best == nil || c.held < best.held) {
				best = c
			}
		}
		if best != nil {
			return best.knownSession
		}
	}
	return nil
}

// dealRest gives what every session may have, in turns over the requests, and returns how many batches it gave.
func (m *model) dealRest(x *dealt, requests []store.ClaimRequest, turns []store.Turn, open []int) int {
	var slots []int // requests, in the order of dealing, once for each batch that they may get
	for round := range 4 {
		for _, i := range open {
			if round < requests[i].Max {
				slots = append(slots, i)
			}
		}
	}
	n := 0
	for _, turn := range turns {
		if turn.Most == 0 {
			continue
		}
		turn.Most -= x.took[turn.JobID].Batches
		allowed, full := m.room(turn)
		returned, fresh := m.available(turn, false), m.fresh(turn)
		given := slices.Concat(returned, fresh)
		given = given[:min(len(given), allowed, len(slots)-n)]
		for _, b := range given {
			m.give(x, b, requests[slots[n]], slots[n])
			n++
		}
		t := x.took[turn.JobID]
		t.Held, t.Full = turn.Most-allowed, full(len(given))
		if t.Fresh = max(len(given)-len(returned), 0); t.Fresh > 0 {
			t.Last = given[len(given)-1].ordinal
		}
		x.took[turn.JobID] = t
	}
	return n
}

// give grants a batch.
func (m *model) give(x *dealt, b *knownBatch, r store.ClaimRequest, i int) {
	b.state, b.session, b.request = job.BatchRunning, m.session(r.SessionID), r.RequestID
	b.attempt++
	b.returned, b.shunned, b.avoided, b.waited, b.waiting, b.beats, b.job.dirty = false, false, false, false, false, 0, true
	x.grants[i] = append(x.grants[i], b.grant(false))
	t := x.took[b.job.id]
	t.Batches++
	x.took[b.job.id] = t
}

// available returns the batches of a turn's job that came back and may be claimed, those first that are longest available:
// the choosy ones, or the others.
func (m *model) available(turn store.Turn, choosy bool) []*knownBatch {
	j := m.known(turn.JobID)
	if j.state != job.Running || turn.Most == 0 {
		return nil
	}
	var list []*knownBatch
	for _, b := range j.batches {
		if b.state == job.BatchPending && b.returned && !b.backedOff && b.choosy() == choosy {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(x, y *knownBatch) int {
		return cmp.Or(x.row.AvailableAt.Compare(y.row.AvailableAt), cmp.Compare(x.id, y.id))
	})
	return list
}

// fresh returns the batches of a turn's job that nobody has claimed, from the floor on.
func (m *model) fresh(turn store.Turn) []*knownBatch {
	j := m.known(turn.JobID)
	if j.state != job.Running {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(j.batches), func(b *knownBatch) bool {
		return b.state != job.BatchPending || b.returned || b.ordinal < turn.Floor
	})
}

func (b *knownBatch) grant(repeated bool) store.Grant {
	g := store.Grant{
		Lease: b.lease(), JobID: b.job.id, Ordinal: b.ordinal, FirstItem: b.cut.FirstItem, ItemCount: b.cut.Items,
		DoneItems: b.done(), Repeated: repeated, Solo: b.Solo,
	}
	for p := b.parent; p != nil; p = p.parent {
		g.Ancestors = append(g.Ancestors, p.id)
	}
	return g
}
