package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// shortestBackoff is less than the first one that package job gives.
const shortestBackoff = 400 * time.Millisecond

// touch notes that this step may have changed times of a batch.
func (m *model) touch(b *knownBatch, t touched) {
	was := m.touched[b]
	m.touched[b] = touched{was.lease || t.lease, was.settled || t.settled}
}

// check compares all rows with the model, as the coordinators see them in turns.
func (m *model) check(*rapid.T) {
	m.steps++
	c := m.coordinators[m.steps%len(m.coordinators)]
	for _, j := range m.jobs {
		if j.deleted {
			_, err := c.GetJob(c.ctx, j.id)
			m.wantError("look at a deleted job", err, store.ErrNotFound)
			continue
		}
		m.look(j, c.job(j.id))
		rows := m.rows(c.fixture, j)
		for i, row := range rows {
			m.lookBatch(c, j.batches[i], row)
		}
		m.checkParts(rows)
		m.checkStates(c, j.id, rows)
		m.lookResults(c, j)
	}
	clear(m.touched)
	m.checkRunning()
	for _, c := range m.coordinators {
		m.checkFloors(c)
	}
	if len(m.sessions) > 0 {
		m.lookSession(c, m.sessions[m.steps%len(m.sessions)])
	}
}

// lookBatch compares a batch's row. What no step touched is exactly as it was; of what one did only the times are the
// store's to say.
func (m *model) lookBatch(c *coordinator, b *knownBatch, got store.BatchRow) {
	m.Helper()
	if b.row.ID == 0 {
		b.row = got
		// A part that ended with the split did so in the attempt before it.
		ended := b.parent != nil && got.State != job.BatchPending
		if got.ClaimedAt.IsZero() == ended || b.parent == nil && !got.AvailableAt.IsZero() {
			m.Errorf("the times of a new batch are not its own: %+v", got)
		}
	}
	want := store.BatchRow{
		Batch: job.Batch{
			ID: b.id, JobID: b.job.id, Ordinal: b.ordinal, FirstItem: b.cut.FirstItem, ItemCount: b.cut.Items,
			DoneItems: b.done(), Weight: b.cut.Weight, State: b.state, Attempt: b.attempt, Failures: b.failures,
			Crashes: b.crashes, Losses: b.losses, Outcomes: join(b.outcomes), Suspicion: b.Suspicion, Beats: b.beats,
			LeaseExpiresAt: b.row.LeaseExpiresAt, ClaimedAt: b.row.ClaimedAt, SettledAt: b.row.SettledAt, AvailableAt: b.row.AvailableAt,
		},
		Documents: b.cut.Documents[:min(len(b.cut.Documents), 10)], Total: len(b.cut.Documents),
	}
	if b.parent != nil {
		want.ParentID, want.RootID = b.parent.id, b.root().id
	}
	if b.parent != nil && len(b.named) > 0 && len(b.ends) == 0 {
		// Named as its batch was split: it shows how that one ended.
		last := b.parent.ends[len(b.parent.ends)-1]
		if want.WorkerID = last.worker; b.state == job.BatchCrashed {
			want.Error = last.message
		}
	}
	if n := len(b.ends); n > 0 {
		want.WorkerID = b.ends[n-1].worker
		if b.ends[n-1].kind != job.EndCompleted {
			want.Error = b.ends[n-1].message
		}
	}
	if b.session != nil {
		want.SessionID, want.WorkerID = b.session.id, b.session.worker
	}
	touched, isTouched := m.touched[b]
	if isTouched {
		want.LeaseExpiresAt = got.LeaseExpiresAt
		if got.Attempt > b.row.Attempt {
			want.ClaimedAt = got.ClaimedAt
		}
		want.SettledAt, want.AvailableAt = got.SettledAt, got.AvailableAt
		m.checkTimes(b, got)
	}
	m.equal(fmt.Sprintf("batch %d", b.id), got, want)
	b.row = got
	if touched.settled {
		m.lookAttempts(c, b)
	}
}

// checkTimes judges the times of a batch by its state.
func (m *model) checkTimes(b *knownBatch, got store.BatchRow) {
	m.Helper()
	now := m.now()
	if running := b.state == job.BatchRunning; running == got.LeaseExpiresAt.IsZero() {
		m.Errorf("batch %d is %v and its lease ends at %v", b.id, b.state, got.LeaseExpiresAt)
	} else if running && b.expired != got.LeaseExpiresAt.Before(now) {
		m.Errorf("batch %d: its lease ends at %v, now is %v, want it expired: %v", b.id, got.LeaseExpiresAt, now, b.expired)
	} else if running && got.LeaseExpiresAt.After(now.Add(long)) {
		m.Errorf("batch %d: its lease ends at %v, now is %v", b.id, got.LeaseExpiresAt, now)
	}
	if b.state.Ended() == got.SettledAt.IsZero() || got.SettledAt.After(now) {
		m.Errorf("batch %d is %v and settled at %v", b.id, b.state, got.SettledAt)
	}
	if b.returned == got.AvailableAt.IsZero() || b.returned && b.backedOff != got.AvailableAt.After(now) {
		m.Errorf("batch %d is %v and available at %v, now is %v", b.id, b.state, got.AvailableAt, now)
	}
}

// lookAttempts compares the history of a batch: what it said before it says for ever.
func (m *model) lookAttempts(c *coordinator, b *knownBatch) {
	m.Helper()
	got := c.attempts(b.id)
	var want []store.Attempt
	for _, e := range b.ends {
		if e.kind == job.EndCompleted {
			continue
		}
		a := store.Attempt{
			BatchID: b.id, Attempt: e.lease.Attempt, SessionID: e.lease.SessionID, WorkerID: e.worker, Kind: e.kind,
			Message: e.message, State: e.state, Beats: e.beats, Decision: e.decision, Crash: e.crash,
		}
		switch n := len(want); {
		case n < len(b.attempts):
			a.ClaimedAt, a.EndedAt = b.attempts[n].ClaimedAt, b.attempts[n].EndedAt
		case n < len(got):
			a.ClaimedAt, a.EndedAt = got[n].ClaimedAt, got[n].EndedAt
			if a.EndedAt.Before(a.ClaimedAt) {
				m.Errorf("attempt %d of batch %d ended at %v, before it began at %v", a.Attempt, b.id, a.EndedAt, a.ClaimedAt)
			}
		}
		want = append(want, a)
	}
	m.equal(fmt.Sprintf("attempts at batch %d", b.id), got, want)
	b.attempts = got
}

// checkFloors makes sure that no coordinator overlooks a batch that nobody has claimed.
func (m *model) checkFloors(c *coordinator) {
	for _, j := range m.alive() {
		for _, b := range j.batches {
			if b.state == job.BatchPending && !b.returned && b.ordinal < c.floors[j.id] {
				m.Errorf("batch %d of job %d, which nobody has claimed, lies before the floor %d", b.ordinal, j.id, c.floors[j.id])
			}
		}
	}
}

func (m *model) lookSession(c *coordinator, s *knownSession) {
	m.Helper()
	got, err := c.GetSession(c.ctx, s.id)
	if s.over {
		m.wantError("look at a session that ended", err, store.ErrSessionEnded)
		return
	}
	m.must(err)
	if got.DrainedAt.IsZero() == s.drained {
		m.Errorf("session %d is drained: %v, and it says at %v", s.id, s.drained, got.DrainedAt)
	}
	if want := int64(len(m.running(s))); got.WorkerID != s.worker || got.Running != want {
		m.Errorf("session %d of %s holds %d leases, want %d of %s", s.id, got.WorkerID, got.Running, want, s.worker)
	}
}

// finish brings every job of the run to its end, by completing what can be claimed or by stopping it, and has calls
// arrive that were made when all was different.
func (m *model) finish(t *rapid.T) {
	c := m.coordinators[0]
	m.check(t)
	m.finishing = true
	if m.poison != nil {
		m.isolate(t, c)
	}
	for range 2 {
		m.start(t)
		m.check(t)
		last := m.sessions[len(m.sessions)-1]
		for _, j := range m.alive() {
			m.conclude(t, c, j, last)
		}
		for len(m.late) > 0 {
			l := m.late[0]
			m.late = m.late[1:]
			l.run() // it may begin a job anew, which is the other round's
			m.check(t)
		}
	}
	for _, j := range m.alive() {
		m.foldJob(c, j)
		m.lookFindings(c, j)
		for _, b := range j.batches {
			m.lookAttempts(c, b)
		}
	}
	m.lookCounts(c)
	m.check(t)
	m.clear(c)
}

// conclude has a job end.
func (m *model) conclude(t *rapid.T, c *coordinator, j *knownJob, last *knownSession) {
	if !j.up.Finished || rapid.Bool().Draw(t, "stopped") {
		m.halt(c, j)
	} else {
		m.complete(t, c, j, last)
	}
	m.foldJob(c, j)
	if j.state == job.Cancelling { // by a limit
		m.halt(c, j)
		m.foldJob(c, j)
	}
	m.check(t)
	if !j.state.Ended() || j.seen.ItemsOpen() != 0 {
		m.Fatalf("nothing is open, and job %d is %v with %d items open", j.id, j.state, j.seen.ItemsOpen())
	}
}

// halt stops a job, and takes back what is held of it.
func (m *model) halt(c *coordinator, j *knownJob) {
	if !j.state.Stopping() {
		got, err := c.StopJob(c.ctx, j.id, job.Cancelled, "asked to")
		m.must(err)
		j.stop(job.Cancelled, "asked to")
		m.look(j, got)
	}
	for _, b := range j.batches {
		if b.state == job.BatchRunning {
			m.settleThese(c, []store.Settlement{{Lease: b.lease(), End: job.End{Kind: job.EndReleased, From: b.done()}}})
		}
	}
	for m.sweepStep(c, j) > 0 {
	}
}

// complete has a session claim and complete all of a job; what others hold they release.
func (m *model) complete(t *rapid.T, c *coordinator, j *knownJob, by *knownSession) {
	if j.state == job.Paused {
		m.pauseThis(c, j, false)
	}
	for j.retrying != 0 {
		m.retryStep(c, j)
		m.check(t)
	}
	for j.state == job.Running && slices.ContainsFunc(j.batches, (*knownBatch).open) {
		var group []store.Settlement
		for _, b := range j.batches {
			switch {
			case b.backedOff:
				m.ready(b)
			case b.avoided:
				m.unshun(b)
			case b.state == job.BatchRunning && b.session != by:
				group = append(group, store.Settlement{Lease: b.lease(), End: job.End{Kind: job.EndReleased, From: b.done()}})
			case b.state == job.BatchRunning:
				group = append(group, completed(b.grant(false)))
			}
		}
		m.settleThese(c, group)
		m.check(t)
		// A coordinator that remembers nothing, and so none that forgot a batch.
		m.claimThese(c, long, []store.ClaimRequest{request(by.id, m.name("request"), 3)}, []store.Turn{
			{JobID: j.id, Most: 3, JobLimit: int(j.header.Policy.MaxRunning)}, // what others of its project run ends later
		})
		m.check(t)
	}
	if j.state == job.Cancelling {
		m.halt(c, j)
	}
}

// lookFindings compares all findings of a job: each once, of the report that made its item's outcome final.
func (m *model) lookFindings(c *coordinator, j *knownJob) {
	m.Helper()
	want := slices.Clone(j.found)
	for _, b := range j.batches {
		want = append(want, b.found...)
		for _, f := range b.named {
			f.Batch = b.id
			want = append(want, f)
		}
	}
	var got []finding
	for _, f := range c.findings(store.FindingFilter{JobID: j.id}) {
		got = append(got, finding{f.BatchID, f.Item, f.Message})
	}
	order := func(x, y finding) int {
		switch {
		case x.Item != y.Item:
			return int(x.Item - y.Item)
		case x.Message < y.Message:
			return -1
		}
		return 1
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	m.equal(fmt.Sprintf("findings of job %d", j.id), got, want)
}

// lookResults compares all results of a job: each once, of the report that made its item's outcome final, in the order of
// the items.
func (m *model) lookResults(c *coordinator, j *knownJob) {
	m.Helper()
	var want []itemValue
	for _, b := range j.batches {
		want = append(want, b.values...)
	}
	m.equal(fmt.Sprintf("results of job %d", j.id), c.values(j.id, 0, 1+m.steps%20), want)
}

// record keeps the results of a report that was accepted.
func (m *model) record(b *knownBatch, r store.Results, from, to int32) {
	var list []value
	if len(r.Frame) > 0 {
		m.must(json.Unmarshal(r.Frame, &list))
	}
	b.keep(list, from, to)
}

// lookCounts compares what sessions have completed and crashed, which is known once all jobs are folded.
func (m *model) lookCounts(c *coordinator) {
	m.Helper()
	if slices.ContainsFunc(m.jobs, func(j *knownJob) bool { return j.deleted && j.dirty }) {
		return
	}
	list, err := c.ListSessions(c.ctx, true, store.Page{Size: len(m.sessions) + 50})
	m.must(err)
	for _, got := range list {
		i := slices.IndexFunc(m.sessions, func(s *knownSession) bool { return s.id == got.ID })
		if i >= 0 && (got.Completed != m.sessions[i].completed || got.Crashed != m.sessions[i].crashed) {
			m.Errorf("session %d completed %d batches and crashed %d, want %d and %d", got.ID, got.Completed, got.Crashed,
				m.sessions[i].completed, m.sessions[i].crashed)
		}
	}
}

// clear deletes all jobs of the run and makes sure that nothing is left of them.
func (m *model) clear(c *coordinator) {
	for _, j := range m.alive() {
		m.remove(c, j)
	}
	for more := true; more; {
		var err error
		more, err = c.DeleteStep(c.ctx, 100)
		m.must(err)
	}
	for _, j := range m.jobs {
		for _, b := range j.batches {
			if _, _, err := c.GetBatch(c.ctx, b.id); !errors.Is(err, store.ErrNotFound) {
				m.Errorf("batch %d of a job that was removed: %v", b.id, err)
			}
		}
		if list := c.findings(store.FindingFilter{JobID: j.id}); len(list) > 0 {
			m.Errorf("%d findings of a job that was removed", len(list))
		}
		if list := c.values(j.id, 0, 9); len(list) > 0 {
			m.Errorf("%d results of a job that was removed", len(list))
		}
	}
}
