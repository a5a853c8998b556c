package storetest

import (
	"cmp"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// coordinator is what one coordinator remembers. It learns from its own calls only, so that the one which did nothing
// for a while acts on what is no longer so, as one that was frozen does.
type coordinator struct {
	*fixture
	ledger *dispatch.Ledger
	floors map[int64]int32         // of fresh batches, by job
	serves map[*knownSession]int64 // heartbeat streams, by number
	choosy bool                    // its store has seen batches that not every session may have
}

// forget is what happens to a coordinator that was killed: it shortens nothing and tells nobody.
func (c *coordinator) forget() {
	c.ledger = dispatch.NewLedger()
	c.floors, c.serves = map[int64]int32{}, map[*knownSession]int64{}
}

func (m *model) coordinatorActions() []action {
	return []action{
		{"coordinator dies", 1, nil, m.die},
		{"late call arrives", 8, func() bool { return len(m.late) > 0 }, m.deliver},
		{"reap all", 3, nil, m.reapAll},
		{"reap due", 6, nil, m.reapDue},
		{"sweep", 2, nil, m.sweepOne},
		{"fold", 8, nil, m.foldSome},
		{"end silent sessions", 1, nil, m.endSilent},
	}
}

func (m *model) die(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	c.forget()
	if m.cluster.Reopen != nil {
		handle, err := m.cluster.Reopen(slices.Index(m.coordinators, c))
		m.must(err)
		c.Store, c.choosy = handle, false
	}
	m.late = slices.DeleteFunc(m.late, func(l call) bool { return l.by == c })
	m.streams = slices.DeleteFunc(m.streams, func(s *uploadStream) bool { return s.by == c })
}

func (m *model) deliver(t *rapid.T) {
	i := dice(t, len(m.late), "call")
	run := m.late[i].run
	m.late = slices.Delete(m.late, i, i+1)
	run()
}

func (m *model) reapAll(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	limit := 1 + dice(t, 4, "limit")
	m.send(t, c, func() { m.reapThese(c, nil, limit) })
}

// reapDue ends leases that the coordinator believes should have ended, now or when that is no longer so.
func (m *model) reapDue(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	due, _ := c.ledger.Due(1000, time.Nanosecond)
	slices.Sort(due)
	m.send(t, c, func() { m.reapThese(c, due, 1000) })
}

func (m *model) reapThese(c *coordinator, batches []int64, limit int) {
	before := m.now()
	got, err := c.Reap(c.ctx, batches, limit)
	m.must(err)
	if got.Now.Before(before) {
		m.Errorf("the reaper's clock says %v after %v", got.Now, before)
	}
	// Whether most other sessions kept beating, or one was heard of since, is a matter of milliseconds here, so that the store
	// is believed.
	accused := map[job.Lease]string{}
	for _, e := range got.Ended {
		if e.Message == store.SilentMessage || e.Message == store.VanishedMessage {
			accused[e.Lease] = e.Message
		}
	}
	var want []store.Ended
	x := m.endings(c)
	for _, b := range m.running(nil) {
		if len(want) == limit || !b.expired || batches != nil && !slices.Contains(batches, b.id) {
			continue
		}
		end := job.End{Kind: job.EndLost, Message: store.LostMessage}
		if b.deserted {
			end = job.End{Kind: job.EndDied, Message: store.BrokenMessage}
		} else if message := accused[b.lease()]; message != "" {
			if b.losses < 2 {
				m.Errorf("batch %d is accused after %d losses", b.id, b.losses)
			}
			end = job.End{Kind: job.EndDied, Message: message}
		}
		want = append(want, m.end(x, b, end, nil, nil))
	}
	m.ended(c, "reaped", got.Ended, want)
}

// ended compares attempts that were ended, and has the coordinator forget them.
func (m *model) ended(c *coordinator, what string, got, want []store.Ended) {
	m.Helper()
	byBatch := func(x, y store.Ended) int {
		return cmp.Or(cmp.Compare(x.BatchID, y.BatchID), cmp.Compare(x.Attempt, y.Attempt))
	}
	got, want = slices.SortedFunc(slices.Values(got), byBatch), slices.SortedFunc(slices.Values(want), byBatch)
	// Batches of sequences that failed before are not this one's.
	got = slices.DeleteFunc(got, func(e store.Ended) bool { return m.batches[e.BatchID] == nil })
	m.equal(what, got, want)
	for _, e := range got {
		c.ledger.Drop(e.Lease)
	}
	m.adoptParts(c)
	m.backOff()
}

func (m *model) endSilent(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	silent := pick(t, []time.Duration{long, long, 0}, "silent")
	m.send(t, c, func() {
		var want []store.Ended
		x := m.endings(c)
		for _, s := range m.sessions {
			if !s.over && silent == 0 {
				want = append(want, m.endSession(x, s, job.End{Kind: job.EndLost, Message: store.LostMessage})...)
			}
		}
		got, err := c.EndSilentSessions(c.ctx, silent)
		m.must(err)
		m.ended(c, "ended with silent sessions", got, want)
	})
}

// endSession ends a session with all that it holds.
func (m *model) endSession(x *endings, s *knownSession, e job.End) []store.Ended {
	s.over = true
	var list []store.Ended
	for _, b := range m.running(s) {
		list = append(list, m.end(x, b, e, nil, nil))
	}
	return list
}
