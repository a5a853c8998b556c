package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *memory) Fold(_ context.Context, id int64) (job.Job, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.folds = append(m.folds, time.Now())
	if m.fail != nil {
		return job.Job{}, false, m.fail
	}
	j := m.jobs[id]
	if !m.dirty[id] {
		return j, false, nil
	}
	delete(m.dirty, id)
	j.Revision++
	m.jobs[id] = j
	return j, true, nil
}

func (m *memory) DirtyJobs(context.Context) (ids []int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.dirty {
		ids = append(ids, id)
	}
	return ids, m.fail
}

func (m *memory) Notify(_ context.Context, c store.Change) error {
	m.mu.Lock()
	taking := m.taking
	m.notes, m.noted = append(m.notes, c), append(m.noted, time.Now())
	m.mu.Unlock()
	pass(taking)
	return nil
}

func (m *memory) touch(ids ...int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.dirty[id] = true
	}
}

// folder runs a folder on a memory in a bubble.
func folder(t *testing.T, m *memory, test func(t *scene, f *Folder, snapshots *[]int64)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var snapshots []int64
		f := NewFolder(m, NewHub(m, quiet()), quiet(), func(j job.Job) { snapshots = append(snapshots, j.ID) })
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		pass(300 * time.Millisecond) // not where polls are
		test(&scene{t}, f, &snapshots)
		cancel()
		wg.Wait()
	})
}

func TestFolderFoldsAtOnceThenPaced(t *testing.T) {
	m := newMemory(job.Job{ID: 1, State: job.Running})
	folder(t, m, func(t *scene, f *Folder, snapshots *[]int64) {
		began := time.Now()
		for range 55 { // a change every 10 ms
			m.touch(1)
			f.Changed(1, false)
			pass(10 * time.Millisecond)
		}
		pass(100 * time.Millisecond)
		synctest.Wait()
		var at []time.Duration
		for _, fold := range m.folds {
			at = append(at, fold.Sub(began).Round(10*time.Millisecond))
		}
		var want []time.Duration
		for d := time.Duration(0); d <= 600*time.Millisecond; d += foldPace {
			want = append(want, d)
		}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("folds (-want +got):\n%s", diff)
		}
		if m.dirty[1] || len(*snapshots) != len(m.folds) {
			t.Errorf("the last change is not folded, or %d of %d folds were told", len(*snapshots), len(m.folds))
		}
	})
}

func TestFolderDoesNotWaitWhenAJobMayEnd(t *testing.T) {
	m := newMemory(job.Job{ID: 1, State: job.Running})
	folder(t, m, func(t *scene, f *Folder, _ *[]int64) {
		for range 3 {
			m.touch(1)
			f.Changed(1, true)
			f.Changed(1, false) // a later one does not take that back
			synctest.Wait()
		}
		if len(m.folds) < 3 {
			t.Errorf("%d folds", len(m.folds))
		}
		for _, fold := range m.folds {
			if !fold.Equal(m.folds[0]) {
				t.Errorf("a fold waited for %v", fold.Sub(m.folds[0]))
			}
		}
	})
}

func TestFolderFindsWhatNobodyAnnounced(t *testing.T) {
	m := newMemory(job.Job{ID: 1, State: job.Running})
	folder(t, m, func(t *scene, f *Folder, snapshots *[]int64) {
		m.touch(1)
		m.mu.Lock()
		m.fail = errors.New("away")
		m.mu.Unlock()
		f.Changed(1, true)
		pass(3 * time.Second)
		synctest.Wait()
		if len(*snapshots) != 0 {
			t.Fatal("a fold that failed was told")
		}
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		pass(1100 * time.Millisecond)
		synctest.Wait()
		if diff := cmp.Diff([]int64{1}, *snapshots); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		pass(2 * time.Minute)
		synctest.Wait()
		if len(f.last) != 0 {
			t.Errorf("%d jobs are remembered that have long been quiet", len(f.last))
		}
	})
}

func TestNotesArePacedAndTheLastChangeIsInOne(t *testing.T) {
	m := newMemory()
	m.taking = 20 * time.Millisecond
	folder(t, m, func(t *scene, f *Folder, _ *[]int64) {
		began := time.Now()
		for id := range int64(100) { // one each millisecond
			f.Announce(id)
			f.Announce(id)
			pass(time.Millisecond)
		}
		pass(200 * time.Millisecond)
		synctest.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.noted) > 4 || !m.noted[0].Equal(began) {
			t.Errorf("%d notes, the first after %v", len(m.noted), m.noted[0].Sub(began))
		}
		var named []int64
		for i, n := range m.notes {
			named = append(named, n.Jobs...)
			if i > 0 && m.noted[i].Sub(m.noted[i-1]) < notifyPace {
				t.Errorf("notes %v apart", m.noted[i].Sub(m.noted[i-1]))
			}
		}
		slices.Sort(named)
		if len(named) != 100 || len(slices.Compact(named)) != 100 {
			t.Errorf("%d jobs named, want each of the 100 once", len(named))
		}
	})
	many := newMemory()
	folder(t, many, func(t *scene, f *Folder, _ *[]int64) {
		f.Announce(0)
		synctest.Wait()
		for id := range int64(notifyMost + 1) {
			f.Announce(id)
		}
		pass(time.Second)
		synctest.Wait()
		if len(many.notes) != 2 || !many.notes[1].All || len(many.notes[1].Jobs) != 0 {
			t.Errorf("notes %v, want the second to say all", many.notes)
		}
	})
}
