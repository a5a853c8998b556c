package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
)

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
