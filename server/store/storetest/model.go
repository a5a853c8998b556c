package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Model drives a store at random against a model of what it must remember, and checks the books after every step: what
// a job counts is what its batches say; attempts strictly grow; what has ended never changes; a settlement counts
// exactly when its lease is live; every job ends once all of its batches have. At most runs sequences are tried, all
// on one store, since jobs do not know each other.
func Model(t *testing.T, open Open, runs int) {
	t.Helper()
	s := open(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		if run > runs && runs > 0 {
			return
		}
		m := &model{
			fixture: &fixture{tb: rt, Store: s, ctx: context.WithoutCancel(t.Context())}, run: run,
			rejected: map[int64]int64{}, attempts: map[int64]int32{}, over: map[int64]store.BatchRow{},
			outcomes: map[int64][]job.Outcome{}, revisions: map[int64]int64{},
		}
		rt.Repeat(map[string]func(*rapid.T){
			"upload":     m.upload,
			"ingest":     m.ingest,
			"register":   m.start,
			"deregister": m.deregister,
			"break":      m.breakStream,
			"claim":      m.claimSome,
			"beat":       m.report,
			"settle":     m.settleOne,
			"settle2":    m.settleOne, // twice as likely
			"repeat":     m.repeat,
			"reap":       m.reapSome,
			"stop":       m.stopOne,
			"sweep":      m.sweepOne,
			"":           m.check,
		})
		m.finish()
	})
}

// model is what one run knows of the store.
type model struct {
	*fixture
	run      int
	names    int // given out so far, to be unique
	uploads  []store.Upload
	sessions []int64
	grants   []store.Grant // every one, live or not
	settled  []settled

	rejected  map[int64]int64          // items rejected at ingest, by job
	attempts  map[int64]int32          // last seen, by batch
	over      map[int64]store.BatchRow // ended batches, as they ended
	outcomes  map[int64][]job.Outcome  // reported by workers, by batch
	revisions map[int64]int64          // last seen, by job
}

// settled is a settlement that was answered.
type settled struct {
	store.Settlement
	answer store.SettleAnswer
}

func (m *model) name(prefix string) string {
	m.names++
	return fmt.Sprintf("%s-%d-%d", prefix, m.run, m.names)
}

// pick draws one of list, or skips the action when there is none.
func pick[T any](t *rapid.T, list []T, label string) T {
	if len(list) == 0 {
		t.Skip("none yet")
	}
	return list[rapid.IntRange(0, len(list)-1).Draw(t, label)]
}

func (m *model) upload(t *rapid.T) {
	if len(m.uploads) == 3 {
		t.Skip("enough jobs")
	}
	m.uploads = append(m.uploads, m.open(m.name("upload")))
}

func (m *model) ingest(t *rapid.T) {
	i := rapid.IntRange(0, max(len(m.uploads)-1, 0)).Draw(t, "upload")
	if len(m.uploads) == 0 || m.uploads[i].Finished {
		t.Skip("nothing to add to")
	}
	up := m.uploads[i]
	if rapid.Bool().Draw(t, "resumed") {
		up = m.open(up.UploadID)
	}
	g := cut(up, rapid.SliceOfN(rapid.Int32Range(1, 5), 0, 3).Draw(t, "items")...)
	if n := rapid.Int32Range(0, 2).Draw(t, "rejected"); n > 0 {
		g.Rejected = []store.RejectedItems{{FirstItem: g.Position.Item + 1, Items: n, Frame: []byte("x")}}
		g.Position.Item += int64(n)
		g.Position.Offset += 10 * int64(n)
	}
	g.Finished = rapid.IntRange(0, 3).Draw(t, "last") == 0
	err := m.CommitIngest(m.ctx, g)
	if stopped := m.job(up.JobID).State != job.Running; stopped != errors.Is(err, store.ErrJobStopped) {
		m.Fatalf("commit while the job is stopped %v: %v", stopped, err)
	} else if !stopped {
		m.must(err)
		for _, r := range g.Rejected {
			m.rejected[up.JobID] += int64(r.Items)
		}
	}
	after, err := m.GetUpload(m.ctx, up.UploadID)
	m.must(err)
	m.uploads[i] = after
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
		turns = append(turns, store.Turn{JobID: up.JobID, Fresh: rapid.IntRange(0, 2).Draw(t, "fresh")})
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

// ended notes attempts that the store ended by itself: an equal settlement is answered with that end.
func (m *model) ended(list []store.Ended, kind job.EndKind) {
	for _, e := range list {
		if kind != "" && e.Kind != kind {
			m.Fatalf("ended as %v, want %v", e.Kind, kind)
		}
		m.settled = append(m.settled, settled{
			store.Settlement{Lease: e.Lease, End: job.End{Kind: e.Kind}}, store.SettleAnswer{State: e.State},
		})
	}
}

func (m *model) reapSome(*rapid.T) {
	got, err := m.Reap(m.ctx, nil, 3)
	m.must(err)
	m.ended(got.Ended, "")
}

func (m *model) stopOne(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "really") == 0 {
		m.stop(pick(t, m.uploads, "job").JobID)
	}
}

func (m *model) sweepOne(t *rapid.T) {
	_, err := m.SweepJob(m.ctx, pick(t, m.uploads, "job").JobID, 2)
	m.must(err)
}

// check compares every job of the run with the model.
func (m *model) check(*rapid.T) {
	for _, up := range m.uploads {
		j := m.audit(up.JobID, m.rejected[up.JobID])
		if j.Revision < m.revisions[up.JobID] {
			m.Fatalf("revision %d after %d", j.Revision, m.revisions[up.JobID])
		}
		m.revisions[up.JobID] = j.Revision
		var reported int64
		for _, b := range m.batches(up.JobID) {
			if last := m.attempts[b.ID]; b.Attempt < last {
				m.Fatalf("batch %d is at attempt %d after %d", b.ID, b.Attempt, last)
			}
			m.attempts[b.ID] = b.Attempt
			reported += int64(len(m.outcomes[b.ID]))
			m.checkOutcomes(b)
			if first, ok := m.over[b.ID]; ok {
				m.equal("an ended batch", b, first)
			} else if b.State.Ended() {
				m.over[b.ID] = b
			}
		}
		if j.Warnings != reported {
			m.Fatalf("%d findings for %d reported items", j.Warnings, reported)
		}
	}
}

// checkOutcomes compares the outcomes of a batch with what workers reported and what its end says of the rest.
func (m *model) checkOutcomes(b store.BatchRow) {
	want := slices.Clone(m.outcomes[b.ID])
	undone, ok := map[job.BatchState]job.Outcome{
		job.BatchFailed: job.ItemFailed, job.BatchCrashed: job.ItemCrashed, job.BatchCancelled: job.ItemCancelled,
	}[b.State]
	for ok && len(want) < int(b.ItemCount) {
		want = append(want, undone)
	}
	var got []job.Outcome
	for _, r := range b.Outcomes {
		for range r.Count {
			got = append(got, r.Outcome)
		}
	}
	m.equal(fmt.Sprintf("outcomes of a batch that is %v", b.State), got, want)
}

// finish brings every job of the run to its end, by completing what can be claimed or by stopping it.
func (m *model) finish() {
	s := m.register(m.name("worker"))
	for _, up := range m.uploads {
		if up.Finished && up.JobID%2 == 0 {
			for {
				grants := m.claim(s, m.name("request"), long, 10, up.JobID)
				if len(grants) == 0 {
					break
				}
				for _, g := range grants {
					m.settle(completed(g))
				}
			}
		}
		if !m.fold(up.JobID).State.Ended() {
			m.stop(up.JobID)
			m.sweep(up.JobID)
		}
		for _, b := range m.batches(up.JobID) {
			if b.State == job.BatchRunning {
				l := job.Lease{BatchID: b.ID, Attempt: b.Attempt, SessionID: b.SessionID}
				m.settle(store.Settlement{Lease: l, End: job.End{Kind: job.EndReleased, From: b.DoneItems}})
			}
		}
		if j := m.audit(up.JobID, m.rejected[up.JobID]); !j.State.Ended() {
			m.Fatalf("nothing is open, and the job is %v", j.State)
		}
	}
}
