package storetest

import (
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *model) workerActions() actions {
	return actions{
		"register":   m.start,
		"deregister": m.deregister,
		"break":      m.breakStream,
		"claim":      m.claimSome,
		"beat":       m.report,
		"settle":     m.settleOne,
		"settle2":    m.settleOne, // twice as likely
		"repeat":     m.repeat,
	}
}

// settled is a settlement that was answered.
type settled struct {
	store.Settlement
	answer store.SettleAnswer
}

func (m *model) start(t *rapid.T) {
	worker := fmt.Sprintf("worker-%d-%d", m.run, rapid.IntRange(0, 2).Draw(t, "worker"))
	id, list, err := m.RegisterSession(m.ctx, session(worker))
	m.must(err)
	m.ended(list, job.EndDied)
	m.sessions = append(m.sessions, id)
}

func (m *model) deregister(t *rapid.T) {
	list, err := m.EndSession(m.ctx, pick(t, m.sessions, "session"), "bye")
	m.must(err)
	m.ended(list, job.EndReleased)
}

func (m *model) breakStream(t *rapid.T) {
	s := pick(t, m.sessions, "session")
	epoch, err := m.OpenStream(m.ctx, s)
	if errors.Is(err, store.ErrSessionEnded) {
		return
	}
	m.must(err)
	m.must(m.BreakStream(m.ctx, s, epoch, time.Microsecond))
}

func (m *model) claimSome(t *rapid.T) {
	s := pick(t, m.sessions, "session")
	var turns []store.Turn
	for _, up := range m.uploads {
		turns = append(turns, store.Turn{JobID: up.JobID, Most: rapid.IntRange(0, 2).Draw(t, "fresh")})
	}
	lease := rapid.SampledFrom([]time.Duration{long, time.Microsecond}).Draw(t, "lease")
	r := request(s, m.name("request"), rapid.IntRange(1, 4).Draw(t, "most"))
	got, err := m.Claim(m.ctx, lease, []store.ClaimRequest{r}, turns)
	m.must(err)
	_, err = m.GetSession(m.ctx, s)
	if errors.Is(err, store.ErrSessionEnded) != errors.Is(got.Errs[0], store.ErrSessionEnded) {
		m.Fatalf("claim: %v, get session: %v", got.Errs[0], err)
	}
	for _, g := range got.Grants[0] {
		if g.Attempt != m.attempts[g.BatchID]+1 {
			m.Fatalf("granted attempt %d after %d", g.Attempt, m.attempts[g.BatchID])
		}
		if state := m.job(g.JobID).State; state != job.Running {
			m.Fatalf("granted a batch of a job that is %v", state)
		}
	}
	m.grants = append(m.grants, got.Grants[0]...)
}

// live reports whether a lease is its batch's, and returns the batch.
func (m *model) live(l job.Lease) (store.BatchRow, bool) {
	b := m.batch(l.BatchID)
	return b, b.State == job.BatchRunning && b.Attempt == l.Attempt && b.SessionID == l.SessionID
}

// draw draws a report of some items of a batch from a position on, with a warning for each.
func (m *model) draw(t *rapid.T, g store.Grant, b store.BatchRow) (from int32, runs []job.Run, findings []store.Finding) {
	from = rapid.Int32Range(max(b.DoneItems-1, 0), min(b.DoneItems+1, b.ItemCount)).Draw(t, "from")
	n := rapid.Int32Range(0, b.ItemCount-from).Draw(t, "count")
	for i := from; i < from+n; i++ {
		o := rapid.SampledFrom([]job.Outcome{job.Stored, job.Stored, job.Rejected}).Draw(t, "outcome")
		runs = append(runs, job.Run{Count: 1, Outcome: o})
		findings = append(findings, store.Finding{
			Item: g.FirstItem + int64(i), Position: i, Severity: store.Warning, Code: "W",
		})
	}
	return from, runs, findings
}

// record notes what a report adds and tells whether it fits.
func (m *model) record(b store.BatchRow, from int32, runs []job.Run) bool {
	if from > b.DoneItems || from+job.Items(runs) > b.ItemCount {
		return false
	}
	for _, r := range job.SkipItems(runs, b.DoneItems-from) {
		for range r.Count {
			m.outcomes[b.ID] = append(m.outcomes[b.ID], r.Outcome)
		}
	}
	return true
}

func (m *model) report(t *rapid.T) {
	g := pick(t, m.grants, "grant")
	b, live := m.live(g.Lease)
	beat := store.Beat{Lease: g.Lease}
	beat.From, beat.Outcomes, beat.Findings = m.draw(t, g, b)
	answers, _, err := m.Beat(m.ctx, long, []store.Beat{beat})
	m.must(err)
	if answers[0].Lost == live {
		m.Fatalf("a beat of a lease that is live %v: %+v", live, answers[0])
	}
	if !live {
		return
	}
	m.record(b, beat.From, beat.Outcomes)
	if want := int32(len(m.outcomes[b.ID])); answers[0].Acknowledged != want {
		m.Fatalf("acknowledged %d, want %d", answers[0].Acknowledged, want)
	}
}

func (m *model) settleOne(t *rapid.T) {
	g := pick(t, m.grants, "grant")
	b, live := m.live(g.Lease)
	s := store.Settlement{Lease: g.Lease, End: job.End{
		Kind:      rapid.SampledFrom([]job.EndKind{job.EndCompleted, job.EndFailed, job.EndReleased, job.EndDied}).Draw(t, "kind"),
		Retryable: rapid.Bool().Draw(t, "retryable"),
	}}
	s.From, s.Outcomes, s.Findings = m.draw(t, g, b)
	equal := m.answered(s)
	answer := m.settle(s)
	switch {
	case equal != nil:
		if answer.Lost || answer.State != equal.State || answer.JobID != 0 {
			m.Fatalf("settled again as %v: %+v, first %+v", s.Kind, answer, *equal)
		}
		return
	case !live:
		if !answer.Lost || answer.JobID != 0 {
			m.Fatalf("late: %+v", answer)
		}
		return
	}
	fits := s.From <= b.DoneItems && (s.Kind != job.EndCompleted || max(b.DoneItems, s.From+job.Items(s.Outcomes)) == b.ItemCount)
	if fits == errors.Is(answer.Err, store.ErrIncomplete) || answer.Lost {
		m.Fatalf("settled %+v of %+v: %+v", s, b.Batch, answer)
	}
	if !fits {
		return
	}
	m.record(b, s.From, s.Outcomes)
	if got := m.batch(b.ID).State; got != answer.State || !job.BatchRunning.MayBecome(got) {
		m.Fatalf("the batch is %v after the answer %v", got, answer.State)
	}
	m.settled = append(m.settled, settled{s, answer})
}

// answered returns the first answer to a settlement equal to s.
func (m *model) answered(s store.Settlement) *store.SettleAnswer {
	for i := range m.settled {
		if m.settled[i].Lease == s.Lease && m.settled[i].Kind == s.Kind {
			return &m.settled[i].answer
		}
	}
	return nil
}

func (m *model) repeat(t *rapid.T) {
	s := pick(t, m.settled, "settlement")
	if answer := m.settle(s.Settlement); answer != (store.SettleAnswer{State: s.answer.State}) {
		m.Fatalf("repeated: %+v, first %+v", answer, s.answer)
	}
}
