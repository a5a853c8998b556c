package storetest

import (
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// statistics: sums over a window, and the slowest.
var statistics = []scenario{
	{"what ended is counted by state, crash and duration", func(f *fixture) {
		a, b := f.submit("a", 1, 1, 1, 1), f.submit("b", 1, 1)
		s := f.register("w")
		ga, gb := f.claim(s, "1", long, 4, a), f.claim(s, "2", long, 2, b)
		f.settle(ended(ga[0], job.EndDied))
		again := f.claimOne(s, "3", long, a)
		_, _, err := f.Settle(f.ctx, []store.Settlement{
			completed(again), ended(ga[1], job.EndFailed), completed(ga[2]), completed(gb[0]), ended(gb[1], job.EndFailed),
			ended(ga[3], job.EndReleased),
		})
		f.must(err)
		f.stop(a)
		f.sweep(a)
		f.fold(a)
		f.fold(b)
		for _, c := range []struct {
			name     string
			filter   store.StatisticsFilter
			ended    [6]int64
			crashed  int64
			observed int64
		}{
			{"all", store.StatisticsFilter{}, [6]int64{job.BatchCompleted: 3, job.BatchFailed: 2, job.BatchCancelled: 1}, 1, 5},
			{"by job", store.StatisticsFilter{JobID: b}, [6]int64{job.BatchCompleted: 1, job.BatchFailed: 1}, 0, 2},
			{"by project", store.StatisticsFilter{Project: "project-a"}, [6]int64{job.BatchCompleted: 2, job.BatchFailed: 1, job.BatchCancelled: 1}, 1, 3},
			{"by projects", store.StatisticsFilter{Projects: []string{"none", "project-a"}}, [6]int64{job.BatchCompleted: 2, job.BatchFailed: 1, job.BatchCancelled: 1}, 1, 3},
			{"by unknown projects", store.StatisticsFilter{Projects: []string{"none", "", "nothing"}}, [6]int64{}, 0, 0},
			{"by an unknown project", store.StatisticsFilter{Project: "none"}, [6]int64{}, 0, 0},
		} {
			c.filter.Window = time.Hour
			got, err := f.GetStatistics(f.ctx, c.filter)
			f.must(err)
			f.equal(c.name+": ended", got.Ended, c.ended)
			f.equal(c.name+": crashed", got.Crashed, c.crashed)
			f.equal(c.name+": durations", got.Durations.Count(), c.observed)
			if len(got.Slowest) != int(c.observed) {
				f.Errorf("%s: %d slowest, want %d", c.name, len(got.Slowest), c.observed)
			}
		}
	}},
	{"what was cancelled does not count as crashed, and what was deleted does not count", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		g := f.claim(s, "1", long, 2, id)
		for i := range g {
			f.settle(ended(g[i], job.EndDied))
		}
		again := f.claim(s, "2", long, 1, id)
		f.settle(completed(again[0]))
		f.stop(id)
		f.sweep(id)
		f.fold(id)
		got, err := f.GetStatistics(f.ctx, store.StatisticsFilter{Window: time.Hour})
		f.must(err)
		f.equal("ended", got.Ended, [6]int64{job.BatchCompleted: 1, job.BatchCancelled: 1})
		f.equal("crashed", got.Crashed, int64(1))
		f.must(f.DeleteJob(f.ctx, id))
		for _, filter := range []store.StatisticsFilter{{}, {Project: "project-a"}, {JobID: id}} {
			filter.Window = time.Hour
			got, err = f.GetStatistics(f.ctx, filter)
			f.must(err)
			f.equal("of a deleted job", got, store.Statistics{})
		}
	}},
	{"failures are grouped by message, most frequent first", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1, 1)
		s := f.register("w")
		var group []store.Settlement
		for i, g := range f.claim(s, "1", long, 6, id) {
			end := ended(g, []job.EndKind{job.EndFailed, job.EndFailed, job.EndFailed, job.EndDied, job.EndDied, job.EndReleased}[i])
			end.Message = []string{"often", "often", "often", "sometimes", "sometimes", "never shown"}[i]
			group = append(group, end)
		}
		_, _, err := f.Settle(f.ctx, group)
		f.must(err)
		got, err := f.GetStatistics(f.ctx, store.StatisticsFilter{Window: time.Hour, JobID: id})
		f.must(err)
		for i, g := range got.Failures {
			if f.batch(g.Example).Error != g.Message || g.LastAt.IsZero() {
				f.Errorf("failures = %+v", g)
			}
			got.Failures[i].Example, got.Failures[i].LastAt = 0, time.Time{}
		}
		f.equal("failures", got.Failures, []store.FailureGroup{
			{Message: "often", Kind: job.EndFailed, Count: 3}, {Message: "sometimes", Kind: job.EndDied, Count: 2},
		})
	}},
	{"deaths are grouped by fingerprint, across jobs, most frequent first", func(f *fixture) {
		a, b := f.submit("a", 2, 2), f.submit("b", 2, 2)
		s := f.register("w")
		crash := func(g store.Grant, c job.Crash) {
			f.pass(f.now())
			end := ended(g, job.EndDied)
			end.Crash = &c
			f.settle(end)
		}
		ga, gb := f.claim(s, "1", long, 2, a), f.claim(s, "2", long, 2, b)
		crash(ga[0], job.Crash{Signal: "SIGABRT", Fingerprint: "often"})
		crash(ga[1], job.Crash{ExitCode: 3, Stderr: "once", Fingerprint: "rare"})
		crash(gb[0], job.Crash{Signal: "SIGSEGV", Stderr: "\n first line\nsecond line", Fingerprint: "often"})
		crash(gb[1], job.Crash{Signal: "SIGKILL"})
		for _, c := range []struct {
			name   string
			filter store.StatisticsFilter
			want   []store.CrashGroup
		}{
			{"all", store.StatisticsFilter{}, []store.CrashGroup{
				{Fingerprint: "often", Signal: "SIGSEGV", Count: 2, Batches: 2, Example: gb[0].BatchID, Stderr: "first line"},
				{Fingerprint: "rare", ExitCode: 3, Count: 1, Batches: 1, Example: ga[1].BatchID, Stderr: "once"},
			}},
			{"of a job", store.StatisticsFilter{JobID: b}, []store.CrashGroup{
				{Fingerprint: "often", Signal: "SIGSEGV", Count: 1, Batches: 1, Example: gb[0].BatchID, Stderr: "first line"},
			}},
			{"of an unknown project", store.StatisticsFilter{Project: "none"}, nil},
		} {
			c.filter.Window = time.Hour
			got, err := f.GetStatistics(f.ctx, c.filter)
			f.must(err)
			for i := range got.Crashes {
				if got.Crashes[i].LastAt.IsZero() {
					f.Errorf("%s: %+v", c.name, got.Crashes[i])
				}
				got.Crashes[i].LastAt = time.Time{}
			}
			f.equal(c.name, got.Crashes, c.want)
		}
	}},
	{"the slowest batches of a job come first", func(f *fixture) {
		items := make([]int32, 30)
		for i := range items {
			items[i] = 1
		}
		id := f.submit("a", items...)
		s := f.register("w")
		slow := f.claimOne(s, "slow", long, id)
		f.pass(f.now().Add(20 * short))
		var group []store.Settlement
		for _, g := range f.claim(s, "rest", long, 29, id) {
			group = append(group, completed(g))
		}
		_, _, err := f.Settle(f.ctx, append(group, completed(slow)))
		f.must(err)
		f.fold(id)
		got := f.batchIDs(store.BatchFilter{JobID: id, Slowest: true}, store.Page{Size: 100})
		if len(got) != 20 || got[0] != slow.BatchID {
			f.Errorf("slowest = %v, want 20 from batch %d on", got, slow.BatchID)
		}
		f.equal("the two slowest", len(f.batchIDs(store.BatchFilter{JobID: id, Slowest: true}, store.Page{Size: 2})), 2)
		stats, err := f.GetStatistics(f.ctx, store.StatisticsFilter{Window: time.Hour})
		f.must(err)
		if len(stats.Slowest) != 20 || stats.Slowest[0].ID != slow.BatchID {
			f.Errorf("slowest in the statistics: %d", len(stats.Slowest))
		}
		if q := stats.Durations.Quantile(1); q < 20*short {
			f.Errorf("the longest duration is %v", q)
		}
	}},
}
