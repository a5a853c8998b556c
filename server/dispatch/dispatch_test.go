package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestGroupSharesATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var sizes []int
		gate := make(chan struct{})
		g := newGroup(100, func(int) int { return 1 }, func(_ context.Context, q []int) ([]int, error) {
			sizes = append(sizes, len(q))
			if len(sizes) == 1 {
				<-gate
			}
			out := make([]int, len(q))
			for i, v := range q {
				out[i] = 2 * v
			}
			return out, nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { g.Run(ctx) })
		call := func(v int) {
			wg.Go(func() {
				if got, err := g.Call(ctx, v); err != nil || got != 2*v {
					t.Errorf("call %d: %d, %v", v, got, err)
				}
			})
		}
		call(1)
		synctest.Wait()
		for v := range 50 {
			call(v)
		}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		if diff := cmp.Diff([]int{1, 50}, sizes); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
		cancel()
		wg.Wait()
		if _, err := g.Call(t.Context(), 1); !errors.Is(err, ErrStopped) {
			t.Errorf("call after the end: %v", err)
		}
	})
}

func TestGroupHalvesUntilTheGuiltyCallFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		guilty := errors.New("guilty")
		gate := make(chan struct{})
		g := newGroup(100, func(int) int { return 1 }, func(_ context.Context, q []int) ([]int, error) {
			<-gate
			for _, v := range q {
				if v == 13 {
					return nil, guilty
				}
			}
			return q, nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { g.Run(ctx) })
		var mu sync.Mutex
		failed := map[int]error{}
		for v := range 40 {
			wg.Go(func() {
				if _, err := g.Call(ctx, v); err != nil {
					mu.Lock()
					failed[v] = err
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		cancel()
		wg.Wait()
		if len(failed) != 1 || !errors.Is(failed[13], guilty) {
			t.Errorf("failed: %v, want only 13", failed)
		}
	})
}

func TestGroupDoesNotHalveWhenTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		gate := make(chan struct{})
		g := newGroup(100, func(int) int { return 1 }, func(_ context.Context, q []int) ([]int, error) {
			<-gate
			calls++
			return nil, fmt.Errorf("claim: %w", store.ErrUnavailable)
		})
		var wg sync.WaitGroup
		wg.Go(func() { g.Run(ctx) })
		for v := range 8 {
			wg.Go(func() {
				if _, err := g.Call(ctx, v); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("call %d: %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		cancel()
		wg.Wait()
		if calls > 2 {
			t.Errorf("%d attempts, want one for each group", calls)
		}
	})
}

func TestGroupForgetsCallersThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		g := newGroup(100, func(int) int { return 1 }, func(_ context.Context, q []int) ([]int, error) {
			seen += len(q)
			return q, nil
		})
		leaving, leave := context.WithCancel(ctx)
		leave()
		if _, err := g.Call(leaving, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("call of one who left: %v", err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { g.Run(ctx) })
		synctest.Wait()
		cancel()
		wg.Wait()
		if seen != 0 {
			t.Errorf("%d calls were made for callers that had left", seen)
		}
	})
}

func jobs(specs ...job.Job) []job.Job {
	for i := range specs {
		specs[i].Kind = "k"
		specs[i].State = job.Running
	}
	return specs
}

// give lets the board deal n batches one at a time and returns how many each job got.
func give(b *board, n int) map[int64]int {
	got := map[int64]int{}
	for range n {
		took := map[int64]store.Took{}
		turns := b.deal(map[string]bool{"k": true}, 1)
		if len(turns) > 0 {
			got[turns[0].JobID]++
			took[turns[0].JobID] = store.Took{Batches: 1, Fresh: 1, Last: turns[0].Floor}
		}
		b.took(turns, took)
	}
	return got
}

func TestBoardTakesTurns(t *testing.T) {
	tests := []struct {
		name string
		jobs []job.Job
		want map[int64]int
	}{
		{"jobs of one project", jobs(job.Job{ID: 1, Project: "a"}, job.Job{ID: 2, Project: "a"}), map[int64]int{1: 6, 2: 6}},
		{"projects first, then their jobs",
			jobs(job.Job{ID: 1, Project: "a"}, job.Job{ID: 2, Project: "b"}, job.Job{ID: 3, Project: "b"}),
			map[int64]int{1: 6, 2: 3, 3: 3}},
		{"priority before all", jobs(job.Job{ID: 1, Project: "a"}, job.Job{ID: 2, Project: "b", Priority: 1}),
			map[int64]int{2: 12}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBoard(0)
			b.refresh(test.jobs)
			if diff := cmp.Diff(test.want, give(b, 12)); diff != "" {
				t.Errorf("one at a time (-want +got):\n%s", diff)
			}
			b = newBoard(0)
			b.refresh(test.jobs)
			got := map[int64]int{}
			for _, turn := range b.deal(map[string]bool{"k": true}, 12) {
				if left := 12 - sum(got); left > 0 {
					got[turn.JobID] = min(turn.Most, left)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("all at once (-want +got):\n%s", diff)
			}
		})
	}
}

func sum(counts map[int64]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func TestBoardNewcomerNeitherWaitsNorCatchesUp(t *testing.T) {
	b := newBoard(0)
	old := job.Job{ID: 1, Project: "big"}
	b.refresh(jobs(old))
	give(b, 1000)
	b.refresh(jobs(old, job.Job{ID: 2, Project: "small"}))
	if diff := cmp.Diff(map[int64]int{1: 5, 2: 5}, give(b, 10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A job that had nothing for a while, as of a slow upload, goes on where the others stand.
func TestBoardIdleJobDoesNotCatchUp(t *testing.T) {
	for _, projects := range [][2]string{{"a", "a"}, {"a", "b"}} {
		b := newBoard(0)
		slow, busy := job.Job{ID: 1, Project: projects[0]}, job.Job{ID: 2, Project: projects[1]}
		b.refresh(jobs(slow, busy))
		give(b, 10)
		b.jobs[2].dry = true // so that only the slow one is asked
		b.dried(b.deal(map[string]bool{"k": true}, 3), nil)
		b.stir(2)
		give(b, 1000)
		b.stir(1)
		if got := give(b, 20); got[1] < 10 || got[1] > 11 {
			t.Errorf("projects %v: of 20 batches %v were given, want about half each", projects, got)
		}
	}
}

func TestBoardAsksManyAtOnce(t *testing.T) {
	b := newBoard(0)
	var many []job.Job
	for i := range int64(300) {
		many = append(many, job.Job{ID: i + 1, Project: fmt.Sprint("p", i%7)})
	}
	b.refresh(jobs(many...))
	asked := map[int64]bool{}
	for rounds := 1; ; rounds++ {
		turns := b.deal(map[string]bool{"k": true}, 1)
		if len(turns) == 0 {
			if rounds > 4 {
				t.Errorf("%d rounds to find that nobody has anything", rounds)
			}
			break
		}
		for _, turn := range turns {
			if asked[turn.JobID] {
				t.Errorf("job %d is asked twice", turn.JobID)
			}
			asked[turn.JobID] = true
		}
		b.dried(turns, nil)
	}
	if len(asked) != len(many) {
		t.Errorf("%d of %d jobs were asked", len(asked), len(many))
	}
}

func TestBoardAsksLowerPrioritiesWhenTheHigherAreDry(t *testing.T) {
	b := newBoard(0)
	b.refresh(jobs(job.Job{ID: 1, Project: "a", Priority: 5}, job.Job{ID: 2, Project: "b", Priority: 2},
		job.Job{ID: 3, Project: "b", Priority: 2}, job.Job{ID: 4, Project: "c"}))
	kinds := map[string]bool{"k": true}
	// Behind a single job stands who comes after it; behind several nobody, since they share what there is.
	turns := b.deal(kinds, 4)
	if diff := cmp.Diff([]store.Turn{{JobID: 1, Most: 4}, {JobID: 2, Most: 2}, {JobID: 3, Most: 2}}, turns); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	b.dried(turns, map[int64]store.Took{2: {Batches: 2}})
	if diff := cmp.Diff([]store.Turn{{JobID: 2, Most: 4}, {JobID: 4, Most: 4}}, b.deal(kinds, 4)); diff != "" {
		t.Errorf("when two are dry (-want +got):\n%s", diff)
	}
	b.stir(1)
	if diff := cmp.Diff(map[int64]int{1: 2}, give(b, 2)); diff != "" {
		t.Errorf("after new batches came (-want +got):\n%s", diff)
	}
}

func TestBoardOffersOnlyKindsServed(t *testing.T) {
	b := newBoard(0)
	b.refresh([]job.Job{{ID: 1, Kind: "other", State: job.Running}})
	if turns := b.deal(map[string]bool{"k": true}, 4); len(turns) != 0 {
		t.Errorf("turns %v", turns)
	}
}

func TestLedgerFindsWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		a := job.Lease{BatchID: 1, Attempt: 1, SessionID: 7}
		b := job.Lease{BatchID: 2, Attempt: 1, SessionID: 7}
		l.Hold(a, 9, 10*time.Second)
		l.Hold(b, 9, 30*time.Second)
		due, next := l.Due(10, time.Second)
		if len(due) != 0 || next != 10*time.Second {
			t.Errorf("due %v, next in %v", due, next)
		}
		pass(10 * time.Second)
		if due, _ = l.Due(10, time.Second); !cmp.Equal(due, []int64{1}) {
			t.Errorf("after 10 s due is %v, want batch 1", due)
		}
		if due, _ = l.Due(10, time.Second); len(due) != 0 {
			t.Errorf("asked again at once: %v", due)
		}
		l.Shorten(7, 5*time.Second)
		pass(5 * time.Second)
		if due, _ = l.Due(10, time.Second); len(due) != 2 {
			t.Errorf("after the grace due is %v, want both", due)
		}
		l.Drop(a)
		l.Drop(job.Lease{BatchID: 2, Attempt: 0})
		if l.Len() != 1 {
			t.Errorf("%d leases left, want the one of a newer attempt", l.Len())
		}
	})
}

func TestLedgerReleasesWhatTwoBeatsDoNotName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		held := job.Lease{BatchID: 1, Attempt: 1, SessionID: 7}
		forgotten := job.Lease{BatchID: 2, Attempt: 3, SessionID: 7}
		l.Hold(held, 9, time.Minute)
		l.Hold(forgotten, 9, time.Minute)
		named := map[int64]bool{1: true}
		for range 3 {
			if got := l.Named(7, named, 5*time.Second); len(got) != 0 {
				t.Fatalf("released %v while the grant may still be on its way", got)
			}
		}
		pass(6 * time.Second)
		if got := l.Named(7, named, 5*time.Second); len(got) != 0 {
			t.Fatalf("released %v after one beat", got)
		}
		if diff := cmp.Diff([]job.Lease{forgotten}, l.Named(7, named, 5*time.Second)); diff != "" {
			t.Errorf("after two beats (-want +got):\n%s", diff)
		}
	})
}

func TestLedgerForgetsWhatEndsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		gone, renewed := job.Lease{BatchID: 1, Attempt: 1, SessionID: 7}, job.Lease{BatchID: 2, Attempt: 1, SessionID: 7}
		l.Hold(gone, 9, time.Second)
		l.Hold(renewed, 9, time.Second)
		for range 10 * overdueMost {
			pass(time.Second)
			l.Due(10, time.Second)
			l.Hold(renewed, 9, time.Second)
		}
		if diff := cmp.Diff([]job.Lease{renewed}, l.OfJob(9)); diff != "" {
			t.Errorf("leases known (-want +got):\n%s", diff)
		}
	})
}

// guiltyStore grants one batch to every request, unless the guilty one is among them.
type guiltyStore struct {
	Store
	guilty error
}

func (guiltyStore) ClaimableJobs(context.Context) ([]job.Job, error) {
	return jobs(job.Job{ID: 1, Project: "a"}), nil
}

func (s guiltyStore) Claim(
	_ context.Context, lease time.Duration, requests []store.ClaimRequest, _ []store.Turn,
) (store.Claimed, error) {
	claimed := store.Claimed{Errs: make([]error, len(requests)), Took: map[int64]store.Took{1: {Batches: len(requests)}}}
	for _, r := range requests {
		if r.RequestID == "guilty" {
			return store.Claimed{}, s.guilty
		}
		claimed.Grants = append(claimed.Grants, []store.Grant{{
			Lease: job.Lease{BatchID: r.SessionID, Attempt: 1, SessionID: r.SessionID}, JobID: 1, Remaining: lease,
		}})
	}
	return claimed, nil
}

// silence is Events that tell nobody.
type silence struct{}

func (silence) Changed(int64, bool)         {}
func (silence) AttemptsEnded([]store.Ended) {}
func (silence) Draining([]int64)            {}
func (silence) Taken([]job.Lease)           {}

func TestClaimsAreHalvedUntilTheGuiltyOneFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		guilty := errors.New("guilty")
		d := New(Config{Store: guiltyStore{guilty: guilty}, Events: silence{}})
		var wg sync.WaitGroup
		for session := range int64(9) {
			id := "innocent"
			if session == 4 {
				id = "guilty"
			}
			wg.Go(func() {
				grants, err := d.Claim(ctx, store.ClaimRequest{SessionID: session, RequestID: id, Max: 1}, []string{"k"})
				switch {
				case session == 4 && !errors.Is(err, guilty):
					t.Errorf("the guilty request got %v", err)
				case session != 4 && (err != nil || len(grants) != 1):
					t.Errorf("request of session %d got %v, %v", session, grants, err)
				}
			})
		}
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		wg.Wait()
		cancel()
		<-done
	})
}
