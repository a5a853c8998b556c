package storetest

import (
	"errors"
	"fmt"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// settles: which settlement counts, and what the others are told.
var settles = []scenario{
	{"a completed batch ends with its outcomes", func(f *fixture) {
		id := f.submit("a", 4)
		g := f.claimOne(f.register("w"), "1", long, id)
		s := completed(g)
		s.Outcomes = []job.Run{{Count: 1, Outcome: job.Stored}, {Count: 2, Outcome: job.StoredWarnings}, {Count: 1, Outcome: job.Skipped}}
		answers, list, err := f.Settle(f.ctx, []store.Settlement{s})
		f.must(err)
		f.equal("answers", answers, []store.SettleAnswer{{JobID: id, State: job.BatchCompleted}})
		f.equal("ended", list, []store.Ended{})
		f.equal("outcomes", f.batch(g.BatchID).Outcomes, s.Outcomes)
		f.equal("attempts kept", f.attempts(g.BatchID), []store.Attempt{})
		if j := f.audit(id, 0); j.State != job.Succeeded {
			f.Errorf("the job is %v", j.State)
		}
	}},
	{"each end leaves what is told of it", func(f *fixture) {
		for _, c := range []struct {
			kind      job.EndKind
			retryable bool
			state     job.BatchState
			undone    job.Outcome
			failures  int32
			crashes   int32
			why       string
			crash     *job.Crash
		}{
			{kind: job.EndFailed, state: job.BatchFailed, undone: job.ItemFailed, failures: 1},
			{kind: job.EndFailed, retryable: true, state: job.BatchPending, failures: 1},
			{kind: job.EndReleased, state: job.BatchPending},
			{kind: job.EndCancelled, state: job.BatchPending},
			{kind: job.EndDied, state: job.BatchPending, crashes: 1, crash: new(job.Crash),
				why: "offered to other workers for 10s: it died on one worker only"},
		} {
			name := string(c.kind)
			if c.retryable {
				name += " retryable"
			}
			id := f.submit(name, 5)
			g := f.claimOne(f.register(name), "1", long, id)
			s := ended(g, c.kind)
			s.Retryable, s.Message, s.Outcomes = c.retryable, "why "+name, stored(2)
			answers, list, err := f.Settle(f.ctx, []store.Settlement{s})
			f.must(err)
			f.equal(name+": answer", answers, []store.SettleAnswer{{JobID: id, State: c.state}})
			f.equal(name+": ended", list, []store.Ended{{
				Lease: g.Lease, JobID: id, Kind: c.kind, Message: s.Message, State: c.state, Decision: c.why, WorkerID: name,
				Documents: []string{document(1), document(2), document(3), document(4), document(5)}, Total: 5,
			}})
			b := f.batch(g.BatchID)
			outcomes := stored(2)
			if c.undone != 0 {
				outcomes = append(outcomes, job.Run{Count: 3, Outcome: c.undone})
			}
			f.equal(name+": outcomes", b.Outcomes, outcomes)
			if b.State != c.state || b.Failures != c.failures || b.Crashes != c.crashes || b.Losses != 0 || b.Error != s.Message {
				f.Errorf("%s: batch = %+v", name, b.Batch)
			}
			kept := f.attempts(g.BatchID)
			if len(kept) != 1 || kept[0].ClaimedAt.IsZero() || kept[0].EndedAt.Before(kept[0].ClaimedAt) {
				f.Fatalf("%s: attempts = %+v", name, kept)
			}
			kept[0].ClaimedAt, kept[0].EndedAt = b.SettledAt, b.SettledAt
			f.equal(name+": attempt", kept[0], store.Attempt{
				BatchID: g.BatchID, Attempt: 1, SessionID: g.SessionID, WorkerID: name, Kind: c.kind, Message: s.Message,
				ClaimedAt: b.SettledAt, EndedAt: b.SettledAt, State: c.state, Decision: c.why, Crash: c.crash,
			})
			f.audit(id, 0)
		}
	}},
	{"an equal settlement gets the first answer again", func(f *fixture) {
		for _, c := range []struct {
			kind job.EndKind
			want job.BatchState
		}{
			{job.EndCompleted, job.BatchCompleted}, {job.EndFailed, job.BatchFailed}, {job.EndReleased, job.BatchPending},
			{job.EndDied, job.BatchPending},
		} {
			name := string(c.kind)
			id := f.submit(name, 3)
			g := f.claimOne(f.register(name), "1", long, id)
			s := ended(g, c.kind)
			if c.kind == job.EndCompleted {
				s = completed(g)
			}
			s.Findings = []store.Finding{{Item: 1, Severity: store.Error, Code: "E"}}
			f.settle(s)
			before := f.audit(id, 0)
			answers, list, err := f.Settle(f.ctx, []store.Settlement{s})
			f.must(err)
			f.equal(name+": answer", answers, []store.SettleAnswer{{State: c.want}})
			f.equal(name+": ended", list, []store.Ended{})
			after := f.audit(id, 0)
			f.equal(name+": job", after.Counters, before.Counters)
		}
	}},
	{"an equal settlement gets the first answer after the batch went on", func(f *fixture) {
		id := f.submit("a", 3)
		s := f.register("w")
		first := ended(f.claimOne(s, "1", long, id), job.EndReleased)
		f.settle(first)
		second := f.claimOne(s, "2", long, id)
		f.equal("while it runs again", f.settle(first), store.SettleAnswer{State: job.BatchPending})
		f.settle(completed(second))
		f.equal("after it completed", f.settle(first), store.SettleAnswer{State: job.BatchPending})
		f.audit(id, 0)
	}},
	{"a late settlement changes nothing", func(f *fixture) {
		for _, c := range []struct {
			name string
			end  func(f *fixture, g store.Grant) // how the attempt ended before
		}{
			{"another end", func(f *fixture, g store.Grant) { f.settle(ended(g, job.EndReleased)) }},
			{"reaped", func(f *fixture, g store.Grant) {
				f.expire(g)
				f.wait("the reaper", func() bool { f.reap(); return f.batch(g.BatchID).State != job.BatchRunning })
			}},
			{"claimed again", func(f *fixture, g store.Grant) {
				f.settle(ended(g, job.EndReleased))
				f.claimOne(g.SessionID, "again", long, g.JobID)
			}},
			{"completed by another", func(f *fixture, g store.Grant) {
				f.settle(ended(g, job.EndReleased))
				f.settle(completed(f.claimOne(f.register("other"), "again", long, g.JobID)))
			}},
			{"the session deregistered", func(f *fixture, g store.Grant) {
				_, err := f.EndSession(f.ctx, g.SessionID, "bye")
				f.must(err)
			}},
			{"the worker registered again", func(f *fixture, g store.Grant) { f.register(workerOf(g.JobID)) }},
		} {
			id := f.submit(c.name, 3)
			g := f.claimOne(f.register(workerOf(id)), "1", short, id)
			c.end(f, g)
			before, batch := f.audit(id, 0), f.batch(g.BatchID)
			for _, kind := range []job.EndKind{job.EndCompleted, job.EndFailed} {
				s := ended(g, kind)
				s.Outcomes = []job.Run{{Count: 3, Outcome: job.Rejected}}
				s.Findings = []store.Finding{{Item: 1, Severity: store.Error, Code: "E"}}
				f.equal(c.name+": answer", f.settle(s), store.SettleAnswer{Lost: true})
			}
			f.equal(c.name+": batch", f.batch(g.BatchID), batch)
			f.equal(c.name+": job", f.audit(id, 0).Counters, before.Counters)
		}
	}},
	{"wrong leases are lost", func(f *fixture) {
		id := f.submit("a", 1)
		s, other := f.register("w"), f.register("v")
		g := f.claimOne(s, "1", long, id)
		for _, l := range []job.Lease{
			{BatchID: g.BatchID, Attempt: 2, SessionID: s},
			{BatchID: g.BatchID, Attempt: 0, SessionID: s},
			{BatchID: g.BatchID, Attempt: 1, SessionID: other},
			{BatchID: 12345, Attempt: 1, SessionID: s},
		} {
			wrong := completed(g)
			wrong.Lease = l
			if a := f.settle(wrong); !a.Lost || a.Err != nil {
				f.Errorf("settling %+v: %+v, want it lost", l, a)
			}
		}
		f.settle(completed(g))
		f.audit(id, 0)
	}},
	{"outcomes that do not fit are refused and the lease stays", func(f *fixture) {
		id := f.submit("a", 5)
		g := f.claimOne(f.register("w"), "1", long, id)
		f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(2)})
		for _, c := range []struct {
			name     string
			kind     job.EndKind
			from     int32
			outcomes []job.Run
		}{
			{"completed with nothing", job.EndCompleted, 2, nil},
			{"completed with too few", job.EndCompleted, 2, stored(2)},
			{"completed with a gap", job.EndCompleted, 3, stored(2)},
			{"completed past the end", job.EndCompleted, 2, stored(4)},
			{"failed with a gap", job.EndFailed, 3, stored(1)},
			{"failed past the end", job.EndFailed, 2, stored(4)},
		} {
			s := store.Settlement{Lease: g.Lease, End: job.End{Kind: c.kind, From: c.from, Outcomes: c.outcomes}}
			if a := f.settle(s); !errors.Is(a.Err, store.ErrIncomplete) || a.Lost || a.JobID != 0 {
				f.Errorf("%s: %+v, want ErrIncomplete", c.name, a)
			}
			if b := f.batch(g.BatchID); b.State != job.BatchRunning || b.DoneItems != 2 {
				f.Errorf("%s: the batch is %v with %d done", c.name, b.State, b.DoneItems)
			}
		}
		overlapping := store.Settlement{Lease: g.Lease, End: job.End{
			Kind: job.EndCompleted, From: 1, Outcomes: []job.Run{{Count: 1, Outcome: job.Rejected}, {Count: 3, Outcome: job.Skipped}},
		}}
		f.equal("overlapping", f.settle(overlapping), store.SettleAnswer{JobID: id, State: job.BatchCompleted})
		f.equal("outcomes", f.batch(g.BatchID).Outcomes, []job.Run{{Count: 2, Outcome: job.Stored}, {Count: 3, Outcome: job.Skipped}})
		f.audit(id, 0)
	}},
	{"a group is answered each, one bad settlement spoils no other", func(f *fixture) {
		a, b := f.submit("a", 2, 2, 2, 2), f.submit("b", 2, 2)
		s := f.register("w")
		ga, gb := f.claim(s, "1", long, 9, a), f.claim(s, "2", long, 9, b)
		incomplete := completed(ga[1])
		incomplete.Outcomes = stored(1)
		answers, list, err := f.Settle(f.ctx, []store.Settlement{
			completed(gb[1]), ended(ga[3], job.EndFailed), incomplete, completed(ga[0]), completed(ga[0]),
			ended(ga[0], job.EndFailed), ended(gb[0], job.EndReleased), ended(gb[0], job.EndReleased), completed(ga[2]),
		})
		f.must(err)
		if !errors.Is(answers[2].Err, store.ErrIncomplete) {
			f.Errorf("incomplete: %+v", answers[2])
		}
		answers[2].Err = nil
		f.equal("answers", answers, []store.SettleAnswer{
			{JobID: b, State: job.BatchCompleted}, {JobID: a, State: job.BatchFailed}, {State: answers[2].State},
			{JobID: a, State: job.BatchCompleted}, {State: job.BatchCompleted}, {Lost: true},
			{JobID: b, State: job.BatchPending}, {State: job.BatchPending}, {JobID: a, State: job.BatchCompleted},
		})
		got := map[int64]job.EndKind{}
		for _, e := range list {
			got[e.BatchID] = e.Kind
		}
		f.equal("ended", got, map[int64]job.EndKind{ga[3].BatchID: job.EndFailed, gb[0].BatchID: job.EndReleased})
		f.audit(a, 0)
		f.audit(b, 0)
	}},
	{"a large group is settled at once", func(f *fixture) {
		items := make([]int32, 300)
		for i := range items {
			items[i] = 1
		}
		id := f.submit("a", items...)
		var group []store.Settlement
		for _, g := range f.claim(f.register("w"), "1", long, len(items), id) {
			group = append(group, completed(g))
		}
		if len(group) != len(items) {
			f.Fatalf("claimed %d of %d", len(group), len(items))
		}
		answers, _, err := f.Settle(f.ctx, group)
		f.must(err)
		for _, a := range answers {
			f.equal("answer", a, store.SettleAnswer{JobID: id, State: job.BatchCompleted})
		}
		if j := f.audit(id, 0); j.State != job.Succeeded || j.ItemOutcomes[job.Stored] != 300 {
			f.Errorf("the job is %v with %v", j.State, j.ItemOutcomes)
		}
	}},
}

// workerOf names the worker that holds the batches of a job.
func workerOf(jobID int64) string { return fmt.Sprintf("worker of job %d", jobID) }
