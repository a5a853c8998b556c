package watch

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *memory) ListJobs(_ context.Context, f store.JobFilter, page store.Page) (list []job.Job, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists++
	for _, j := range m.jobs {
		if (page.After == 0 || j.ID < page.After) && (len(f.States) == 0 || slices.Contains(f.States, j.State)) {
			list = append(list, j)
		}
	}
	slices.SortFunc(list, func(a, b job.Job) int { return cmp.Compare(b.ID, a.ID) })
	return list[:min(len(list), page.Size)], m.fail
}

// roll runs a roll on a memory in a bubble.
func roll(t *testing.T, m *memory, test func(t *scene, ctx context.Context, r *Roll)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := NewRoll(m, quiet())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		test(&scene{t}, ctx, r)
		cancel()
		wg.Wait()
	})
}

// news is what a watcher is told next: the revisions of jobs, and who is gone.
type news struct {
	Revisions map[int64]int64
	Gone      []int64
}

func (t *scene) news(ctx context.Context, w *Reading) news {
	t.Helper()
	changed, gone, err := w.Next(ctx, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	n := news{Gone: gone}
	for _, s := range changed {
		if n.Revisions == nil {
			n.Revisions = map[int64]int64{}
		}
		n.Revisions[s.Job.ID] = s.Job.Revision
	}
	slices.Sort(n.Gone)
	return n
}

func (t *scene) told(what string, got, want news) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestRollTellsWhatChanges(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running}, job.Job{ID: 2, Revision: 1, State: job.Succeeded})
	roll(t, m, func(t *scene, ctx context.Context, r *Roll) {
		w := r.Read()
		defer w.Close()
		pass(500 * time.Millisecond)
		t.news(ctx, w) // what is there
		m.change(1, func(*job.Job) {})
		t.told("a change", t.news(ctx, w), news{Revisions: map[int64]int64{1: 2}})
		m.change(3, func(j *job.Job) { j.State = job.Succeeded })
		t.told("a job that came and ended", t.news(ctx, w), news{Revisions: map[int64]int64{3: 1}})
		m.change(1, func(j *job.Job) { j.State = job.Failed })
		t.told("an end", t.news(ctx, w), news{Revisions: map[int64]int64{1: 3}})
		m.change(1, func(j *job.Job) { j.State = job.Running })
		t.told("a retry", t.news(ctx, w), news{Revisions: map[int64]int64{1: 4}})
		m.mu.Lock()
		delete(m.jobs, 2)
		m.mu.Unlock()
		r.Look(2)
		t.told("a deletion", t.news(ctx, w), news{Gone: []int64{2}})
		t.told("nothing", t.news(ctx, w), news{})
	})
}

// However many watch, the list is read once a second, and not at all when nobody does; who is slow gets the last only.
func TestRollReadsOnceForAll(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	roll(t, m, func(t *scene, ctx context.Context, r *Roll) {
		reads := func(d time.Duration) int {
			m.mu.Lock()
			before := m.lists
			m.mu.Unlock()
			pass(d)
			synctest.Wait()
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.lists - before
		}
		if n := reads(time.Minute); n != 0 {
			t.Errorf("%d reads for nobody", n)
		}
		var all []*Reading
		for range 50 {
			all = append(all, r.Read())
		}
		pass(500 * time.Millisecond)               // not where reads are
		if n := reads(10 * time.Second); n != 20 { // of the open and of the new
			t.Errorf("%d reads in 10 s for 50 watchers, want 20", n)
		}
		for range 5 {
			m.change(1, func(*job.Job) {})
			pass(time.Second)
		}
		for _, w := range all {
			t.told("the last only", t.news(ctx, w), news{Revisions: map[int64]int64{1: 6}})
			w.Close()
		}
		pass(2 * time.Second)
		if n := reads(time.Minute); n != 0 {
			t.Errorf("%d reads after all have gone", n)
		}
		if len(r.entries) != 0 {
			t.Errorf("%d jobs are remembered for nobody", len(r.entries))
		}
	})
}

// A job that has ended is forgotten when everybody knows.
func TestRollForgets(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	roll(t, m, func(t *scene, ctx context.Context, r *Roll) {
		quick, slow := r.Read(), r.Read()
		defer quick.Close()
		defer slow.Close()
		t.news(ctx, quick)
		m.change(1, func(j *job.Job) { j.State = job.Succeeded })
		t.told("the end", t.news(ctx, quick), news{Revisions: map[int64]int64{1: 2}})
		pass(5 * time.Second)
		t.told("the end, later", t.news(ctx, slow), news{Revisions: map[int64]int64{1: 2}})
		pass(5 * time.Second)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.entries) != 0 {
			t.Errorf("%d jobs are remembered", len(r.entries))
		}
	})
}
