package storetest

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *model) workerActions() []action {
	return []action{
		{"register", 3, nil, m.start},
		{"deregister", 1, nil, m.deregister},
		{"open stream", 3, nil, m.openStream},
		{"break stream", 3, func() bool { return len(m.served()) > 0 }, m.breakStream},
		{"claim", 16, nil, m.claimSome},
		{"process dies", 4, func() bool { return len(m.running(nil)) > 0 }, m.perish},
		{"drain worker", 1, nil, m.drain},
		{"excuse stream", 1, func() bool { return slices.ContainsFunc(m.sessions, func(s *knownSession) bool { return s.broken }) }, m.excuse},
		{"touch sessions", 1, nil, m.touchAll},
		{"read payload", 1, m.granted, m.readFrame},
	}
}

// process draws a session: often one that lives, otherwise any, most of which have ended without knowing.
func (m *model) process(t *rapid.T) *knownSession {
	if live := slices.DeleteFunc(slices.Clone(m.sessions), func(s *knownSession) bool { return s.over || s.dead }); len(live) > 0 && dice(t, 4, "over") > 0 {
		return pick(t, live, "session")
	}
	return pick(t, m.sessions, "session")
}

// granted tells whether anything was.
func (m *model) granted() bool { return len(m.grants) > 0 }

// start registers one of few workers: it may be that its earlier process goes on, and acts, without knowing.
func (m *model) start(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	m.startThis(c, m.worker(dice(t, workersAtMost, "worker")))
}

// workersAtMost is how many workers there are.
const workersAtMost = 3

func (m *model) worker(n int) string { return fmt.Sprintf("worker-%d-%d", m.run, n) }

func (m *model) startThis(c *coordinator, worker string) *knownSession {
	var want []store.Ended
	x := m.endings(c)
	condemned := false // what was said of the process before holds for the next one
	for _, s := range m.sessions {
		if s.worker == worker && !s.over {
			condemned = condemned || s.condemned
			want = append(want, m.endSession(x, s, job.End{Kind: job.EndDied, Message: store.ReplacedMessage})...)
		}
	}
	id, got, err := c.RegisterSession(c.ctx, session(worker))
	m.must(err)
	s := &knownSession{id: id, worker: worker, beatAt: m.tick(), drained: condemned, condemned: condemned}
	m.sessions = append(m.sessions, s)
	m.ended(c, "ended with the earlier session", got, want)
	return s
}

func (m *model) deregister(t *rapid.T) {
	c, s := pick(t, m.coordinators, "coordinator"), m.process(t)
	m.send(t, c, func() {
		var want []store.Ended
		if !s.over {
			want = m.endSession(m.endings(c), s, job.End{Kind: job.EndReleased, Message: store.DeregisteredMessage})
		}
		got, err := c.EndSession(c.ctx, s.id, "bye")
		m.must(err)
		m.ended(c, "ended with the session", got, want)
	})
}

func (m *model) openStream(t *rapid.T) {
	c, s := pick(t, m.coordinators, "coordinator"), m.process(t)
	m.send(t, c, func() { m.openThis(c, s) })
}

func (m *model) openThis(c *coordinator, s *knownSession) {
	epoch, err := c.OpenStream(c.ctx, s.id)
	if s.over {
		m.wantError("open a stream of a session that ended", err, store.ErrSessionEnded)
		return
	}
	m.must(err)
	s.epoch++
	s.beatAt = m.tick()
	m.forgive(s)
	if epoch != s.epoch {
		m.Fatalf("stream %d was opened, want %d", epoch, s.epoch)
	}
	c.serves[s] = epoch
}

// forgive takes back that the newest stream of a session is broken.
func (m *model) forgive(s *knownSession) {
	s.broken = false
	for _, b := range m.running(s) {
		b.deserted = false
	}
}

// heartbeats is a stream of a session that a coordinator reads, or believes that it does.
type heartbeats struct {
	by *coordinator
	of *knownSession
}

func (m *model) served() []heartbeats {
	var list []heartbeats
	for _, c := range m.coordinators {
		for _, s := range m.sessions {
			if c.serves[s] > 0 {
				list = append(list, heartbeats{c, s})
			}
		}
	}
	return list
}

// breakStream is a coordinator's noticing that the worker's side closed a stream, be it long after the worker opened
// the next one elsewhere.
func (m *model) breakStream(t *rapid.T) {
	stream := pick(t, m.served(), "stream")
	grace := pick(t, []time.Duration{brief, long / 2}, "grace")
	m.breakThis(t, stream, grace)
}

func (m *model) breakThis(t *rapid.T, stream heartbeats, grace time.Duration) {
	c, s, epoch := stream.by, stream.of, stream.by.serves[stream.of]
	delete(c.serves, s)
	m.send(t, c, func() {
		m.must(c.BreakStream(c.ctx, s.id, epoch, grace))
		c.ledger.Shorten(s.id, grace)
		if s.over || s.epoch != epoch {
			return
		}
		s.broken, s.brokenAt = true, m.tick()
		for _, b := range m.running(s) {
			m.touch(b, touched{lease: true})
			b.deserted = true
			b.expired = b.expired || grace == brief
		}
		m.elapse(grace)
	})
}

// perish has a process die that holds something: its worker starts again, or its stream breaks, and the reaper comes.
func (m *model) perish(t *rapid.T) {
	c, s := pick(t, m.coordinators, "coordinator"), pick(t, m.running(nil), "batch").session
	if dice(t, 2, "again") == 0 {
		m.startThis(c, s.worker)
		return
	}
	i := slices.IndexFunc(m.served(), func(x heartbeats) bool { return x.of == s && x.by.serves[s] == s.epoch })
	if i < 0 {
		m.openThis(c, s)
		i = slices.Index(m.served(), heartbeats{c, s})
	}
	m.breakThis(t, m.served()[i], brief)
	m.reapThese(c, nil, 1+dice(t, 3, "limit"))
}

// drain asks a worker's session that lives to take no more.
func (m *model) drain(t *rapid.T) {
	c, worker := pick(t, m.coordinators, "coordinator"), m.process(t).worker
	m.send(t, c, func() {
		got, err := c.DrainSession(c.ctx, worker)
		i := slices.IndexFunc(m.sessions, func(s *knownSession) bool { return s.worker == worker && !s.over })
		if i < 0 {
			m.wantError("drain a worker that is not there", err, store.ErrNotFound)
			return
		}
		m.must(err)
		s := m.sessions[i]
		s.drained = true
		if got.ID != s.id || got.DrainedAt.IsZero() {
			m.Errorf("session %d of %s was drained at %v, want %d", got.ID, worker, got.DrainedAt, s.id)
		}
	})
}

// excuse takes back that a stream broke, when it is the newest.
func (m *model) excuse(t *rapid.T) {
	c, s := pick(t, m.coordinators, "coordinator"), pick(t, m.sessions, "session")
	epoch := s.epoch
	m.send(t, c, func() {
		m.must(c.ExcuseStreams(c.ctx, []store.Stream{{SessionID: s.id, Epoch: epoch}}))
		if !s.over && s.epoch == epoch {
			m.forgive(s)
		}
	})
}

// touchAll notes that all processes beat, as they do that do not know that they were replaced, and learns who is drained.
func (m *model) touchAll(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	m.send(t, c, func() {
		m.touchThese(c)
	})
}

// touchThese does so.
func (m *model) touchThese(c *coordinator) {
	var all, want []int64
	for _, s := range m.sessions {
		if s.dead {
			continue
		}
		all = append(all, s.id)
		if s.drained && !s.over {
			want = append(want, s.id)
		}
		s.beatAt = m.tick()
	}
	got, err := c.TouchSessions(c.ctx, all)
	m.must(err)
	slices.Sort(got)
	m.equal("sessions that are drained", got, want)
}

func (m *model) session(id int64) *knownSession {
	i := slices.IndexFunc(m.sessions, func(s *knownSession) bool { return s.id == id })
	return m.sessions[i]
}

func (m *model) known(id int64) *knownJob {
	i := slices.IndexFunc(m.jobs, func(j *knownJob) bool { return j.id == id })
	return m.jobs[i]
}

// readFrame reads a payload under a lease that may be over.
func (m *model) readFrame(t *rapid.T) {
	c, g := pick(t, m.coordinators, "coordinator"), pick(t, m.grants, "grant")
	b := m.batches[g.BatchID]
	frame, err := c.Frame(c.ctx, g.Lease)
	if !b.holds(g.Lease) {
		m.wantError("payload of a lease that is over", err, store.ErrNotFound)
		return
	}
	m.must(err)
	m.equal("a payload", frame, b.cut.Frame)
}
