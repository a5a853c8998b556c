package storetest

import (
	"math/bits"
	"slices"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// poison is what kills workers in a sequence in which nothing else does: some items do, each time and wherever they are
// handled. Every one of them must be named, nobody else, and the rest stored.
type poison struct {
	every, from int64 // of the items' numbers
	way         string
	bad         string // the worker on which everything dies, and that is no item's fault; else empty
}

// Ways to die.
const (
	knownItem   = "a child, and its item is known"
	wholeBatch  = "a child, nobody knows at which item"
	wholeWorker = "the worker with all that it has begun with"
	badWorker   = "whatever one worker handles"
)

func drawPoison(t *rapid.T) *poison {
	p := &poison{
		every: pick(t, []int64{1, 2, 4, 7, 7, 13, 1000}, "every"), way: pick(t, []string{knownItem, wholeBatch, wholeWorker, wholeWorker, badWorker, badWorker}, "way"),
	}
	p.from = int64(dice(t, int(p.every), "from"))
	return p
}

func (p *poison) kills(item int64) bool { return p.way != badWorker && item%p.every == p.from }

// poisonActions are what may happen where only items kill: no process ends with what it holds, nor is one believed to.
func (m *model) poisonActions() []action {
	busy := func() bool { return len(m.worked()) > 0 }
	return []action{
		{"upload", 1, func() bool { return len(m.jobs) < 2 }, m.upload},
		{"ingest", 8, func() bool { return len(m.streams) > 0 }, m.ingest},
		{"register", 3, nil, m.startIdle},
		{"claim", 16, nil, m.claimSome},
		{"handle", 14, busy, func(t *rapid.T) { m.handle(t, pick(t, m.coordinators, "coordinator"), pick(t, m.worked(), "batch")) }},
		{"wait", 4, busy, m.waitOne},
		{"give back", 2, busy, m.giveBack},
		{"coordinator dies", 1, nil, m.die},
		{"reap all", 4, nil, m.reapAll},
		{"reap due", 4, nil, m.reapDue},
		{"fold", 6, nil, m.foldSome},
		{"touch sessions", 1, nil, m.touchAll},
		{"pause or resume job", 1, nil, m.pauseOne},
		{"offer to all workers again", 4, func() bool { return len(m.shunnedOnes()) > 0 }, m.unshunOne},
		{"judge workers", 6, func() bool { return m.poison.way == badWorker }, m.judgeWorkers},
		{"wait for a session that holds nothing", 3, func() bool { return len(m.soloOnes()) > 0 }, m.waitSolo},
	}
}

// worked returns the batches that processes hold which live.
func (m *model) worked() []*knownBatch {
	return slices.DeleteFunc(m.running(nil), func(b *knownBatch) bool { return b.session.dead })
}

// startIdle starts a worker that is dead, or that holds nothing.
func (m *model) startIdle(t *rapid.T) {
	worker := m.worker(dice(t, workersAtMost, "worker"))
	for _, s := range m.sessions {
		if s.worker == worker && (worker == m.poison.bad || !s.dead && len(m.running(s)) > 0) {
			return
		}
	}
	c := pick(t, m.coordinators, "coordinator")
	m.openThis(c, m.startThis(c, worker))
}

// handle has a process go on with a batch: to its end, or to the first item that kills it, or to some item before.
func (m *model) handle(t *rapid.T, c *coordinator, b *knownBatch) {
	at := b.done()
	for at < b.cut.Items && !m.poison.kills(b.cut.FirstItem+int64(at)) {
		at++
	}
	if b.session.worker == m.poison.bad {
		m.dieOnBad(t, c, b)
		return
	}
	whole := m.poison.way == wholeBatch // nothing is durable before all is
	if n := at - b.done(); n > 0 && !whole && dice(t, 4, "partly") == 0 {
		m.beatThese(c, long, []store.Beat{{Lease: b.lease(), From: b.done(), Outcomes: stored(1 + int32(dice(t, int(n), "items")))}})
		return
	}
	g := b.grant(false)
	if at == b.cut.Items {
		end := ended(g, job.EndCompleted)
		if at > g.DoneItems {
			end.Outcomes = stored(at - g.DoneItems)
		}
		m.settleThese(c, []store.Settlement{end})
		return
	}
	switch m.poison.way {
	case knownItem:
		m.settleThese(c, []store.Settlement{died(g, at, at+1, "SIGSEGV")})
	case wholeBatch:
		m.settleThese(c, []store.Settlement{died(g, 0, 0, "SIGKILL")})
	case wholeWorker:
		beat := store.Beat{Lease: g.Lease, From: b.done()}
		if at > b.done() {
			beat.Outcomes = stored(at - b.done())
		}
		m.beatThese(c, long, []store.Beat{beat})
		s := b.session
		s.dead = true
		for _, stream := range m.served() {
			if stream.of == s {
				m.breakThis(t, stream, brief)
			}
		}
	}
}

// waitOne has a worker say of a batch that it has not begun with it, if that is so.
func (m *model) waitOne(t *rapid.T) {
	c, b := pick(t, m.coordinators, "coordinator"), pick(t, m.worked(), "batch")
	if b.beats == 0 || b.waiting {
		m.beatThese(c, long, []store.Beat{{Lease: b.lease(), From: b.done(), Waiting: true}})
	}
}

func (m *model) giveBack(t *rapid.T) {
	c, b := pick(t, m.coordinators, "coordinator"), pick(t, m.worked(), "batch")
	m.settleThese(c, []store.Settlement{ended(b.grant(false), job.EndReleased)})
}

// isolate goes on until all jobs have ended by themselves, and makes sure that they did so as they must: each item that
// kills is named, all others are stored, and no more died for it than had to.
func (m *model) isolate(t *rapid.T, c *coordinator) {
	for _, j := range m.jobs {
		m.finishUpload(c, j)
		if j.state == job.Paused {
			m.pauseThis(c, j, false)
		}
	}
	over := func(j *knownJob) bool { return j.state.Ended() }
	for round := 0; ; round++ {
		for _, j := range m.jobs {
			m.foldJob(c, j)
		}
		m.check(t)
		if !slices.ContainsFunc(m.jobs, func(j *knownJob) bool { return !over(j) }) {
			break
		}
		if round == 2000 {
			m.Fatalf("after %d rounds jobs have not ended", round)
		}
		m.reapThese(c, nil, 1+round%3)
		if m.poison.way == badWorker {
			m.judgeWorkers(t)
		}
		// Workers in turns, so that one that lives is not waited for without being asked.
		worker := m.worker(round % workersAtMost)
		live := slices.IndexFunc(m.sessions, func(s *knownSession) bool { return s.worker == worker && s.takes() && !s.dead })
		if live < 0 && worker == m.poison.bad && slices.ContainsFunc(m.sessions, func(s *knownSession) bool { return s.worker == worker }) {
			for _, drained := range m.sessions { // it takes nothing more, and brings what it holds to an end
				if drained.worker != worker || drained.over || drained.dead {
					continue
				}
				for _, b := range m.running(drained) {
					m.handle(t, c, b)
				}
			}
			continue
		}
		if live < 0 {
			live = len(m.sessions)
			m.openThis(c, m.startThis(c, worker))
		}
		for _, b := range m.shunnedOnes() {
			m.unshun(b)
		}
		m.check(t)
		var turns []store.Turn
		for _, j := range m.jobs {
			turns = append(turns, store.Turn{JobID: j.id, Most: 2, JobLimit: int(j.header.Policy.MaxRunning)})
		}
		m.claimThese(c, long, []store.ClaimRequest{request(m.sessions[live].id, m.name("request"), 3)}, turns)
		m.check(t)
		for _, b := range m.running(m.sessions[live]) {
			// When it asks again it may hold something, and then not everything is for it.
			if !b.session.dead && dice(t, 2, "now") == 0 {
				m.handle(t, c, b)
			}
		}
	}
	for _, j := range m.jobs {
		m.checkCulprits(j)
	}
}

// finishUpload ends an upload that was not.
func (m *model) finishUpload(c *coordinator, j *knownJob) {
	if j.up.Finished || j.state.Stopping() {
		return
	}
	up, err := c.OpenUpload(c.ctx, j.header)
	m.must(err)
	j.up.Epoch++
	g := cut(up)
	g.Finished = true
	m.commitGroup(&uploadStream{by: c, job: j, epoch: up.Epoch, at: up.Position}, g)
}

func (m *model) checkCulprits(j *knownJob) {
	guilty := map[*knownBatch]int{}
	for _, b := range j.batches {
		if b.state == job.BatchSplit {
			continue
		}
		for i, o := range b.outcomes {
			item, want := b.cut.FirstItem+int64(i), job.Stored
			if m.poison.kills(item) {
				want = job.ItemCrashed
				guilty[b.root()]++
			}
			if o != want {
				m.Errorf("item %d of job %d ended as %v, want %v", item, j.id, o, want)
			}
		}
	}
	for _, b := range j.batches {
		if b.parent != nil {
			continue
		}
		each := bits.Len(uint(b.cut.Items-1)) + 3
		if m.poison.way == knownItem {
			each = 2
		}
		if most := guilty[b] * each; b.deaths > most {
			m.Errorf("batch %d of %d items died %d times, %d items kill, and %d deaths are enough", b.id, b.cut.Items, b.deaths, guilty[b], most)
		}
	}
}
