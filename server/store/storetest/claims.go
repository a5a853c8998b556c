package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// ordinals of grants, in their order.
func ordinals(grants []store.Grant) []int32 {
	var o []int32
	for _, g := range grants {
		o = append(o, g.Ordinal)
	}
	return o
}

// claims: who gets what, in which order, and how often.
var claims = []scenario{
	{"a grant says all about its batch and lease", func(f *fixture) {
		id := f.submit("a", 2, 3)
		s := f.register("w")
		grants := f.claim(s, "r", long, 5, id)
		if len(grants) != 2 {
			f.Fatalf("%d grants, want 2", len(grants))
		}
		rows := f.batches(id)
		for i, g := range grants {
			if g.Remaining <= long-time.Minute || g.Remaining > long {
				f.Errorf("remaining %v of %v", g.Remaining, long)
			}
			g.Remaining = 0
			f.rides(&g)
			f.equal("grant", g, store.Grant{
				Lease: job.Lease{BatchID: rows[i].ID, Attempt: 1, SessionID: s}, JobID: id, Ordinal: int32(i),
				FirstItem: rows[i].FirstItem, ItemCount: rows[i].ItemCount,
			})
			if b := rows[i]; b.State != job.BatchRunning || b.Attempt != 1 || b.SessionID != s || b.WorkerID != "w" || b.ClaimedAt.IsZero() {
				f.Errorf("claimed batch = %+v", b)
			}
		}
		j := f.audit(id, 0)
		if j.ItemsInFlight != 5 || j.Batches[job.BatchRunning] != 2 || j.StartedAt.IsZero() {
			f.Errorf("counters after the claim = %+v, started %v", j.Counters, j.StartedAt)
		}
	}},
	{"fresh batches come in the order of the upload, each once", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1)
		s := f.register("w")
		f.equal("first claim", ordinals(f.claim(s, "1", long, 2, id)), []int32{0, 1})
		f.equal("second claim", ordinals(f.claim(s, "2", long, 2, id)), []int32{2, 3})
		f.equal("third claim", ordinals(f.claim(s, "3", long, 2, id)), []int32{4})
		f.equal("fourth claim", ordinals(f.claim(s, "4", long, 2, id)), []int32{})
	}},
	{"turns give in their order what they may", func(f *fixture) {
		a, b := f.submit("a", 1, 1, 1), f.submit("b", 1, 1, 1)
		s := f.register("w")
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "r", 4)}, []store.Turn{
			{JobID: b, Most: 1}, {JobID: a, Most: 9},
		})
		f.must(err)
		var order [][2]int64
		for _, g := range got.Grants[0] {
			order = append(order, [2]int64{g.JobID, int64(g.Ordinal)})
		}
		f.equal("job and ordinal", order, [][2]int64{{b, 0}, {a, 0}, {a, 1}, {a, 2}})
		f.equal("took", got.Took, map[int64]store.Took{
			b: {Batches: 1, Fresh: 1, Last: 0}, a: {Batches: 3, Fresh: 3, Last: 2}})
	}},
	{"a turn that is exhausted says so", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		f.claim(s, "1", long, 1, id)
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "2", 3)}, []store.Turn{{JobID: id, Most: 3}})
		f.must(err)
		if took, ok := got.Took[id]; !ok || took.Batches != 0 {
			f.Errorf("took %+v (%v), want an entry with none", took, ok)
		}
	}},
	{"no fresh batch before the floor is taken", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1)
		s := f.register("w")
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "1", 1)}, []store.Turn{{JobID: id, Floor: 2, Most: 1}})
		f.must(err)
		f.equal("from floor 2", ordinals(got.Grants[0]), []int32{2})
		f.equal("took", got.Took, map[int64]store.Took{id: {Batches: 1, Fresh: 1, Last: 2}})
		f.equal("from the start", ordinals(f.claim(s, "2", long, 9, id)), []int32{0, 1, 3})
	}},
	{"no request gets more than it asked for", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1, 1)
		s := f.register("w")
		f.settle(ended(f.claimOne(s, "0", long, id), job.EndReleased))
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "1", 1), request(s, "2", 2), request(s, "3", 0)},
			[]store.Turn{{JobID: id, Most: 10}})
		f.must(err)
		f.equal("grants", []int{len(got.Grants[0]), len(got.Grants[1]), len(got.Grants[2])}, []int{1, 2, 0})
	}},
	{"requests that wait together share", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1)
		v, w := f.register("v"), f.register("w")
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(v, "r", 4), request(w, "r", 4), request(v, "s", 1)},
			[]store.Turn{{JobID: id, Most: 9}})
		f.must(err)
		f.equal("first", ordinals(got.Grants[0]), []int32{0, 3})
		f.equal("second", ordinals(got.Grants[1]), []int32{1, 4})
		f.equal("third", ordinals(got.Grants[2]), []int32{2})
		for i, g := range [][]store.Grant{got.Grants[0], got.Grants[1]} {
			for _, g := range g {
				if want := []int64{v, w}[i]; g.SessionID != want {
					f.Errorf("request %d got a lease of session %d, want %d", i, g.SessionID, want)
				}
			}
		}
		f.audit(id, 0)
	}},
	{"a repeated request gets the same leases", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		v, w := f.register("v"), f.register("w")
		first := f.claim(v, "r", long, 2, id)
		again := f.claim(v, "r", long, 2, id)
		for i := range again {
			if !again[i].Repeated || again[i].Remaining <= 0 || again[i].Remaining > long {
				f.Errorf("repeated grant = %+v", again[i])
			}
			again[i].Repeated, again[i].Remaining = false, first[i].Remaining
			f.rides(&again[i])
			f.rides(&first[i])
		}
		f.equal("repeated", again, first)
		f.equal("the same id of another session", ordinals(f.claim(w, "r", long, 2, id)), []int32{2})
		f.audit(id, 0)
	}},
	{"a repeated request gets only what it still holds", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s := f.register("w")
		first := f.claim(s, "r", long, 2, id)
		f.settle(completed(first[0]))
		f.equal("after one was settled", ordinals(f.claim(s, "r", long, 2, id)), []int32{1})
	}},
	{"a request twice in one group is one", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s := f.register("w")
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "r", 1), request(s, "r", 1)},
			[]store.Turn{{JobID: id, Most: 9}})
		f.must(err)
		f.equal("first", ordinals(got.Grants[0]), []int32{0})
		f.equal("second", ordinals(got.Grants[1]), []int32{0})
		if got.Grants[0][0].Repeated || !got.Grants[1][0].Repeated {
			f.Errorf("repeated: %v and %v, want the second alone", got.Grants[0][0].Repeated, got.Grants[1][0].Repeated)
		}
		f.audit(id, 0)
	}},
	{"ended and unknown sessions get nothing, others do", func(f *fixture) {
		id := f.submit("a", 1, 1)
		gone, here := f.register("gone"), f.register("here")
		_, err := f.EndSession(f.ctx, gone, "done")
		f.must(err)
		got, err := f.Claim(f.ctx, long,
			[]store.ClaimRequest{request(gone, "r", 1), request(here, "r", 1), request(12345, "r", 1)},
			[]store.Turn{{JobID: id, Most: 3}})
		f.must(err)
		if !errors.Is(got.Errs[0], store.ErrSessionEnded) || got.Errs[1] != nil || !errors.Is(got.Errs[2], store.ErrSessionEnded) {
			f.Errorf("errors = %v, want the session ended, none, ended", got.Errs)
		}
		f.equal("grants", []int{len(got.Grants[0]), len(got.Grants[1]), len(got.Grants[2])}, []int{0, 1, 0})
		f.audit(id, 0)
	}},
	{"returned batches come before fresh ones", func(f *fixture) {
		id, other := f.submit("a", 1, 1, 1), f.submit("b", 1)
		s := f.register("w")
		first := f.claim(s, "1", long, 2, id)
		f.settle(ended(first[1], job.EndReleased))
		f.settle(ended(f.claimOne(s, "b", long, other), job.EndReleased))
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "2", 2)}, []store.Turn{{JobID: id, Most: 2}})
		f.must(err)
		f.equal("ordinals", ordinals(got.Grants[0]), []int32{1, 2})
		if g := got.Grants[0][0]; g.Attempt != 2 {
			f.Errorf("the returned batch is granted as attempt %d, want 2", g.Attempt)
		}
		f.equal("took", got.Took, map[int64]store.Took{id: {Batches: 2, Fresh: 1, Last: 2}})
		none, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "3", 2)}, []store.Turn{{JobID: other}})
		f.must(err)
		f.equal("by a turn that may give none", ordinals(none.Grants[0]), []int32{})
		f.equal("took", none.Took, map[int64]store.Took{})
	}},
	{"returned batches wait for their job's turn, and count within it", func(f *fixture) {
		a, b := f.submit("a", 1, 1, 1), f.submit("b", 1, 1, 1)
		s := f.register("w")
		for _, g := range f.claim(s, "1", long, 2, b) {
			f.settle(ended(g, job.EndReleased))
		}
		f.settle(ended(f.claimOne(s, "2", long, a), job.EndReleased))
		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "3", 5)}, []store.Turn{
			{JobID: a, Most: 2}, {JobID: b, Most: 5},
		})
		f.must(err)
		var order [][3]int64
		for _, g := range got.Grants[0] {
			order = append(order, [3]int64{g.JobID, int64(g.Ordinal), int64(g.Attempt)})
		}
		f.equal("job, ordinal and attempt", order, [][3]int64{{a, 0, 2}, {a, 1, 1}, {b, 0, 2}, {b, 1, 2}, {b, 2, 1}})
		f.equal("took", got.Took, map[int64]store.Took{
			a: {Batches: 2, Fresh: 1, Last: 1}, b: {Batches: 3, Fresh: 1, Last: 2}})
		f.audit(a, 0)
		f.audit(b, 0)
	}},
	{"a retry is not granted before its backoff has passed", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, id)
		retry := ended(grants[0], job.EndFailed)
		retry.Retryable = true
		f.settle(retry)
		f.settle(ended(grants[1], job.EndReleased))
		b := f.batches(id)[0]
		if b.State != job.BatchPending || !b.AvailableAt.After(b.ClaimedAt) {
			f.Fatalf("the batch is %v and available at %v", b.State, b.AvailableAt)
		}
		var retried store.Grant
		returned := map[int32]bool{}
		f.wait("the retry", func() bool {
			for _, g := range f.claim(s, fmt.Sprint("again ", len(returned)), long, 2, id) {
				returned[g.Ordinal] = true
				retried = g
			}
			if now := f.now(); returned[0] && now.Before(b.AvailableAt) {
				f.Errorf("granted at %v, before %v", now, b.AvailableAt)
			}
			return returned[0]
		})
		if retried.Attempt != 2 || !returned[1] {
			f.Errorf("granted attempt %d, want 2; granted %v, want both", retried.Attempt, returned)
		}
	}},
	{"done items go along with the next grant", func(f *fixture) {
		id := f.submit("a", 5)
		s := f.register("w")
		g := f.claimOne(s, "1", long, id)
		f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(2)})
		end := ended(g, job.EndReleased)
		end.From, end.Outcomes = 2, stored(1)
		f.settle(end)
		if next := f.claimOne(s, "2", long, id); next.DoneItems != 3 || next.Attempt != 2 {
			f.Errorf("grant = %+v, want 3 done items in attempt 2", next)
		}
		if j := f.audit(id, 0); j.ItemsInFlight != 2 {
			f.Errorf("%d items in flight, want 2", j.ItemsInFlight)
		}
	}},
	{"jobs being stopped give nothing", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		f.settle(ended(f.claimOne(s, "1", long, id), job.EndReleased))
		f.stop(id)
		f.equal("grants", ordinals(f.claim(s, "2", long, 5, id)), []int32{})
		f.sweep(id)
		f.audit(id, 0)
		f.equal("grants after the end", ordinals(f.claim(s, "3", long, 5, id)), []int32{})
	}},
	{"unknown jobs give nothing", func(f *fixture) {
		f.equal("grants", ordinals(f.claim(f.register("w"), "1", long, 5, 12345)), []int32{})
	}},
	{"the frame is read under a live lease only", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		g := f.claimOne(s, "1", long, id)
		data, err := f.Frame(f.ctx, g.Lease)
		f.must(err)
		f.equal("frame", data, frame(1, 1))
		for _, l := range []job.Lease{
			{BatchID: g.BatchID, Attempt: 2, SessionID: s},
			{BatchID: g.BatchID, Attempt: 1, SessionID: s + 1},
			{BatchID: g.BatchID + 1, Attempt: 1, SessionID: s},
		} {
			if _, err := f.Frame(f.ctx, l); !errors.Is(err, store.ErrNotFound) {
				f.Errorf("frame of %+v: %v, want ErrNotFound", l, err)
			}
		}
		f.settle(completed(g))
		if _, err := f.Frame(f.ctx, g.Lease); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("frame after the end: %v, want ErrNotFound", err)
		}
	}},
}
