package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory keeps jobs, counts how often each is read, and folds and notifies as it is told.
type memory struct {
	mu      sync.Mutex
	jobs    map[int64]job.Job
	reads   int
	lists   int
	maps    int
	states  []job.BatchState
	crashes int
	fail    error

	dirty  map[int64]bool
	folds  []time.Time
	notes  []store.Change
	noted  []time.Time
	taking time.Duration // that a note takes
}

func newMemory(jobs ...job.Job) *memory {
	m := &memory{jobs: map[int64]job.Job{}, dirty: map[int64]bool{}}
	for _, j := range jobs {
		m.jobs[j.ID] = j
	}
	return m
}

func (m *memory) GetJob(_ context.Context, id int64) (job.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	j, ok := m.jobs[id]
	switch {
	case m.fail != nil:
		return job.Job{}, m.fail
	case !ok:
		return job.Job{}, fmt.Errorf("job %d: %w", id, store.ErrNotFound)
	}
	return j, nil
}

func (m *memory) LastCrashes(context.Context, int64, int) ([]store.Attempt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashes++
	return []store.Attempt{{BatchID: 5, Kind: job.EndDied}}, nil
}

func (m *memory) counts() (reads, crashes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads, m.crashes
}

// change makes the next revision of a job.
func (m *memory) change(id int64, f func(*job.Job)) job.Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[id]
	j.ID = id
	j.Revision++
	f(&j)
	m.jobs[id] = j
	return j
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// scene is a test in a bubble.
type scene struct{ *testing.T }

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// hub runs a hub on a memory in a bubble.
func hub(t *testing.T, m *memory, test func(t *scene, ctx context.Context, h *Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h := NewHub(m, quiet())
		var wg sync.WaitGroup
		wg.Go(func() { h.Run(ctx) })
		test(&scene{t}, ctx, h)
		cancel()
		wg.Wait()
	})
}

func TestHubBringsTheLatestOnly(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) {
		s, err := h.Subscribe(ctx, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		want := func(revision int64) {
			t.Helper()
			got, ended, err := s.Next(ctx, time.Hour)
			if err != nil || ended || got.Job.Revision != revision {
				t.Fatalf("got %+v, %t, %v, want revision %d", got, ended, err, revision)
			}
		}
		want(1)
		for range 20 { // it does not read meanwhile
			h.Publish(ctx, m.change(1, func(*job.Job) {}))
		}
		began := time.Now()
		want(21)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("the second snapshot came after %v, want the pace of 100 ms", took)
		}
		h.Publish(ctx, job.Job{ID: 1, Revision: 7, State: job.Running}) // late, from another coordinator
		h.Publish(ctx, m.change(1, func(j *job.Job) { j.State = job.Succeeded }))
		began = time.Now()
		want(22)
		if took := time.Since(began); took != 0 {
			t.Errorf("the end came after %v, want it at once", took)
		}
		if got, ended, err := s.Next(ctx, time.Hour); got != nil || !ended || err != nil {
			t.Errorf("after the end: %v, %t, %v", got, ended, err)
		}
	})
}

func TestHubTellsManyMoreSlowly(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) {
		for _, test := range []struct {
			watchers int
			want     time.Duration
		}{{1, 100 * time.Millisecond}, {2000, 100 * time.Millisecond}, {10_000, 500 * time.Millisecond}} {
			var all []*Subscription
			for range test.watchers {
				s, err := h.Subscribe(ctx, 1, 0)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, s)
			}
			var first *Snapshot
			for _, s := range all {
				snapshot, _, err := s.Next(ctx, time.Hour)
				if first == nil {
					first = snapshot
				}
				if err != nil || snapshot != first {
					t.Fatalf("%p, %v, want %p, which all share", snapshot, err, first)
				}
			}
			h.Publish(ctx, m.change(1, func(*job.Job) {}))
			began := time.Now()
			if _, _, err := all[0].Next(ctx, time.Hour); err != nil || time.Since(began) != test.want {
				t.Errorf("one of %d watchers is told after %v, %v, want %v", test.watchers, time.Since(began), err, test.want)
			}
			for _, s := range all {
				s.Close()
			}
		}
	})
}

func TestHubSaysWhenNothingComes(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) {
		s, err := h.Subscribe(ctx, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 2 {
			began := time.Now()
			snapshot, ended, err := s.Next(ctx, 15*time.Second)
			if snapshot != nil || ended || err != nil || time.Since(began) != 15*time.Second {
				t.Errorf("after %v: %v, %t, %v", time.Since(began), snapshot, ended, err)
			}
		}
	})
}

func TestSharedIsMadeOnce(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) {
		s, err := h.Subscribe(ctx, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		made := 0
		revision := func(s *Snapshot) (any, error) {
			made++
			return s.Job.Revision, nil
		}
		for want := range int64(3) {
			snapshot, _, err := s.Next(ctx, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got, err := snapshot.Shared(revision); got != want+1 || err != nil || made != int(want)+1 {
					t.Errorf("snapshot %d is %v, %v, made %d times", want+1, got, err, made)
				}
			}
			h.Publish(ctx, m.change(1, func(*job.Job) {}))
		}
	})
}

func TestHubFindsWhatNobodyAnnounced(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running})
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) {
		s, err := h.Subscribe(ctx, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m.change(1, func(*job.Job) {})
		began := time.Now()
		if got, _, err := s.Next(ctx, time.Hour); err != nil || got.Job.Revision != 2 || time.Since(began) > 2*time.Second {
			t.Errorf("after %v: %v, %v", time.Since(began), got, err)
		}
		// Its being away is no news; its end is.
		m.mu.Lock()
		m.fail = store.ErrUnavailable
		m.mu.Unlock()
		time.AfterFunc(5*time.Second, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fail = store.ErrNotFound
		})
		began = time.Now()
		if _, _, err := s.Next(ctx, time.Hour); !errors.Is(err, store.ErrNotFound) || time.Since(began) < 5*time.Second {
			t.Errorf("after %v: %v, want that it is gone", time.Since(began), err)
		}
	})
}

func TestHubReadsOnceForAll(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 1, State: job.Running, Counters: job.Counters{CrashedEver: 1}})
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) {
		var wg sync.WaitGroup
		watching, leave := context.WithCancel(ctx)
		for range 5000 {
			wg.Go(func() {
				s, err := h.Subscribe(watching, 1, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				for err == nil {
					_, _, err = s.Next(watching, time.Hour)
				}
			})
		}
		synctest.Wait()
		if reads, _ := m.counts(); reads != 1 {
			t.Errorf("5000 watchers that came at once read the job %d times", reads)
		}
		pass(10 * time.Second)
		synctest.Wait()
		reads, crashes := m.counts()
		if reads > 11 || crashes > 1 {
			t.Errorf("in 10 s the job was read %d times and its crashes %d times", reads, crashes)
		}
		leave()
		wg.Wait()
		before, _ := m.counts()
		pass(2 * time.Minute)
		synctest.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if after, _ := m.counts(); after != before || len(h.topics) != 0 {
			t.Errorf("without watchers the job was read %d times and %d topics are kept", after-before, len(h.topics))
		}
	})
}

func TestHubForgetsWhatIsNotThere(t *testing.T) {
	hub(t, newMemory(), func(t *scene, ctx context.Context, h *Hub) {
		for id := range int64(100) {
			if _, err := h.Subscribe(ctx, id, 0); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("subscribe: %v", err)
			}
			if _, err := h.Look(ctx, id); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("look: %v", err)
			}
		}
		h.mu.Lock()
		kept := len(h.topics)
		h.mu.Unlock()
		if kept != 0 {
			t.Errorf("%d topics are kept of jobs that are not there", kept)
		}
		h.Refresh(ctx, 7)
	})
}

func TestHubLookIsAsJustRead(t *testing.T) {
	m := newMemory(job.Job{ID: 1, Revision: 3, State: job.Running, Counters: job.Counters{CrashedEver: 1}})
	hub(t, m, func(t *scene, ctx context.Context, h *Hub) {
		first, err := h.Look(ctx, 1)
		if err != nil || len(first.Crashes) != 1 {
			t.Fatalf("%+v, %v", first, err)
		}
		m.change(1, func(j *job.Job) { j.ItemsTotal = 9 })
		second, err := h.Look(ctx, 1)
		if err != nil || second.Job.Revision != 4 || second.Job.ItemsTotal != 9 {
			t.Errorf("%+v, %v", second, err)
		}
	})
}

func TestMeter(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64, total, ended int64) job.Job {
		j := job.Job{State: job.Running, StartedAt: start, IngestDone: true}
		j.ItemsTotal, j.ItemOutcomes[job.Stored] = total, ended
		return j
	}
	var m meter
	for s := range 30 { // 10 a second, then 20
		j := at(float64(s), 1000, int64(10*min(s, 15)+20*max(s-15, 0)))
		rate, measured := m.observe(&j, start.Add(time.Duration(s)*time.Second))
		if left := eta(&j, rate, measured); (left > 0) != (s >= 3) {
			t.Errorf("after %d s, eta %v", s, left)
		}
		switch {
		case s == 14 && rate != 10, s == 29 && rate != 20:
			t.Errorf("after %d s the rate is %v", s, rate)
		}
	}
	if len(m.samples) > 12 {
		t.Errorf("%d samples kept of the last 10 s", len(m.samples))
	}
	j := at(0, 1000, 400)
	if got := eta(&j, 20, time.Minute); got != 30*time.Second {
		t.Errorf("eta %v, want 30 s", got)
	}
	j.IngestDone, j.Size, j.BytesRead = false, 400, 100
	if got := eta(&j, 20, time.Minute); got != 180*time.Second {
		t.Errorf("eta %v with a quarter read, want 180 s", got)
	}
	j.Size = 0
	if got := eta(&j, 20, time.Minute); got != 0 {
		t.Errorf("eta %v of an upload of unknown size", got)
	}
	j.IngestDone = true
	if got := eta(&j, 1e-12, time.Minute); got != 365*24*time.Hour {
		t.Errorf("eta %v at a crawl", got)
	}
	if got := eta(&j, 20, settled-1); got != 0 {
		t.Errorf("eta %v by a pace of a moment", got)
	}
	j.State = job.Succeeded
	if got := eta(&j, 20, time.Minute); got != 0 {
		t.Errorf("eta %v of an ended job", got)
	}
}
