package storetest

import (
	"errors"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// pausing: a paused job gives nothing, wants back what is held, and loses nothing.
var pausing = []scenario{
	{"a paused job gives nothing until it is resumed", func(f *fixture) {
		id, other := f.submit("a", 1, 1), f.submit("b", 1)
		s := f.register("w")
		f.settle(ended(f.claimOne(s, "1", long, id), job.EndReleased)) // one came back, one is fresh
		before := f.fold(id)
		j, err := f.PauseJob(f.ctx, id)
		f.must(err)
		if j.State != job.Paused || j.Revision <= before.Revision || !j.EndedAt.IsZero() {
			f.Errorf("paused: %v at revision %d after %d", j.State, j.Revision, before.Revision)
		}
		again, err := f.PauseJob(f.ctx, id)
		f.must(err)
		f.equal("paused again", again, j)
		list, err := f.ClaimableJobs(f.ctx)
		f.must(err)
		if len(list) != 1 || list[0].ID != other {
			f.Errorf("claimable: %+v, want %d alone", list, other)
		}
		if grants := f.claim(s, "2", long, 3, id, other); len(grants) != 1 || grants[0].JobID != other {
			f.Errorf("claimed %+v, want the batch of %d alone", grants, other)
		}
		j, err = f.ResumeJob(f.ctx, id)
		f.must(err)
		if j.State != job.Running || j.Revision <= again.Revision {
			f.Errorf("resumed: %v at revision %d after %d", j.State, j.Revision, again.Revision)
		}
		again, err = f.ResumeJob(f.ctx, id)
		f.must(err)
		f.equal("resumed again", again, j)
		if grants := f.claim(s, "3", long, 3, id); len(grants) != 2 {
			f.Errorf("%d batches after it was resumed, want 2", len(grants))
		}
		f.audit(id, 0)
	}},
	{"beats of a paused job are told to give back, and what is given back waits", func(f *fixture) {
		id := f.submit("a", 3, 2)
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, id)
		_, err := f.PauseJob(f.ctx, id)
		f.must(err)
		for _, b := range []store.Beat{{Lease: grants[0].Lease}, {Lease: grants[0].Lease, Outcomes: stored(1)}} {
			if a := f.beat(b); !a.Paused || a.Cancelled || a.Lost {
				f.Errorf("beat of a paused job: %+v", a)
			}
		}
		back := ended(grants[0], job.EndReleased)
		back.From = 1
		f.equal("given back", f.settle(back).State, job.BatchPending)
		f.equal("failed", f.settle(store.Settlement{Lease: grants[1].Lease, End: job.End{
			Kind: job.EndFailed, Retryable: true, Message: "no"}}).State, job.BatchPending)
		j := f.audit(id, 0)
		if j.State != job.Paused || j.Batches[job.BatchPending] != 2 || j.ItemOutcomes[job.Stored] != 1 {
			f.Errorf("the job is %v with %v and %v", j.State, j.Batches, j.ItemOutcomes)
		}
		n, err := f.SweepJob(f.ctx, id, 10)
		f.must(err)
		f.equal("swept", n, 0)
		if _, err = f.ResumeJob(f.ctx, id); err != nil {
			f.Fatalf("resume: %v", err)
		}
		if a := f.beat(store.Beat{Lease: f.claimOne(s, "2", long, id).Lease}); a.Paused {
			f.Errorf("beat after the resume: %+v", a)
		}
	}},
	{"a paused job whose last batch is settled ends", func(f *fixture) {
		id := f.submit("a", 2)
		g := f.claimOne(f.register("w"), "1", long, id)
		_, err := f.PauseJob(f.ctx, id)
		f.must(err)
		f.settle(completed(g))
		f.equal("state", f.audit(id, 0).State, job.Succeeded)
	}},
	{"a paused job is stopped like a running one", func(f *fixture) {
		id := f.submit("a", 1, 1)
		f.settle(ended(f.claimOne(f.register("w"), "1", long, id), job.EndReleased))
		_, err := f.PauseJob(f.ctx, id)
		f.must(err)
		if err := f.DeleteJob(f.ctx, id); !errors.Is(err, store.ErrJobOpen) {
			f.Errorf("delete: %v, want ErrJobOpen", err)
		}
		f.stop(id)
		f.sweep(id)
		f.equal("state", f.audit(id, 0).State, job.Cancelled)
	}},
	{"what is being stopped, has ended or is unknown is neither paused nor resumed", func(f *fixture) {
		stopped, over := f.submit("a", 1), f.submit("b")
		f.stop(stopped)
		f.equal("state", f.fold(over).State, job.Succeeded)
		for id, want := range map[int64]error{stopped: store.ErrJobStopped, over: store.ErrJobStopped, 12345: store.ErrNotFound} {
			if _, err := f.PauseJob(f.ctx, id); !errors.Is(err, want) {
				f.Errorf("pause %d: %v, want %v", id, err, want)
			}
			if _, err := f.ResumeJob(f.ctx, id); !errors.Is(err, want) {
				f.Errorf("resume %d: %v, want %v", id, err, want)
			}
		}
	}},
	{"an upload goes on while its job is paused, and is not abandoned before it is resumed", func(f *fixture) {
		up := f.open("a")
		up = f.commit(up, cut(up, 1))
		_, err := f.PauseJob(f.ctx, up.JobID)
		f.must(err)
		up = f.commit(up, cut(up, 2))
		f.pass(f.now().Add(50 * time.Millisecond))
		ids, err := f.AbandonUploads(f.ctx, 50*time.Millisecond)
		f.must(err)
		f.equal("abandoned while paused", ids, []int64{})
		_, err = f.ResumeJob(f.ctx, up.JobID)
		f.must(err)
		ids, err = f.AbandonUploads(f.ctx, patient)
		f.must(err)
		f.equal("abandoned at once", ids, []int64{})
		g := cut(up, 1)
		g.Finished = true
		f.commit(up, g)
		f.equal("items", f.audit(up.JobID, 0).ItemsTotal, int64(4))
	}},
	{"what waits of a paused job stands in nobody's way", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1)
		s := f.register("w")
		for _, g := range f.claim(s, "1", long, 4, id) {
			f.settle(ended(g, job.EndReleased))
		}
		_, err := f.PauseJob(f.ctx, id)
		f.must(err)
		other := f.submit("b", 1, 1)
		f.settle(ended(f.claimOne(s, "2", long, other), job.EndReleased))
		grants := f.claim(s, "3", long, 2, id, other)
		if len(grants) != 2 || grants[0].JobID != other || grants[0].Attempt != 2 || grants[1].JobID != other {
			f.Errorf("claimed %+v, want both of %d", grants, other)
		}
	}},
}
