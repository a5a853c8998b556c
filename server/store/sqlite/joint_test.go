package sqlite

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// crowded has callers join, one after the other, while somebody else writes, and returns what became of each. The callers
// whose contexts are given end theirs before it is anybody's turn.
func crowded(t *testing.T, s *Store, leaving []int, callers []func(*tx) error) []error {
	t.Helper()
	if err := s.writer.queue.acquire(t.Context(), keeping); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, len(callers))
	ends := make([]context.CancelFunc, len(callers))
	for i, write := range callers {
		var ctx context.Context
		ctx, ends[i] = context.WithCancel(t.Context())
		defer ends[i]()
		go func() { errs[i] = s.together(ctx, write) }()
		synctest.Wait()
	}
	for _, i := range leaving {
		ends[i]()
	}
	synctest.Wait()
	s.writer.queue.release()
	synctest.Wait()
	if len(s.joint.waiting) > 0 {
		t.Errorf("%d still wait", len(s.joint.waiting))
	}
	return errs
}

func TestManyJoinInOneTransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		var callers []func(*tx) error
		transactions := map[*tx]int{}
		for range jointMost + 5 {
			callers = append(callers, func(t *tx) error {
				transactions[t]++
				return nil
			})
		}
		leaving := []int{0, 1, jointMost} // who leads, who is carried, and who would be the last of the first transaction
		for i, err := range crowded(t, s, leaving, callers) {
			var want error
			for _, left := range leaving {
				if i == left {
					want = context.Canceled
				}
			}
			if !errors.Is(err, want) {
				t.Errorf("caller %d: %v, want %v", i, err, want)
			}
		}
		// Of those who left, the leader's place in the transaction is the only one that nobody else has taken.
		want := map[int]int{jointMost - 1: 1, 3: 1}
		sizes := map[int]int{}
		for _, n := range transactions {
			sizes[n]++
		}
		if diff := cmp.Diff(want, sizes); diff != "" {
			t.Errorf("transactions by how many writes they have (-want +got):\n%s", diff)
		}
	})
}

func TestWhoFailsFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		jobs := []int64{uploaded(t, s, "a", 1), uploaded(t, s, "b", 1), uploaded(t, s, "c", 1)}
		fail := errors.New("in the middle")
		var callers []func(*tx) error
		for i, id := range jobs {
			callers = append(callers, func(t *tx) error {
				if err := t.stop(id, job.Failed, fmt.Sprint("by caller ", i)); err != nil {
					return err
				}
				if i == 1 {
					return fail
				}
				return nil
			})
		}
		for i, err := range crowded(t, s, nil, callers) {
			if want := map[int]error{1: fail}[i]; !errors.Is(err, want) {
				t.Errorf("caller %d: %v, want %v", i, err, want)
			}
			got, err := s.GetJob(t.Context(), jobs[i])
			if stopped := got.State == job.Cancelling; err != nil || stopped == (i == 1) {
				t.Errorf("job of caller %d: %+v, %v", i, got, err)
			}
		}
	})
}

func TestAFailedTransactionFailsForAllWhoJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		id := uploaded(t, s, "a", 1)
		nothing := func(*tx) error { return nil }
		stop := func(t *tx) error { return t.stop(id, job.Failed, "") }
		ended := func(t *tx) error {
			if err := t.exec("ROLLBACK"); err != nil { // as SQLite does itself when the disk is full
				return err
			}
			return store.ErrFull
		}
		for i, err := range crowded(t, s, nil, []func(*tx) error{nothing, stop, ended, nothing}) {
			if err == nil {
				t.Errorf("caller %d was told that its write was made", i)
			}
		}
		if got, err := s.GetJob(t.Context(), id); err != nil || got.State != job.Running {
			t.Errorf("the job is %v, %v", got.State, err)
		}
		if err := s.together(t.Context(), stop); err != nil {
			t.Errorf("the next write: %v", err)
		}
	})
}
