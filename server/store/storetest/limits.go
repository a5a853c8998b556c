package storetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// limits: a job that goes wrong too far is stopped as failed, and says why.
var limits = []scenario{
	{"too many bad items stop a job", func(f *fixture) {
		id, s := f.limited("a", job.Policy{MaxBadItems: 2, MaxAttempts: 1}, 2, 2, 2), f.register("w")
		f.spoil(s, id, job.EndFailed)
		f.equal("after 2 of 3", f.audit(id, 0).State, job.Running)
		f.spoil(s, id, job.EndDied)
		j := f.audit(id, 0)
		if j.State != job.Cancelling || j.StopAs != job.Failed ||
			j.Reason != "3 of the first 4 items failed or crashed: max_bad_items allows 2" {
			f.Errorf("the job is %v as %v because %q", j.State, j.StopAs, j.Reason)
		}
		f.equal("as it is read", f.job(id), j)
		ids, err := f.CancellingJobs(f.ctx)
		f.must(err)
		f.equal("cancelling jobs", ids, []int64{id})
		f.sweep(id)
		j = f.audit(id, 0)
		if j.State != job.Failed || j.ItemOutcomes[job.ItemCancelled] != 2 {
			f.Errorf("ended as %v with %v", j.State, j.ItemOutcomes)
		}
	}},
	{"too many bad items in per cent stop a job once 100 have ended", func(f *fixture) {
		id, s := f.limited("a", job.Policy{MaxBadPercent: 10, MaxAttempts: 1}, 50, 50, 40, 50), f.register("w")
		f.spoil(s, id, job.EndFailed)
		f.equal("after 50 of 50", f.audit(id, 0).State, job.Running)
		f.settle(completed(f.claimOne(s, "good", long, id)))
		j := f.audit(id, 0)
		if want := "50 of the first 100 items failed: max_bad_percent allows 10 %"; j.State != job.Cancelling || j.Reason != want {
			f.Errorf("the job is %v because %q, want %q", j.State, j.Reason, want)
		}
	}},
	{"a limit that is passed at the end makes the end a failure", func(f *fixture) {
		id, s := f.limited("a", job.Policy{MaxBadItems: 1, MaxAttempts: 1}, 1, 1), f.register("w")
		f.spoil(s, id, job.EndDied)
		f.spoil(s, id, job.EndDied)
		j := f.audit(id, 0)
		if want := "2 of the first 2 items crashed: max_bad_items allows 1"; j.State != job.Failed || j.Reason != want {
			f.Errorf("ended as %v because %q, want %q", j.State, j.Reason, want)
		}
	}},
	{"a strict job stops at the first item that is neither stored nor skipped, and names it", func(f *fixture) {
		for _, c := range []struct {
			name    string
			kind    job.EndKind
			outcome job.Outcome
			want    string
		}{
			{"rejected", job.EndCompleted, job.Rejected, "item 5 (batch %d) was rejected, and the job is strict"},
			{"missing", job.EndCompleted, job.DocumentMissing, "item 5 (batch %d) is of a document that its source does not have, and the job is strict"},
			{"failed", job.EndFailed, 0, "item 5 (batch %d) failed, and the job is strict"},
			{"crashed", job.EndDied, 0, "item 6 (batch %d) crashed, and the job is strict"},
		} {
			id, s := f.limited(c.name, job.Policy{Strict: true, MaxAttempts: 1}, 3, 3), f.register("w-"+c.name)
			first := f.claimOne(s, "1", long, id)
			good := completed(first)
			good.Outcomes = []job.Run{{Count: 1, Outcome: job.Skipped}, {Count: 2, Outcome: job.StoredWarnings}}
			f.settle(good)
			f.equal("after good items", f.audit(id, 0).State, job.Running)
			g := f.claimOne(s, "2", long, id)
			bad := store.Settlement{Lease: g.Lease, End: job.End{Kind: c.kind, Outcomes: stored(1)}}
			if c.outcome != 0 {
				bad.Outcomes = append(bad.Outcomes, job.Run{Count: 1, Outcome: c.outcome}, job.Run{Count: 1, Outcome: job.Stored})
			}
			if c.kind == job.EndDied {
				f.crash(s, g)
			} else {
				f.settle(bad)
			}
			batch := g.BatchID
			if c.kind == job.EndDied {
				batch = f.family(id, g.BatchID)[2].ID // split, done, culprit
			}
			if j, want := f.audit(id, 0), fmt.Sprintf(c.want, batch); j.State != job.Failed || j.Reason != want {
				f.Errorf("%s: ended as %v because %q, want %q", c.name, j.State, j.Reason, want)
			}
		}
	}},
	{"a strict job stops by what a beat reports, and at an item that ingest rejects", func(f *fixture) {
		id := f.limited("a", job.Policy{Strict: true}, 3)
		g := f.claimOne(f.register("w"), "1", long, id)
		f.beat(store.Beat{Lease: g.Lease, Outcomes: []job.Run{{Count: 1, Outcome: job.Stored}, {Count: 1, Outcome: job.Rejected}}})
		j := f.audit(id, 0)
		if !strings.HasPrefix(j.Reason, "item 2 ") || j.State != job.Cancelling {
			f.Errorf("the job is %v because %q", j.State, j.Reason)
		}
		n := header("b")
		n.Policy.Strict = true
		up, err := f.OpenUpload(f.ctx, n)
		f.must(err)
		group := cut(up, 2)
		group.Rejected = []store.RejectedItems{{FirstItem: 3, Items: 1, Frame: []byte("x")}}
		group.Position.Item++
		group.Position.Offset += 10
		up = f.commit(up, group)
		j = f.audit(up.JobID, 1)
		if want := "item 3 was rejected, and the job is strict"; j.State != job.Cancelling || j.Reason != want {
			f.Errorf("the job is %v because %q, want %q", j.State, j.Reason, want)
		}
		if err := f.CommitIngest(f.ctx, cut(up, 1)); !errors.Is(err, store.ErrJobStopped) {
			f.Errorf("the next group: %v, want ErrJobStopped", err)
		}
		f.sweep(up.JobID)
		f.equal("state", f.audit(up.JobID, 1).State, job.Failed)
	}},
	{"a limit does not count what a retry leaves as it is, nor what it takes away", func(f *fixture) {
		id, s := f.limited("a", job.Policy{MaxBadItems: 3, MaxAttempts: 1}, 2, 2, 2, 2, 2), f.register("w")
		f.spoil(s, id, job.EndFailed)
		f.spoil(s, id, job.EndFailed)
		f.fold(id)
		f.sweep(id)
		f.equal("state", f.audit(id, 0).State, job.Failed)

		f.retry(id, store.Retry{RequestID: "1", States: []job.BatchState{job.BatchCancelled}})
		f.steps(id)
		f.equal("with 4 bad items left", f.audit(id, 0).State, job.Running)
		f.spoil(s, id, job.EndFailed)
		f.equal("and 2 more", f.audit(id, 0).State, job.Running)
		f.spoil(s, id, job.EndFailed)
		j := f.audit(id, 0)
		if want := "4 of the first 8 items failed in run 2: max_bad_items allows 3"; j.State != job.Cancelling || j.Reason != want {
			f.Errorf("the job is %v because %q, want %q", j.State, j.Reason, want)
		}
		f.sweep(id)
		f.equal("state", f.audit(id, 0).State, job.Failed)

		f.retry(id, store.Retry{RequestID: "2"})
		f.equal("before the steps", f.audit(id, 0).State, job.Running)
		f.steps(id)
		j = f.audit(id, 0)
		if j.State != job.Running || j.ItemsEnded() != 0 {
			f.Errorf("the job is %v with %d ended items", j.State, j.ItemsEnded())
		}
	}},
	{"a strict job that is retried goes on to its next fault", func(f *fixture) {
		id, s := f.limited("a", job.Policy{Strict: true, MaxAttempts: 1}, 1, 1, 1), f.register("w")
		bad := completed(f.claimOne(s, "1", long, id))
		bad.Outcomes = []job.Run{{Count: 1, Outcome: job.Rejected}}
		f.settle(bad)
		f.fold(id)
		f.sweep(id)
		f.equal("state", f.fold(id).State, job.Failed)
		f.retry(id, store.Retry{RequestID: "1"})
		f.steps(id)
		f.settle(completed(f.claimOne(s, "2", long, id)))
		f.equal("after a good item", f.audit(id, 0).State, job.Running)
		g := f.claimOne(s, "3", long, id)
		bad = completed(g)
		bad.Outcomes = []job.Run{{Count: 1, Outcome: job.Rejected}}
		f.settle(bad)
		j, want := f.audit(id, 0), fmt.Sprintf("the item at position 1 of batch %d was rejected, and the job is strict", g.BatchID)
		if j.State != job.Failed || j.Reason != want {
			f.Errorf("ended as %v because %q, want %q", j.State, j.Reason, want)
		}
	}},
}

// limited uploads a whole job with a policy.
func (f *fixture) limited(id string, p job.Policy, items ...int32) int64 {
	f.Helper()
	n := header(id)
	n.Policy = p
	up, err := f.OpenUpload(f.ctx, n)
	f.must(err)
	g := cut(up, items...)
	g.Finished = true
	f.commit(up, g)
	return up.JobID
}

// spoil has the next batch of a job end in a way: failed with nothing done, or crashed at its last item.
func (f *fixture) spoil(session, id int64, kind job.EndKind) {
	f.Helper()
	g := f.claimOne(session, fmt.Sprint("spoil ", f.now().UnixNano()), long, id)
	if kind == job.EndDied {
		f.crash(session, g)
		return
	}
	f.settle(ended(g, kind))
}
