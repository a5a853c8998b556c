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
