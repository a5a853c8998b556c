package storetest

import (
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *model) leaseActions() []action {
	return []action{
		{"beat", 14, m.granted, m.beatSome},
		{"settle", 16, m.granted, m.settleSome},
		{"settle and claim", 12, m.granted, m.settleAndClaim},
		{"settle again", 3, func() bool { return len(m.settlements) > 0 }, m.settleAgain},
	}
}

// lease draws one that was granted: often a live one, otherwise any, most of which are over; seldom one that was granted
// to somebody else, or that nobody has yet.
func (m *model) lease(t *rapid.T) store.Grant {
	g := m.grantedLease(t)
	switch dice(t, 16, "forged") {
	case 1:
		g.SessionID = pick(t, m.sessions, "session").id
	case 2:
		g.Attempt++
	}
	return g
}

func (m *model) grantedLease(t *rapid.T) store.Grant {
	if live := slices.DeleteFunc(slices.Clone(m.grants), func(g store.Grant) bool {
		return !m.batches[g.BatchID].holds(g.Lease)
	}); len(live) > 0 && dice(t, 3, "over") > 0 {
		return pick(t, live, "lease")
	}
	return pick(t, m.grants, "lease")
}

// report draws what a worker says of the items of a batch, with a warning for each and a result for some: new outcomes,
// ones that were reported before, with another content even, ones that leave a gap, and ones that pass the end.
func (m *model) report(t *rapid.T, g store.Grant) (from int32, runs []job.Run, findings []store.Finding, results store.Results) {
	b := m.batches[g.BatchID]
	from = rapid.Int32Range(max(b.done()-2, 0), b.done()+1).Draw(t, "from")
	n := rapid.Int32Range(0, max(b.cut.Items-from, 0)+1).Draw(t, "count")
	if n > 0 && from+n > b.cut.Items && dice(t, 4, "within") != 0 {
		n--
	}
	message := m.name("found")
	var values []value
	for i := from; i < from+n; i++ {
		o := pick(t, []job.Outcome{job.Stored, job.Stored, job.Rejected}, "outcome")
		runs = append(runs, job.Run{Count: 1, Outcome: o})
		if dice(t, 3, "result") > 0 {
			values = append(values, value{i, message})
		}
	}
	for i := from; i < from+n+1; i++ { // one for an item of which nothing is said
		findings = append(findings, store.Finding{
			Item: g.FirstItem + int64(i), Position: i, Severity: store.Warning, Code: "W", Message: message,
		})
	}
	return from, runs, findings, valuesOf(values)
}

// beatSome sends a group of beats, of leases that may be over.
func (m *model) beatSome(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	var beats []store.Beat
	for range 1 + dice(t, 3, "beats") {
		g := m.lease(t)
		beat := store.Beat{Lease: g.Lease}
		if dice(t, 3, "report") > 0 {
			beat.From, beat.Outcomes, beat.Findings, beat.Results = m.report(t, g)
		}
		beat.Waiting = dice(t, 4, "waiting") == 0
		beats = append(beats, beat)
	}
	lease := m.lasts(t, "lease")
	m.send(t, c, func() { m.beatThese(c, lease, beats) })
}

func (m *model) beatThese(c *coordinator, lease time.Duration, beats []store.Beat) {
	got, skipped, err := c.Beat(c.ctx, lease, beats)
	m.must(err)
	if len(skipped) > 0 {
		m.Fatalf("beats %v were skipped, and nobody had locked them", skipped)
	}
	at := make([]int32, len(beats)) // done when it was its turn
	times := map[*knownBatch]int32{}
	for i, beat := range beats {
		b := m.batches[beat.BatchID]
		if !b.holds(beat.Lease) {
			if !got[i].Lost || got[i].JobID != 0 {
				m.Fatalf("a beat of a lease that is over: %+v", got[i])
			}
			c.ledger.Drop(beat.Lease)
			continue
		}
		if news, fits := b.news(beat.From, beat.Outcomes); fits && len(news) > 0 {
			before := b.done()
			b.add(news)
			b.find(beat.Findings, before, b.done())
			m.record(b, beat.Results, before, b.done())
			b.job.dirty = true
		}
		at[i] = b.done()
		// Who reports outcomes has begun, whatever the beat says.
		b.waiting = beat.Waiting && len(beat.Outcomes) == 0
		times[b]++
		m.touch(b, touched{lease: true})
		b.expired = lease == brief
		c.ledger.Hold(beat.Lease, b.job.id, lease)
	}
	for b, n := range times {
		// Several in one group may count as one.
		if got := c.batch(b.id).Beats - b.beats; n > 1 && got > 0 && got < n {
			n = got
		}
		b.beats += n
	}
	for i, beat := range beats {
		b := m.batches[beat.BatchID]
		if !b.holds(beat.Lease) {
			continue
		}
		a := got[i]
		if len(beat.Outcomes) == 0 && a.Acknowledged > at[i] && a.Acknowledged <= b.done() {
			at[i] = a.Acknowledged // a renewal may be told what later beats of its group made final
		}
		if want := (store.BeatAnswer{
			JobID: b.job.id, Cancelled: b.job.state == job.Cancelling, Paused: b.job.state == job.Paused, Acknowledged: at[i],
		}); a != want {
			m.Fatalf("a beat was answered with %+v, want %+v", a, want)
		}
	}
	m.elapse(lease)
}

// settleSome ends attempts.
func (m *model) settleSome(t *rapid.T) {
	c, group := pick(t, m.coordinators, "coordinator"), m.drawSettlements(t)
	m.send(t, c, func() { m.settleThese(c, group) })
}

// drawSettlements draws ends of attempts, some of them over already, or more than once in one group.
func (m *model) drawSettlements(t *rapid.T) (group []store.Settlement) {
	for range 1 + dice(t, 3, "settlements") {
		g := m.lease(t)
		s := store.Settlement{Lease: g.Lease, End: job.End{
			Kind: pick(t, []job.EndKind{
				job.EndCompleted, job.EndCompleted, job.EndFailed, job.EndFailed, job.EndReleased, job.EndCancelled, job.EndDied,
			}, "kind"),
			Retryable: dice(t, 4, "retryable") > 0,
			Message:   m.name("message"),
		}}
		if b := m.batches[g.BatchID]; s.Kind == job.EndCompleted && rapid.Bool().Draw(t, "whole") {
			s.From, s.Outcomes = b.done(), stored(b.cut.Items-b.done())
			if b.done() == b.cut.Items {
				s.Outcomes = nil
			}
		} else {
			s.From, s.Outcomes, s.Findings, s.Results = m.report(t, g)
		}
		if s.Kind == job.EndDied {
			s.Crash = m.crash(t, g)
		}
		group = append(group, s)
	}
	return group
}

// settleAndClaim ends attempts and claims in one call. Of what one of them may have returned nothing is claimed in it, since
// when that became available cannot be seen any more.
func (m *model) settleAndClaim(t *rapid.T) {
	c, group := pick(t, m.coordinators, "coordinator"), m.drawSettlements(t)
	requests, turns := m.drawClaim(t, c)
	lease := m.lasts(t, "lease")
	turns = slices.DeleteFunc(turns, func(turn store.Turn) bool {
		return slices.ContainsFunc(group, func(s store.Settlement) bool {
			return s.Kind != job.EndCompleted && m.batches[s.BatchID].job.id == turn.JobID
		})
	})
	m.send(t, c, func() {
		m.freshen()
		settled, claimed, err := c.SettleAndClaim(c.ctx, group, lease, requests, turns)
		m.must(err)
		m.settledThese(c, group, settled.Answers, settled.Ended)
		m.claimedThese(c, lease, requests, claimed, m.deal(c, requests, turns))
	})
}

// crash draws what a worker says of the death of a process: that it had an item at hand that is open, done already, or none,
// or that this is not known.
func (m *model) crash(t *rapid.T, g store.Grant) *job.Crash {
	b := m.batches[g.BatchID]
	c := &job.Crash{Signal: pick(t, []string{"SIGSEGV", "SIGKILL", ""}, "signal"), ExitCode: int32(dice(t, 2, "code")), Stderr: "it fell", PeakMemory: 1 << 20}
	switch dice(t, 4, "suspect") {
	case 0:
	case 1:
		c.Suspect = int32(dice(t, int(b.cut.Items)+2, "any"))
	default:
		// Always the same one, so that it is found.
		c.Suspect = min(b.done()+1+b.cut.Items/3, b.cut.Items)
	}
	return c
}

// settleAgain repeats a settlement whose answer was lost, at any coordinator.
func (m *model) settleAgain(t *rapid.T) {
	c, s := pick(t, m.coordinators, "coordinator"), pick(t, m.settlements, "settlement")
	m.send(t, c, func() { m.settleThese(c, []store.Settlement{s}) })
}

func (m *model) settleThese(c *coordinator, group []store.Settlement) {
	got, ended, err := c.Settle(c.ctx, group)
	m.must(err)
	m.settledThese(c, group, got, ended)
}

// settledThese compares the answers to settlements with what is known, which they change.
func (m *model) settledThese(c *coordinator, group []store.Settlement, got []store.SettleAnswer, ended []store.Ended) {
	var wantEnded []store.Ended
	x := m.endings(c)
	for i, s := range group {
		b := m.batches[s.BatchID]
		var want store.SettleAnswer
		switch news, fits := b.news(s.From, s.Outcomes); {
		case !b.holds(s.Lease):
			if e := b.ended(s.Lease); e != nil && e.kind == s.Kind {
				want.State = e.state
			} else {
				want.Lost = true
			}
			if b.job.deleted && got[i].Lost {
				want = store.SettleAnswer{Lost: true} // its end may have been removed with its job
			}
		case !fits || s.Kind == job.EndCompleted && b.done()+int32(len(news)) != b.cut.Items:
			want = store.SettleAnswer{State: job.BatchRunning, Err: store.ErrIncomplete}
		default:
			if s.Kind == job.EndDied && s.Crash == nil {
				s.Crash = new(job.Crash)
			}
			m.record(b, s.Results, b.done(), b.done()+int32(len(news)))
			e := m.end(x, b, s.End, news, s.Findings)
			if s.Kind != job.EndCompleted {
				wantEnded = append(wantEnded, e)
			}
			want = store.SettleAnswer{JobID: b.job.id, State: e.State}
		}
		if got[i].JobID != want.JobID || got[i].Lost != want.Lost || got[i].State != want.State || !errors.Is(got[i].Err, want.Err) {
			m.Fatalf("settling %+v of %+v was answered with %+v, want %+v", s, b.row.Batch, got[i], want)
		}
		if want.Err == nil {
			c.ledger.Drop(s.Lease)
			m.settlements = append(m.settlements, s)
		}
	}
	m.ended(c, "ended by settlements", ended, wantEnded)
}
