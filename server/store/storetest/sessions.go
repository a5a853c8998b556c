package storetest

import (
	"errors"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// sessions: lives of workers, their streams and what they hold.
var sessions = []scenario{
	{"a session is what was registered", func(f *fixture) {
		want := session("w")
		want.Kinds = []string{"annotations", "ner"}
		id, list, err := f.RegisterSession(f.ctx, want)
		f.must(err)
		f.equal("ended", list, []store.Ended{})
		got, err := f.GetSession(f.ctx, id)
		f.must(err)
		if got.RegisteredAt.IsZero() || got.BeatAt.IsZero() {
			f.Errorf("registered at %v, beat at %v", got.RegisteredAt, got.BeatAt)
		}
		want.ID, want.RegisteredAt, want.BeatAt = id, got.RegisteredAt, got.BeatAt
		f.equal("session", got, want)
		if _, err := f.GetSession(f.ctx, id+1); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("unknown session: %v, want ErrNotFound", err)
		}
	}},
	{"what keeps a session from working is shown until nothing does", func(f *fixture) {
		id, other := f.register("w"), f.register("v")
		for _, trouble := range []string{"the disk is full", "the disk is full", "nobody answers", ""} {
			f.must(f.NoteTrouble(f.ctx, id, trouble))
			got, err := f.GetSession(f.ctx, id)
			f.must(err)
			f.equal("trouble", got.Trouble, trouble)
		}
		f.must(f.NoteTrouble(f.ctx, id, "a \x00 that\xff no database takes"))
		list, err := f.ListSessions(f.ctx, false, store.Page{Size: 9})
		f.must(err)
		for _, s := range list {
			if (s.Trouble != "") != (s.ID == id) {
				f.Errorf("session %d of %d and %d has the trouble %q", s.ID, id, other, s.Trouble)
			}
		}
		_, err = f.EndSession(f.ctx, id, "done")
		f.must(err)
		f.must(f.NoteTrouble(f.ctx, id, "after its end"))
	}},
	{"a worker that registers again ends its earlier session, and nobody else's", func(f *fixture) {
		id := f.submit("a", 2, 2, 2)
		first, other := f.register("w"), f.register("v")
		g := f.claimOne(first, "1", long, id)
		f.beat(store.Beat{Lease: g.Lease, Outcomes: stored(1)})
		h := f.claimOne(other, "1", long, id)
		second, list, err := f.RegisterSession(f.ctx, session("w"))
		f.must(err)
		if second == first {
			f.Fatalf("registered again as the same session %d", first)
		}
		f.equal("ended", list, []store.Ended{{
			Lease: g.Lease, JobID: id, Kind: job.EndDied, Message: store.ReplacedMessage, State: job.BatchPending,
			Decision: "offered to other workers for 10s: it died on one worker only", WorkerID: "w", Documents: []string{document(1), document(2)}, Total: 2,
		}})
		if _, err := f.GetSession(f.ctx, first); !errors.Is(err, store.ErrSessionEnded) {
			f.Errorf("the first session: %v, want ErrSessionEnded", err)
		}
		if a := f.beat(store.Beat{Lease: g.Lease}); !a.Lost {
			f.Errorf("the first session still renews")
		}
		if a := f.beat(store.Beat{Lease: h.Lease}); a.Lost {
			f.Errorf("another worker's lease was ended")
		}
		f.settle(completed(h))
		next := f.claimOne(other, "2", long, id)
		if next.BatchID != g.BatchID || next.Attempt != 2 || next.DoneItems != 1 {
			f.Errorf("grant = %+v, want the batch again after its first item", next)
		}
		f.audit(id, 0)
	}},
	{"a session that deregisters releases what it holds", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, id)
		f.settle(completed(grants[0]))
		list, err := f.EndSession(f.ctx, s, "shut down")
		f.must(err)
		if len(list) != 1 || list[0].Lease != grants[1].Lease || list[0].Kind != job.EndReleased || list[0].State != job.BatchPending {
			f.Errorf("ended %+v", list)
		}
		again, err := f.EndSession(f.ctx, s, "again")
		f.must(err)
		f.equal("ended again", again, []store.Ended{})
		if b := f.batch(grants[1].BatchID); b.Crashes+b.Losses+b.Failures != 0 || b.State != job.BatchPending {
			f.Errorf("released batch = %+v", b.Batch)
		}
		f.audit(id, 0)
		all, err := f.ListSessions(f.ctx, true, store.Page{Size: 10})
		f.must(err)
		if len(all) != 1 || all[0].EndedAt.IsZero() || all[0].EndReason != "shut down" {
			f.Errorf("sessions = %+v", all)
		}
	}},
	{"a stream of before cannot break a newer one", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		first, err := f.OpenStream(f.ctx, s)
		f.must(err)
		second, err := f.OpenStream(f.ctx, s)
		f.must(err)
		g := f.claimOne(s, "1", long, id)
		before := f.batch(g.BatchID)
		f.must(f.BreakStream(f.ctx, s, first, short))
		f.equal("batch", f.batch(g.BatchID), before)
		f.must(f.BreakStream(f.ctx, s, second, 2*long))
		f.equal("batch, which a break never lengthens", f.batch(g.BatchID), before)
		f.must(f.BreakStream(f.ctx, s, second, short))
		if b := f.batch(g.BatchID); !b.LeaseExpiresAt.Before(before.LeaseExpiresAt) {
			f.Errorf("the lease still ends at %v", b.LeaseExpiresAt)
		}
	}},
	{"a session that has ended opens no stream", func(f *fixture) {
		s := f.register("w")
		_, err := f.EndSession(f.ctx, s, "bye")
		f.must(err)
		for _, id := range []int64{s, 12345} {
			if _, err := f.OpenStream(f.ctx, id); !errors.Is(err, store.ErrSessionEnded) {
				f.Errorf("session %d: %v, want ErrSessionEnded", id, err)
			}
			f.must(f.BreakStream(f.ctx, id, 1, short))
		}
		f.touch(s, 12345)
	}},
	{"beats are noted", func(f *fixture) {
		s, other := f.register("w"), f.register("v")
		before, err := f.GetSession(f.ctx, s)
		f.must(err)
		untouched, err := f.GetSession(f.ctx, other)
		f.must(err)
		f.pass(before.BeatAt.Add(short))
		f.touch(s)
		f.wait("the beat to be noted", func() bool {
			got, err := f.GetSession(f.ctx, s)
			f.must(err)
			return got.BeatAt.After(before.BeatAt)
		})
		got, err := f.GetSession(f.ctx, other)
		f.must(err)
		f.equal("another session", got, untouched)
	}},
	{"a session counts what it runs, completed and crashed", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1)
		s := f.register("w")
		grants := f.claim(s, "1", long, 5, id)
		_, _, err := f.Settle(f.ctx, []store.Settlement{
			completed(grants[0]), completed(grants[1]), ended(grants[2], job.EndDied), ended(grants[3], job.EndReleased),
		})
		f.must(err)
		f.fold(id)
		got, err := f.GetSession(f.ctx, s)
		f.must(err)
		f.equal("running, completed, crashed", []int64{got.Running, got.Completed, got.Crashed}, []int64{1, 2, 1})
	}},
	{"sessions that fell silent are ended, what they hold is lost", func(f *fixture) {
		id := f.submit("a", 1, 1)
		silent, alive := f.register("silent"), f.register("alive")
		g, h := f.claimOne(silent, "1", long, id), f.claimOne(alive, "1", long, id)
		none, err := f.EndSilentSessions(f.ctx, long)
		f.must(err)
		f.equal("ended within the hour", none, []store.Ended{})
		last, err := f.GetSession(f.ctx, silent)
		f.must(err)
		f.pass(last.BeatAt.Add(margin))
		f.touch(alive)
		list, err := f.EndSilentSessions(f.ctx, f.now().Sub(last.BeatAt)-time.Millisecond)
		f.must(err)
		f.equal("ended", list, []store.Ended{{
			Lease: g.Lease, JobID: id, Kind: job.EndLost, Message: store.LostMessage, State: job.BatchPending,
			WorkerID: "silent", Documents: []string{document(1)}, Total: 1,
		}})
		if _, err := f.GetSession(f.ctx, silent); !errors.Is(err, store.ErrSessionEnded) {
			f.Errorf("the silent session: %v, want ErrSessionEnded", err)
		}
		if a := f.beat(store.Beat{Lease: h.Lease}); a.Lost {
			f.Errorf("the lease of the living session was ended")
		}
		f.audit(id, 0)
	}},
	{"sessions are listed newest first, in pages", func(f *fixture) {
		a, b, c := f.register("a"), f.register("b"), f.register("c")
		_, err := f.EndSession(f.ctx, b, "bye")
		f.must(err)
		for _, k := range []struct {
			name string
			all  bool
			page store.Page
			want []int64
		}{
			{"living", false, store.Page{Size: 9}, []int64{c, a}},
			{"all", true, store.Page{Size: 9}, []int64{c, b, a}},
			{"first page", true, store.Page{Size: 2}, []int64{c, b}},
			{"second page", true, store.Page{Size: 2, After: b}, []int64{a}},
			{"last page", true, store.Page{Size: 2, After: a}, nil},
		} {
			list, err := f.ListSessions(f.ctx, k.all, k.page)
			f.must(err)
			var got []int64
			for _, s := range list {
				got = append(got, s.ID)
			}
			f.equal(k.name, got, k.want)
		}
	}},
	{"a session that is drained takes no more, and keeps what it holds", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s, other := f.register("w"), f.register("v")
		g := f.claimOne(s, "1", long, id)
		f.equal("drained before", f.touch(s, other), []int64{})
		if _, err := f.DrainSession(f.ctx, "x"); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("drain of an unknown worker: %v, want ErrNotFound", err)
		}
		first, err := f.DrainSession(f.ctx, "w")
		f.must(err)
		if first.ID != s || first.DrainedAt.IsZero() || !first.EndedAt.IsZero() || first.Running != 1 {
			f.Errorf("drained session = %+v", first)
		}
		again, err := f.DrainSession(f.ctx, "w")
		f.must(err)
		f.equal("drained again", again, first)
		f.equal("drained", f.touch(s, other), []int64{s})

		got, err := f.Claim(f.ctx, long, []store.ClaimRequest{request(s, "2", 1), request(other, "2", 1), request(s, "1", 1)},
			[]store.Turn{{JobID: id, Most: 3}})
		f.must(err)
		if !errors.Is(got.Errs[0], store.ErrSessionDrained) || got.Errs[1] != nil || got.Errs[2] != nil {
			f.Errorf("errors = %v, want only the first drained", got.Errs)
		}
		f.equal("grants, the last one repeated", []int{len(got.Grants[0]), len(got.Grants[1]), len(got.Grants[2])}, []int{0, 1, 1})
		if a := f.beat(store.Beat{Lease: g.Lease}); a.Lost {
			f.Errorf("a drained session does not renew")
		}
		f.equal("settled", f.settle(completed(g)).State, job.BatchCompleted)
		if _, err := f.EndSession(f.ctx, s, "drained"); err != nil {
			f.Errorf("end: %v", err)
		}
		if _, err := f.DrainSession(f.ctx, "w"); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("drain of a worker that has ended: %v, want ErrNotFound", err)
		}
		next := f.register("w")
		f.equal("the next session of the worker", len(f.claim(next, "1", long, 1, id)), 1)
		f.audit(id, 0)
	}},
}
