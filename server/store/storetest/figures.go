package storetest

import (
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// measure reads the figures, with floors of an earlier reading.
func (f *fixture) measure(floors map[int64]int32) store.Figures {
	f.Helper()
	got, err := f.Figures(f.ctx, store.FiguresQuery{Window: time.Hour, Silent: time.Hour, Floors: floors})
	f.must(err)
	return got
}

// ofKind is a header of an upload of another kind.
func ofKind(id, kind string) store.NewJob {
	h := header(id)
	h.Kind = kind
	return h
}

// figures: what is measured of the whole database.
var figures = []scenario{
	{"an empty database has none", func(f *fixture) {
		got := f.measure(nil)
		f.equal("jobs", got.Jobs, map[job.State]int64{})
		f.equal("kinds", got.Kinds, map[string]store.KindFigures{})
		f.equal("sessions", got.Sessions, store.SessionFigures{})
		f.equal("crash rate", got.CrashRate(), 0.0)
	}},
	{"open jobs and their batches are counted by state and kind, ended and deleted ones are not", func(f *fixture) {
		a, b := f.submit("a", 1, 1, 1), f.submit("b", 1)
		up, err := f.OpenUpload(f.ctx, ofKind("c", "other"))
		f.must(err)
		f.commit(up, cut(up, 1, 1))
		_, err = f.PauseJob(f.ctx, b)
		f.must(err)
		gone := f.submit("gone", 1)
		s := f.register("w")
		f.settle(completed(f.claimOne(s, "1", long, gone)))
		f.claimOne(s, "2", long, a)
		for _, id := range []int64{a, b, up.JobID, gone} {
			f.fold(id)
		}
		got := f.measure(nil)
		f.equal("jobs", got.Jobs, map[job.State]int64{job.Running: 2, job.Paused: 1})
		for kind, k := range got.Kinds {
			k.Oldest = 0
			got.Kinds[kind] = k
		}
		f.equal("kinds", got.Kinds, map[string]store.KindFigures{
			"annotations": {Pending: 3, Running: 1, Sessions: 1}, "other": {Pending: 2},
		})
		f.equal("ended", got.Ended, [6]int64{job.BatchCompleted: 1})
		f.must(f.DeleteJob(f.ctx, gone))
		f.equal("ended, once deleted", f.measure(nil).Ended, [6]int64{})
	}},
	{"the oldest batch is the first one that was cut of those that wait, or came back", func(f *fixture) {
		up := f.open("a")
		cutFirst := f.now()
		f.pass(cutFirst)
		up = f.commit(up, cut(up, 1, 1))
		f.pass(f.now().Add(10 * short))
		second := f.now()
		f.pass(second)
		g := cut(up, 1)
		g.Finished = true
		f.commit(up, g)
		f.fold(up.JobID)
		// within reads the figures and says that the oldest one began to wait after a moment, and before another.
		within := func(what string, floors map[int64]int32, after, before time.Time) store.Figures {
			f.Helper()
			began := f.now()
			got := f.measure(floors)
			oldest := got.Kinds["annotations"].Oldest
			if now := f.now(); oldest <= 0 || began.Add(-oldest).After(before) || now.Add(-oldest).Before(after) {
				f.Errorf("%s: the oldest has waited for %v; want it since %v to %v, now is %v", what, oldest, after, before, now)
			}
			return got
		}
		first := within("at first", nil, cutFirst, second)
		f.equal("floors", first.Floors, map[int64]int32{up.JobID: 0})
		s := f.register("w")
		grants := f.claim(s, "1", long, 2, up.JobID)
		f.fold(up.JobID)
		then := within("with the first two taken", first.Floors, second, f.now())
		f.equal("floors, then", then.Floors, map[int64]int32{up.JobID: 2})
		// One that is given back waits from then on.
		f.settle(completed(f.claimOne(s, "2", long, up.JobID)))
		f.fold(up.JobID)
		f.equal("with all taken", f.measure(then.Floors).Kinds["annotations"].Oldest, time.Duration(0))
		returned := f.now()
		f.pass(returned)
		f.settle(ended(grants[1], job.EndReleased))
		f.fold(up.JobID)
		f.pass(f.now())
		after := within("given back", then.Floors, returned, f.now())
		f.equal("floors, given back", after.Floors, map[int64]int32{up.JobID: 2})
		_, err := f.PauseJob(f.ctx, up.JobID)
		f.must(err)
		f.equal("paused", f.measure(after.Floors).Kinds["annotations"].Oldest, time.Duration(0))
	}},
	{"a batch that died waits, too, though not everybody may have it", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		f.register("other")
		f.settle(ended(f.claimOne(s, "1", long, id), job.EndDied))
		f.fold(id)
		f.wait("it to wait", func() bool { return f.measure(nil).Kinds["annotations"].Oldest > 0 })
	}},
	{"sessions count as alive, silent, draining and lacking, and serve their kinds", func(f *fixture) {
		f.register("well")
		lacking := f.register("lacking")
		f.must(f.NoteTrouble(f.ctx, lacking, "no store"))
		f.register("draining")
		_, err := f.DrainSession(f.ctx, "draining")
		f.must(err)
		_, err = f.EndSession(f.ctx, f.register("gone"), "")
		f.must(err)
		got := f.measure(nil)
		f.equal("sessions", got.Sessions, store.SessionFigures{Alive: 3, Draining: 1, Lacking: 1})
		f.equal("kinds", got.Kinds, map[string]store.KindFigures{"annotations": {Sessions: 2}})
		f.pass(f.now())
		silent, err := f.Figures(f.ctx, store.FiguresQuery{Window: time.Hour, Silent: time.Microsecond})
		f.must(err)
		f.equal("sessions, all silent", silent.Sessions, store.SessionFigures{Silent: 3})
		f.equal("kinds, all silent", silent.Kinds, map[string]store.KindFigures{"annotations": {}})
	}},
	{"what ended and crashed in the window is what statistics say", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1)
		s := f.register("w")
		g := f.claim(s, "1", long, 4, id)
		f.settle(ended(g[0], job.EndDied))
		f.settle(completed(f.claimOne(s, "2", long, id)))
		f.settle(ended(g[1], job.EndFailed))
		f.settle(completed(g[2]))
		f.fold(id)
		got := f.measure(nil)
		want, err := f.GetStatistics(f.ctx, store.StatisticsFilter{Window: time.Hour})
		f.must(err)
		f.equal("ended", got.Ended, want.Ended)
		f.equal("crashed", got.Crashed, want.Crashed)
		f.equal("crash rate", got.CrashRate(), want.CrashRate())
		f.equal("crash rate is that of the three that ended", got.CrashRate(), 1.0/3)
	}},
	{"connections are counted", func(f *fixture) {
		f.measure(nil)
		p := f.Pool()
		if p.Max <= 0 || p.InUse < 0 || p.InUse+p.Idle <= 0 || p.InUse+p.Idle > p.Max {
			f.Errorf("pool = %+v", p)
		}
	}},
}
