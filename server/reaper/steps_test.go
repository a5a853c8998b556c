package reaper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// world is what the reaper works on, and what it says.
type world struct {
	mu       sync.Mutex
	expired  []int64 // batches whose leases have run out
	known    []int64 // batches that the ledger would name
	pending  map[int64]int
	retried  map[int64]int
	step     int // most rows that a step takes, whatever is asked for
	rubbish  int
	away     error
	skew     time.Duration // of the database's clock
	scans    int
	silent   int
	abandons int

	old      map[job.State]int // jobs whose time is over
	sessions int               // that ended long ago
	asked    []string          // which jobs and sessions were asked for

	ended   []int64
	changed []string
}

func (w *world) Reap(_ context.Context, batches []int64, limit int) (r store.Reaped, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if batches == nil {
		w.scans++
	}
	w.expired = slices.DeleteFunc(w.expired, func(id int64) bool {
		if len(r.Ended) == limit || batches != nil && !slices.Contains(batches, id) {
			return false
		}
		r.Ended = append(r.Ended, store.Ended{Lease: job.Lease{BatchID: id}})
		return true
	})
	return r, w.away
}

func (w *world) Now(context.Context) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.skew), w.away
}

func (w *world) AbandonUploads(context.Context, time.Duration) ([]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abandons++
	return nil, w.away
}

func (w *world) JudgeWorkers(context.Context) ([]store.DrainedWorker, error) { return nil, nil }

func (w *world) EndSilentSessions(context.Context, time.Duration) ([]store.Ended, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent++
	return nil, w.away
}

func (w *world) CancellingJobs(context.Context) (ids []int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.pending {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, w.away
}

func (w *world) SweepJob(_ context.Context, id int64, limit int) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(limit, w.step, w.pending[id])
	w.pending[id] -= n
	return n, nil
}

func (w *world) RetryingJobs(context.Context) ([]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.retried)), w.away
}

func (w *world) RetryStep(_ context.Context, id int64, limit int) (int, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(limit, w.step, w.retried[id])
	w.retried[id] -= n
	return n, n == w.step, nil
}

func (w *world) Condemned([]store.DrainedWorker) {}

func (w *world) Reopened(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = append(w.changed, fmt.Sprint(id, " reopened"))
}

func (w *world) DeleteStep(_ context.Context, limit int) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rubbish -= min(limit, w.rubbish)
	return w.rubbish > 0, w.away
}

func (w *world) DeleteEndedJobs(_ context.Context, f store.EndedFilter, limit int) (jobs []job.Job, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprint(f.Age, " ", f.States))
	for _, state := range f.States {
		for w.old[state] > 0 && len(jobs) < limit {
			w.old[state]--
			jobs = append(jobs, job.Job{State: state})
		}
	}
	return jobs, w.away
}

func (w *world) ForgetSessions(_ context.Context, age time.Duration, limit int) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprint(age, " sessions"))
	n := min(limit, w.sessions)
	w.sessions -= n
	return n, w.away
}

func (w *world) Due(limit int, _ time.Duration) (due []int64, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(limit, len(w.known))
	due, w.known = w.known[:n], w.known[n:]
	return due, 0
}

func (w *world) Returned(ended []store.Ended) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range ended {
		w.ended = append(w.ended, e.BatchID)
	}
}

func (w *world) Changed(id int64, mayEnd bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = append(w.changed, fmt.Sprint(id, " ", mayEnd))
}

func (w *world) reaper(step int) *Reaper {
	return New(Config{Store: w, Ledger: w, Events: w, StepRows: step})
}

func TestReapEndsWhatTheLedgerNamesAtOnceAndTheRestOnceALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{expired: []int64{1, 2, 3, 4, 5, 6, 7}, known: []int64{2, 4, 9}}
		r := w.reaper(2)
		once := func() {
			t.Helper()
			if err := r.ReapOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		once()
		if diff := cmp.Diff([]int64{2, 4}, w.ended); diff != "" {
			t.Errorf("at once (-want +got):\n%s", diff)
		}
		for range 29 {
			pass(time.Second)
			once()
		}
		if w.scans != 0 {
			t.Errorf("%d scans before a lease was over", w.scans)
		}
		pass(time.Second)
		once()
		if diff := cmp.Diff([]int64{2, 4, 1, 3, 5, 6, 7}, w.ended); diff != "" {
			t.Errorf("after a lease (-want +got):\n%s", diff)
		}
		scans := w.scans
		for range 29 {
			pass(time.Second)
			once()
		}
		if w.scans != scans {
			t.Errorf("%d more scans within a lease", w.scans-scans)
		}
	})
}

func TestReapRestsAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		r := w.reaper(10)
		if err := r.ReapOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.away = store.ErrUnavailable
		for range 20 {
			pass(time.Second)
			if err := r.ReapOnce(t.Context()); !errors.Is(err, store.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		w.away = nil
		w.expired, w.known = []int64{1}, []int64{1}
		for s := range 29 {
			if err := r.ReapOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(w.ended) != 0 {
				t.Fatalf("a lease was ended %d s after the outage", s)
			}
			pass(time.Second)
		}
		pass(time.Second)
		if err := r.ReapOnce(t.Context()); err != nil || len(w.ended) != 1 {
			t.Errorf("ended %v a lease after the outage: %v", w.ended, err)
		}
	})
}

func TestSweepGoesOnUntilNothingIsPending(t *testing.T) {
	w := &world{pending: map[int64]int{1: 25, 2: 0, 3: 4}, step: 10}
	if err := w.reaper(1000).SweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[int64]int{1: 0, 2: 0, 3: 0}, w.pending); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	want := []string{"1 false", "1 false", "1 false", "1 true", "3 false", "3 true"}
	if diff := cmp.Diff(want, w.changed); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestRetryGoesOnUntilNothingIsLeft(t *testing.T) {
	w := &world{retried: map[int64]int{1: 25, 2: 0, 3: 10}, step: 10}
	if err := w.reaper(1000).RetryOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[int64]int{1: 0, 2: 0, 3: 0}, w.retried); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	want := []string{"1 reopened", "1 reopened", "1 reopened", "1 true", "2 true", "3 reopened", "3 true"}
	if diff := cmp.Diff(want, w.changed); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestRunDoesAllOfItAndOutlivesTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{pending: map[int64]int{1: 3}, step: 10, rubbish: 5000, away: errors.New("trouble")}
		w.old = map[job.State]int{job.Succeeded: 1}
		r := New(Config{Store: w, Ledger: w, Events: w, Retention: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		pass(2 * time.Second)
		w.mu.Lock()
		w.away = nil
		w.mu.Unlock()
		r.Stopping()
		r.Stopping()
		synctest.Wait()
		w.mu.Lock()
		if w.pending[1] != 0 {
			t.Error("a job that is being stopped waits to be swept")
		}
		w.mu.Unlock()
		pass(3 * time.Minute)
		cancel()
		wg.Wait()
		if w.rubbish != 0 || w.old[job.Succeeded] != 0 || w.abandons < 2 || w.silent < 2 || w.scans < 4 {
			t.Errorf("rubbish %d, uploads looked at %d times, sessions %d times, scans %d", w.rubbish, w.abandons, w.silent, w.scans)
		}
	})
}

func TestRetainGoesOnUntilNothingIsOld(t *testing.T) {
	const succeeded, others = "1h0m0s [succeeded]", "2h0m0s [completed_with_errors failed cancelled]"
	for _, c := range []struct {
		name             string
		good, withErrors time.Duration
		left             map[job.State]int
		sessions         int
		asked            []string
	}{
		{
			"both", time.Hour, 2 * time.Hour, map[job.State]int{job.Succeeded: 0, job.Failed: 0, job.Cancelled: 0}, 0,
			[]string{succeeded, succeeded, succeeded, succeeded, others, others, "2h0m0s sessions", "2h0m0s sessions"},
		},
		{
			"those with errors for ever", time.Hour, 0, map[job.State]int{job.Succeeded: 0, job.Failed: 3, job.Cancelled: 4}, 50,
			[]string{succeeded, succeeded, succeeded, succeeded},
		},
		{
			"those that succeeded for ever", 0, 2 * time.Hour, map[job.State]int{job.Succeeded: 250, job.Failed: 0, job.Cancelled: 0}, 50,
			[]string{others, others},
		},
		{"all for ever", 0, 0, map[job.State]int{job.Succeeded: 250, job.Failed: 3, job.Cancelled: 4}, 50, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{old: map[job.State]int{job.Succeeded: 250, job.Failed: 3, job.Cancelled: 4}, sessions: 50}
			r := New(Config{Store: w, Ledger: w, Events: w, Retention: c.good, RetentionWithErrors: c.withErrors})
			if err := r.RetainOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.left, w.old); diff != "" || w.sessions != c.sessions {
				t.Errorf("left %d sessions and jobs (-want +got):\n%s", w.sessions, diff)
			}
			if diff := cmp.Diff(c.asked, w.asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}
