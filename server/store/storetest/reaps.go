package storetest

import (
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// reaps: whose lease ends by itself, and how.
var reaps = []scenario{
	{"only expired leases are ended", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s := f.register("w")
		f.claimOne(s, "long", long, id)
		g := f.claimOne(s, "short", short, id)
		f.expire(g)
		before := f.now()
		got, err := f.Reap(f.ctx, nil, 100)
		f.must(err)
		if got.Now.Before(before.Add(-time.Second)) || got.Now.After(f.now().Add(time.Second)) {
			f.Errorf("the reaper's now is %v, the store's %v", got.Now, f.now())
		}
		f.equal("ended", got.Ended, []store.Ended{{
			Lease: g.Lease, JobID: id, Kind: job.EndLost, Message: got.Ended[0].Message, State: job.BatchPending, WorkerID: "w",
			Documents: []string{document(2)}, Total: 1,
		}})
		var states []job.BatchState
		for _, b := range f.batches(id) {
			states = append(states, b.State)
		}
		f.equal("states", states, []job.BatchState{job.BatchRunning, job.BatchPending, job.BatchPending})
		f.equal("again", f.reap(), []store.Ended{})
		if b := f.batch(g.BatchID); b.Losses != 1 || b.Crashes != 0 {
			f.Errorf("lost batch = %+v", b.Batch)
		}
		if j := f.audit(id, 0); j.CrashedEver != 1 {
			f.Errorf("%d batches crashed, want 1", j.CrashedEver)
		}
		f.equal("granted again", f.claimOne(s, "next", long, id).Lease, job.Lease{BatchID: g.BatchID, Attempt: 2, SessionID: s})
	}},
	{"only the named batches are looked at", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s := f.register("w")
		grants := f.claim(s, "short", short, 3, id)
		f.expire(grants[2])
		none, err := f.Reap(f.ctx, []int64{}, 100)
		f.must(err)
		if len(none.Ended) != 0 || none.Now.IsZero() {
			f.Errorf("of no batches: %+v", none)
		}
		got, err := f.Reap(f.ctx, []int64{grants[1].BatchID, 12345}, 100)
		f.must(err)
		if len(got.Ended) != 1 || got.Ended[0].BatchID != grants[1].BatchID {
			f.Errorf("ended %+v, want batch %d", got.Ended, grants[1].BatchID)
		}
		f.audit(id, 0)
	}},
	{"a round is bounded", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		grants := f.claim(f.register("w"), "short", short, 3, id)
		f.expire(grants[2])
		var rounds []int
		for range 3 {
			got, err := f.Reap(f.ctx, nil, 2)
			f.must(err)
			rounds = append(rounds, len(got.Ended))
		}
		f.equal("ended by round", rounds, []int{2, 1, 0})
		f.audit(id, 0)
	}},
	{"a worker whose stream broke died, and its leases are shortened", func(f *fixture) {
		id := f.submit("a", 1, 1)
		broken, quiet := f.register("broken"), f.register("quiet")
		epoch, err := f.OpenStream(f.ctx, broken)
		f.must(err)
		g := f.claimOne(broken, "1", long, id)
		h := f.claimOne(quiet, "1", short, id)
		f.must(f.BreakStream(f.ctx, broken, epoch, short))
		f.expire(g)
		f.expire(h)
		kinds := map[int64]job.EndKind{}
		for _, e := range f.reap() {
			kinds[e.BatchID] = e.Kind
		}
		f.equal("ends", kinds, map[int64]job.EndKind{g.BatchID: job.EndDied, h.BatchID: job.EndLost})
		if b := f.batch(g.BatchID); b.Crashes != 1 || b.Losses != 0 {
			f.Errorf("batch of the broken worker = %+v", b.Batch)
		}
		f.audit(id, 0)
	}},
	{"a lease that was granted after its session's stream broke shows that the worker lived", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		epoch, err := f.OpenStream(f.ctx, s)
		f.must(err)
		before := f.claimOne(s, "before", long, id)
		f.must(f.BreakStream(f.ctx, s, epoch, short))
		f.expire(before)
		after := f.claimOne(s, "after", short, id)
		f.expire(after)
		kinds := map[int64]job.EndKind{}
		for _, e := range f.reap() {
			kinds[e.BatchID] = e.Kind
		}
		f.equal("ends", kinds, map[int64]job.EndKind{before.BatchID: job.EndDied, after.BatchID: job.EndLost})
	}},
	{"a broken stream that came back is none", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		first, err := f.OpenStream(f.ctx, s)
		f.must(err)
		g := f.claimOne(s, "1", short, id)
		f.must(f.BreakStream(f.ctx, s, first, short))
		second, err := f.OpenStream(f.ctx, s)
		f.must(err)
		if second <= first {
			f.Errorf("stream %d after %d", second, first)
		}
		f.expire(g)
		if got := f.reap(); len(got) != 1 || got[0].Kind != job.EndLost {
			f.Errorf("ended %+v, want it lost", got)
		}
	}},
	{"two deaths at its last item end a batch, what was durable stays", func(f *fixture) {
		id := f.submit("a", 3)
		s := f.register("w")
		for i, state := range []job.BatchState{job.BatchPending, job.BatchSplit} {
			epoch, err := f.OpenStream(f.ctx, s)
			f.must(err)
			g := f.claimOne(s, string(rune('a'+i)), long, id)
			if i == 0 {
				f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(2)})
			}
			f.must(f.BreakStream(f.ctx, s, epoch, short))
			f.expire(g)
			got := f.reap()
			if len(got) != 1 || got[0].Kind != job.EndDied || got[0].State != state {
				f.Fatalf("round %d ended %+v, want state %v", i, got, state)
			}
		}
		f.equal("family", f.shown(id, f.batches(id)[0].ID), []string{
			"0 split, items 1 to 3, 2 done", "1 completed, items 1 to 2, 2 done", "2 crashed, items 3 to 3, 1 done",
		})
		if j := f.audit(id, 0); j.State != job.CompletedWithErrors || j.CrashedEver != 1 {
			f.Errorf("the job is %v, %d batches crashed", j.State, j.CrashedEver)
		}
	}},
	{"losses alone never end a batch", func(f *fixture) {
		id := f.submit("a", 3)
		s := f.register("w")
		for i := range 7 {
			g := f.claimOne(s, string(rune('a'+i)), short, id)
			f.expire(g)
			if got := f.reap(); len(got) != 1 || got[0].Kind != job.EndLost || got[0].State != job.BatchPending {
				f.Fatalf("round %d ended %+v, want it lost and pending", i, got)
			}
		}
		if b := f.batches(id)[0]; b.Losses != 7 || b.Crashes != 0 {
			f.Errorf("batch = %+v", b.Batch)
		}
		f.audit(id, 0)
	}},
	{"three losses in a row while most other sessions beat are a death", func(f *fixture) {
		id := f.submit("a", 3)
		// It is alone among those that serve its kind, so that nobody else can try.
		n := session("other")
		n.Kinds = []string{"something else"}
		other, _, err := f.RegisterSession(f.ctx, n)
		f.must(err)
		s := f.register("w")
		began := f.now()
		f.pass(began.Add(margin))
		var kinds []job.EndKind
		for i := range 7 {
			g := f.claimOne(s, string(rune('a'+i)), short, id)
			switch i {
			case 1: // given back: it does not break the row
				f.settle(ended(g, job.EndReleased))
				continue
			case 2: // the others are silent, too: it is passed over
				last := f.session(other).BeatAt
				f.pass(last.Add(last.Sub(began) + margin))
			default:
				f.touch(other)
			}
			f.expire(g)
			got := f.reap()
			if len(got) != 1 || got[0].State != job.BatchPending {
				f.Fatalf("round %d ended %+v, want one pending", i, got)
			}
			kinds = append(kinds, got[0].Kind)
			if last := got[0].Message; (got[0].Kind == job.EndDied) != (last == store.SilentMessage) {
				f.Errorf("round %d ended as %v with %q", i, got[0].Kind, last)
			}
		}
		f.equal("ends", kinds, []job.EndKind{job.EndLost, job.EndLost, job.EndLost, job.EndDied, job.EndLost, job.EndLost})
		if b := f.batches(id)[0]; b.Losses != 5 || b.Crashes != 1 {
			f.Errorf("batch = %+v", b.Batch)
		}
		f.audit(id, 0)
	}},
	{"three workers in a row that vanish with a batch, whatever was the network's doing, are a death", func(f *fixture) {
		id := f.submit("a", 3)
		var kinds []job.EndKind
		for i := range 6 {
			s := f.register(string(rune('a' + i)))
			g := f.claimOne(s, "1", short, id)
			f.expire(g)
			got := f.reap()
			if len(got) != 1 {
				f.Fatalf("round %d ended %+v", i, got)
			}
			kinds = append(kinds, got[0].Kind)
			if i == 3 {
				f.touch(s) // this one comes back
			}
			_, err := f.EndSession(f.ctx, s, "gone") // it is nobody that could try
			f.must(err)
		}
		f.equal("ends", kinds, []job.EndKind{job.EndLost, job.EndLost, job.EndDied, job.EndLost, job.EndLost, job.EndLost})
		if b := f.batches(id)[0]; b.Losses != 5 || b.Crashes != 1 {
			f.Errorf("batch = %+v", b.Batch)
		}
	}},
	{"whose stream is excused is lost, no later than it would have died", func(f *fixture) {
		id := f.submit("a", 1, 1)
		excused, newer := f.register("excused"), f.register("newer")
		grants := map[int64]store.Grant{}
		var streams []store.Stream
		for _, s := range []int64{excused, newer} {
			epoch, err := f.OpenStream(f.ctx, s)
			f.must(err)
			streams = append(streams, store.Stream{SessionID: s, Epoch: epoch})
			grants[s] = f.claimOne(s, "1", long, id)
			f.must(f.BreakStream(f.ctx, s, epoch, short))
		}
		epoch, err := f.OpenStream(f.ctx, newer)
		f.must(err)
		f.must(f.BreakStream(f.ctx, newer, epoch, short))
		before := f.batch(grants[excused].BatchID).LeaseExpiresAt
		f.must(f.ExcuseStreams(f.ctx, streams))
		if after := f.batch(grants[excused].BatchID).LeaseExpiresAt; !after.Equal(before) {
			f.Errorf("the lease ends at %v, before at %v", after, before)
		}
		for _, g := range grants {
			f.expire(g)
		}
		kinds := map[int64]job.EndKind{}
		for _, e := range f.reap() {
			kinds[e.SessionID] = e.Kind
		}
		f.equal("ends", kinds, map[int64]job.EndKind{excused: job.EndLost, newer: job.EndDied})
		f.audit(id, 0)
	}},
	{"a lease that ran out in a job being stopped is cancelled", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", short, id)
		f.stop(id)
		f.expire(g)
		if got := f.reap(); len(got) != 1 || got[0].State != job.BatchCancelled {
			f.Errorf("ended %+v, want it cancelled", got)
		}
		if j := f.audit(id, 0); j.State != job.Cancelled {
			f.Errorf("the job is %v", j.State)
		}
	}},
}
