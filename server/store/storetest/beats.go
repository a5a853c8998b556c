package storetest

import (
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// at is a warning about the item at a position of a batch.
func at(position int32) store.Finding {
	return store.Finding{Item: int64(position) + 1, Position: position, Severity: store.Warning, Code: "W"}
}

// items of findings, in their order.
func itemsOf(findings []store.Finding) []int64 {
	var n []int64
	for _, f := range findings {
		n = append(n, f.Item)
	}
	return n
}

// beats: renewals, and outcomes that become final before the end.
var beats = []scenario{
	{"a beat renews its lease", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", short, id)
		before := f.batch(g.BatchID).LeaseExpiresAt
		f.equal("answer", f.beat(store.Beat{Lease: g.Lease}), store.BeatAnswer{JobID: id})
		after := f.batch(g.BatchID).LeaseExpiresAt
		if d := after.Sub(before); d < long/2 || d > 2*long {
			f.Errorf("the lease went from %v to %v", before, after)
		}
	}},
	{"a renewal after expiry but before the reaper succeeds", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", short, id)
		f.expire(g)
		if a := f.beat(store.Beat{Lease: g.Lease}); a.Lost {
			f.Errorf("the renewal was told that the lease is lost")
		}
		f.equal("reaped", f.reap(), []store.Ended{})
		f.equal("settled", f.settle(completed(g)).State, job.BatchCompleted)
	}},
	{"leases of others are lost", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s, other := f.register("w"), f.register("v")
		grants := f.claim(s, "1", long, 2, id)
		f.settle(ended(grants[1], job.EndReleased))
		live, over := grants[0].Lease, grants[1].Lease
		leases := []job.Lease{
			live, over,
			{BatchID: live.BatchID, Attempt: live.Attempt + 1, SessionID: s},
			{BatchID: live.BatchID, Attempt: live.Attempt, SessionID: other},
			{BatchID: 12345, Attempt: 1, SessionID: s},
		}
		for _, outcomes := range [][]job.Run{nil, stored(1)} {
			var group []store.Beat
			for _, l := range leases {
				group = append(group, store.Beat{Lease: l, Outcomes: outcomes})
			}
			answers, skipped, err := f.Beat(f.ctx, long, group)
			f.must(err)
			f.equal("skipped", skipped, []int{})
			var lost []bool
			for _, a := range answers {
				lost = append(lost, a.Lost)
			}
			f.equal("lost", lost, []bool{false, true, true, true, true})
		}
		if j := f.audit(id, 0); j.ItemOutcomes[job.Stored] != 1 {
			f.Errorf("%d items stored, want 1", j.ItemOutcomes[job.Stored])
		}
	}},
	{"a beat of a job being stopped says so and still counts", func(f *fixture) {
		id := f.submit("a", 3)
		g := f.claimOne(f.register("w"), "1", long, id)
		f.stop(id)
		f.equal("renewal", f.beat(store.Beat{Lease: g.Lease}), store.BeatAnswer{JobID: id, Cancelled: true})
		f.equal("with outcomes", f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(2)}),
			store.BeatAnswer{JobID: id, Cancelled: true, Acknowledged: 2})
		f.settle(ended(g, job.EndCancelled))
		j := f.audit(id, 0)
		if j.ItemOutcomes[job.Stored] != 2 || j.ItemOutcomes[job.ItemCancelled] != 1 || j.State != job.Cancelled {
			f.Errorf("the job is %v with %v", j.State, j.ItemOutcomes)
		}
	}},
	{"outcomes become final once, however they are repeated", func(f *fixture) {
		id := f.submit("a", 10)
		g := f.claimOne(f.register("w"), "1", long, id)
		for _, c := range []struct {
			name     string
			from     int32
			outcomes []job.Run
			want     int32
		}{
			{"the first ones", 0, []job.Run{{Count: 2, Outcome: job.Stored}, {Count: 1, Outcome: job.Rejected}}, 3},
			{"repeated", 0, []job.Run{{Count: 2, Outcome: job.Stored}, {Count: 1, Outcome: job.Rejected}}, 3},
			{"overlapping", 1, []job.Run{{Count: 1, Outcome: job.Stored}, {Count: 3, Outcome: job.Skipped}}, 5},
			{"a gap", 6, stored(1), 5},
			{"past the end", 5, stored(6), 5},
			{"a mere renewal", 0, nil, 5},
			{"older than all", 1, stored(1), 5},
			{"the rest but one", 5, stored(4), 9},
			{"the last", 9, stored(1), 10},
		} {
			a := f.beat(store.Beat{Lease: g.Lease, From: c.from, Outcomes: c.outcomes})
			if a.Lost || a.Acknowledged != c.want {
				f.Errorf("%s: %+v, want %d acknowledged", c.name, a, c.want)
			}
		}
		f.equal("outcomes", f.batch(g.BatchID).Outcomes, []job.Run{
			{Count: 2, Outcome: job.Stored}, {Count: 1, Outcome: job.Rejected}, {Count: 2, Outcome: job.Skipped},
			{Count: 5, Outcome: job.Stored},
		})
		if j := f.audit(id, 0); j.ItemsInFlight != 0 || j.ItemsOpen() != 0 || j.State != job.Running {
			f.Errorf("all is durable, and the job is %v with %+v", j.State, j.Counters)
		}
		f.equal("settled", f.settle(store.Settlement{Lease: g.Lease, End: job.End{Kind: job.EndCompleted, From: 10}}).State, job.BatchCompleted)
		f.audit(id, 0)
	}},
	{"outcomes renew as well, also where they are not recorded", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", short, id)
		f.beat(store.Beat{Lease: g.Lease, From: 1, Outcomes: stored(1)})
		if b := f.batch(g.BatchID); b.LeaseExpiresAt.Before(f.now().Add(long / 2)) {
			f.Errorf("the lease ends at %v", b.LeaseExpiresAt)
		}
	}},
	{"findings are recorded with the outcome of their item, once", func(f *fixture) {
		id := f.submit("a", 6)
		g := f.claimOne(f.register("w"), "1", long, id)
		beat := store.Beat{Lease: g.Lease, Outcomes: stored(2), Findings: []store.Finding{at(0), at(1), at(1), at(2)}}
		f.beat(beat)
		f.beat(beat)
		want := []int64{1, 2, 2}
		f.equal("after the first beat, twice", itemsOf(f.findings(store.FindingFilter{JobID: id})), want)
		f.beat(store.Beat{Lease: g.Lease, From: 1, Outcomes: stored(2), Findings: []store.Finding{at(1), at(2)}})
		want = append(want, 3)
		f.equal("after an overlapping beat", itemsOf(f.findings(store.FindingFilter{JobID: id})), want)
		f.beat(store.Beat{Lease: g.Lease, From: 5, Outcomes: stored(1), Findings: []store.Finding{at(5)}})
		f.equal("after a beat that left a gap", itemsOf(f.findings(store.FindingFilter{JobID: id})), want)
		end := store.Settlement{
			Lease: g.Lease, Findings: []store.Finding{at(0), at(4), at(5), at(6)},
			End: job.End{Kind: job.EndCompleted, From: 2, Outcomes: stored(4)},
		}
		f.settle(end)
		f.settle(end)
		want = append(want, 5, 6)
		got := f.findings(store.FindingFilter{JobID: id})
		f.equal("after the end, twice", itemsOf(got), want)
		for _, g := range got {
			if g.BatchID != f.batches(id)[0].ID || g.JobID != id {
				f.Errorf("finding = %+v", g)
			}
		}
		if j := f.audit(id, 0); j.Warnings != 6 {
			f.Errorf("%d warnings counted, want 6", j.Warnings)
		}
	}},
	{"many beats of one group are answered each", func(f *fixture) {
		a, b := f.submit("a", 2, 2, 2, 2), f.submit("b", 2, 2)
		s := f.register("w")
		grants := append(f.claim(s, "1", long, 9, a), f.claim(s, "2", long, 9, b)...)
		var group []store.Beat
		for i, g := range grants {
			group = append(group, store.Beat{Lease: g.Lease, Outcomes: stored(int32(i % 3))})
		}
		for i := range group { // a run of no items is not for a worker to send
			if i%3 == 0 {
				group[i].Outcomes = nil
			}
		}
		answers, _, err := f.Beat(f.ctx, long, group)
		f.must(err)
		for i, answer := range answers {
			f.equal("answer", answer, store.BeatAnswer{JobID: grants[i].JobID, Acknowledged: int32(i % 3)})
		}
		f.audit(a, 0)
		f.audit(b, 0)
	}},
	{"two beats of one lease in one group come one after the other", func(f *fixture) {
		id := f.submit("a", 5)
		g := f.claimOne(f.register("w"), "1", long, id)
		answers, _, err := f.Beat(f.ctx, long, []store.Beat{
			{Lease: g.Lease, Outcomes: stored(2), Findings: []store.Finding{at(1)}},
			{Lease: g.Lease, From: 1, Outcomes: stored(3), Findings: []store.Finding{at(1), at(3)}},
			{Lease: g.Lease},
		})
		f.must(err)
		var acknowledged []int32
		for _, a := range answers {
			acknowledged = append(acknowledged, a.Acknowledged)
		}
		f.equal("acknowledged by the second", acknowledged[1], int32(4))
		f.equal("findings", itemsOf(f.findings(store.FindingFilter{JobID: id})), []int64{2, 4})
		f.audit(id, 0)
	}},
	{"an empty group is nothing", func(f *fixture) {
		answers, skipped, err := f.Beat(f.ctx, long, nil)
		f.must(err)
		if len(answers)+len(skipped) != 0 {
			f.Errorf("answers %v, skipped %v", answers, skipped)
		}
		settled, list, err := f.Settle(f.ctx, nil)
		f.must(err)
		if len(settled)+len(list) != 0 {
			f.Errorf("answers %v, ended %v", settled, list)
		}
		got, err := f.Claim(f.ctx, long, nil, nil)
		f.must(err)
		if len(got.Grants)+len(got.Errs) != 0 {
			f.Errorf("claimed %+v", got)
		}
	}},
}
