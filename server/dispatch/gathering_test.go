package dispatch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// emptyStore settles everything and has nothing to claim.
type emptyStore struct {
	Store
	calls   int
	settled map[int64]bool
}

func (*emptyStore) ClaimableJobs(context.Context) ([]job.Job, error) {
	return jobs(job.Job{ID: 1, Project: "a"}), nil
}

func (*emptyStore) Claim(_ context.Context, _ time.Duration, requests []store.ClaimRequest, _ []store.Turn) (store.Claimed, error) {
	return store.Claimed{
		Grants: make([][]store.Grant, len(requests)), Errs: make([]error, len(requests)), Took: map[int64]store.Took{1: {}},
	}, nil
}

func (s *emptyStore) SettleAndClaim(
	ctx context.Context, settlements []store.Settlement, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn,
) (settled store.Settled, claimed store.Claimed, err error) {
	s.calls++
	for _, x := range settlements {
		s.settled[x.BatchID] = true
		settled.Answers = append(settled.Answers, store.SettleAnswer{JobID: x.BatchID, State: job.BatchCompleted})
	}
	claimed, err = s.Claim(ctx, lease, requests, turns)
	if requests[0].SessionID%2 == 1 {
		claimed.Errs[0] = store.ErrSessionEnded
	}
	return settled, claimed, err
}

// working runs a dispatcher for the rest of the bubble.
func working(t *testing.T, s Store, size int) *Dispatcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := New(Config{Store: s, Events: silence{}, GroupSize: size})
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return d
}

func settlementOf(batch int64) []store.Settlement {
	return []store.Settlement{{Lease: job.Lease{BatchID: batch, Attempt: 1, SessionID: batch}, End: job.End{Kind: job.EndCompleted}}}
}

// Who settles is answered at once, though there is no work, and though those who wait for some fill a group by themselves.
func TestSettlingDoesNotWaitForWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{settled: map[int64]bool{}}
		d := working(t, s, 4)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for session := range int64(5) {
			wg.Go(func() {
				request := store.ClaimRequest{SessionID: 100 + session, RequestID: "r", Max: 4}
				if grants, err := d.Claim(ctx, request, []string{"k"}); err != nil || len(grants) > 0 {
					t.Errorf("a claim in vain was answered with %v, %v", grants, err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		var settling sync.WaitGroup
		for batch := range int64(9) {
			settling.Go(func() {
				request := store.ClaimRequest{SessionID: batch, RequestID: "next", Max: 4}
				answers, grants, err := d.SettleAndClaim(t.Context(), settlementOf(batch), request, []string{"k"})
				if err != nil || len(grants) > 0 || len(answers) != 1 || answers[0].JobID != batch {
					t.Errorf("settling batch %d was answered with %v, %v, %v", batch, answers, grants, err)
				}
			})
		}
		settling.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("settling took %v", took)
		}
		if len(s.settled) != 9 {
			t.Errorf("settled %v, want nine", s.settled)
		}
		cancel()
		wg.Wait()
	})
}

// A session that is being drained settles nevertheless, also when that becomes known while it waits for its turn.
func TestDrainedSessionsSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{settled: map[int64]bool{}}
		d := New(Config{Store: s, Events: silence{}})
		var wg sync.WaitGroup
		wg.Go(func() {
			request := store.ClaimRequest{SessionID: 2, RequestID: "next", Max: 1}
			if answers, _, err := d.SettleAndClaim(t.Context(), settlementOf(2), request, []string{"k"}); err != nil || len(answers) != 1 {
				t.Errorf("settling was answered with %v, %v", answers, err)
			}
		})
		synctest.Wait()
		d.Drain([]int64{2})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		wg.Wait()
		cancel()
		<-done
		if !s.settled[2] {
			t.Error("the session's batch was not settled")
		}
	})
}

// awayStore cannot be reached.
type awayStore struct{ emptyStore }

func (*awayStore) SettleAndClaim(
	context.Context, []store.Settlement, time.Duration, []store.ClaimRequest, []store.Turn,
) (store.Settled, store.Claimed, error) {
	return store.Settled{}, store.Claimed{}, store.ErrUnavailable
}

func TestSettlingDoesNotWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := working(t, &awayStore{}, 0)
		request := store.ClaimRequest{SessionID: 2, RequestID: "next", Max: 1}
		if _, _, err := d.SettleAndClaim(t.Context(), settlementOf(2), request, []string{"k"}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("settling was answered with %v", err)
		}
	})
}
