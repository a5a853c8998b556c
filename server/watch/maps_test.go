package watch

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *memory) BatchStates(context.Context, int64) ([]job.BatchState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maps++
	return slices.Clone(m.states), m.fail
}

// set makes the next revision of job 1, with a batch in another state.
func (m *memory) set(ordinal int, s job.BatchState) {
	m.change(1, func(*job.Job) {})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[ordinal] = s
}

// apply changes states as a reader of the protocol does.
func apply(t interface {
	Helper()
	Fatal(args ...any)
}, states []job.BatchState, runs string) []job.BatchState {
	t.Helper()
	var out []job.BatchState
	for i := 0; i < len(runs); {
		letter, first := runs[i], i+1
		for i++; i < len(runs) && runs[i] >= '0' && runs[i] <= '9'; i++ {
		}
		n := 1
		if i > first {
			var err error
			if n, err = strconv.Atoi(runs[first:i]); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			if letter == '=' {
				out = append(out, states[len(out)])
			} else {
				out = append(out, job.BatchState(slices.Index([]byte(letters), letter)))
			}
		}
	}
	return out
}

func TestRunsBringWhatThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.Custom(func(t *rapid.T) job.BatchState {
			return job.BatchState(rapid.IntRange(0, len(letters)-1).Draw(t, "state"))
		}))
		before, after := list.Draw(t, "before"), list.Draw(t, "after")
		if got := apply(t, before, Runs(before, after)); !slices.Equal(got, after) {
			t.Errorf("%v after %v is told as %q", after, before, Runs(before, after))
		}
	})
	if got := Runs(nil, []job.BatchState{2, 2, 2, 1, 0, 0}); got != "c3rp2" {
		t.Errorf("%q", got)
	}
}

// maps runs maps on a memory in a bubble.
func maps(t *testing.T, m *memory, test func(t *scene, ctx context.Context, maps *Maps)) {
	t.Helper()
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) { test(t, ctx, NewMaps(m, h)) })
}

// However many watch, and however often a job changes, its map is read at most twice a second, once for all; and everybody
// has the last.
func TestMapsAreReadOnceForAll(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	m.states = make([]job.BatchState, 100)
	maps(t, m, func(t *scene, ctx context.Context, all *Maps) {
		var wg sync.WaitGroup
		seen := make([][]job.BatchState, 30)
		for i := range seen {
			wg.Go(func() {
				w, err := all.Chart(ctx, 1)
				if err != nil {
					t.Error(err)
					return
				}
				defer w.Close()
				for {
					view, ended, err := w.Next(ctx, 15*time.Second)
					if err != nil || ended {
						if err != nil {
							t.Error(err)
						}
						return
					}
					if view != nil {
						seen[i] = apply(t, seen[i], view.States)
					}
				}
			})
		}
		for i := range 100 {
			pass(100 * time.Millisecond)
			m.set(i, job.BatchCompleted)
			all.hub.Refresh(ctx, 1)
		}
		m.set(7, job.BatchCrashed)
		j := m.change(1, func(j *job.Job) { j.State = job.CompletedWithErrors })
		all.hub.Publish(ctx, j)
		wg.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.maps < 15 || m.maps > 25 { // 10 s
			t.Errorf("read %d times in 10 s", m.maps)
		}
		for i, states := range seen {
			if !slices.Equal(states, m.states) {
				t.Errorf("watcher %d ends with %v, want %v", i, states, m.states)
			}
		}
		if len(all.charts) != 0 {
			t.Errorf("%d maps are kept for nobody", len(all.charts))
		}
	})
}

func TestMapOfNoJob(t *testing.T) {
	m := newMemory()
	maps(t, m, func(t *scene, ctx context.Context, all *Maps) {
		if _, err := all.Chart(ctx, 1); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	})
}

// A quiet map shows signs of life; one whose reading fails says so.
func TestMapIsQuietOrFails(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	m.states = make([]job.BatchState, 3)
	maps(t, m, func(t *scene, ctx context.Context, all *Maps) {
		w, err := all.Chart(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if view, _, err := w.Next(ctx, time.Minute); err != nil || view == nil || view.States != "p3" {
			t.Errorf("first %+v, %v", view, err)
		}
		began := time.Now()
		if view, ended, err := w.Next(ctx, time.Minute); err != nil || view != nil || ended || time.Since(began) != time.Minute {
			t.Errorf("quiet: %+v, %v, %v after %v", view, ended, err, time.Since(began))
		}
		m.set(1, job.BatchRunning)
		m.mu.Lock()
		states := m.states
		m.mu.Unlock()
		all.hub.Refresh(ctx, 1)
		if view, _, err := w.Next(ctx, time.Minute); err != nil || view == nil || view.States != "=r=" {
			t.Errorf("then %+v, %v; there is %v", view, err, states)
		}
		synctest.Wait()
	})
}
