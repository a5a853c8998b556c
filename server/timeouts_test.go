package server

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

// timed beats for a grant, with so many items finished as of each beat, until it is lost, and returns after how long.
func (b *beating) timed(g *pb.Grant, most time.Duration, finished func(time.Duration) int32) time.Duration {
	b.t.Helper()
	began := time.Now()
	for time.Since(began) < most {
		r := renewal(g)
		r.FinishedItems = finished(time.Since(began))
		if b.beat(r).GetLeases()[0].GetVerdict() == lost {
			return time.Since(began)
		}
		pass(time.Second)
	}
	return most
}

func TestAttemptsThatTakeTooLongFail(t *testing.T) {
	const most = 30 * time.Minute
	for _, test := range []struct {
		name           string
		stall, attempt time.Duration
		finished       func(time.Duration) int32
		want           time.Duration
		message        string
	}{
		{"stalls by default", 0, 0, func(time.Duration) int32 { return 0 }, 10 * time.Minute, "no item finished for 10m0s (stall_timeout)"},
		{"stalls after its first item", time.Minute, 0, func(d time.Duration) int32 { return min(int32(d/(50*time.Second)), 1) },
			110 * time.Second, "no item finished for 1m0s (stall_timeout)"},
		{"is slow", time.Minute, 0, func(d time.Duration) int32 { return int32(d / (50 * time.Second)) }, most, ""},
		{"may stall", -1, 0, func(time.Duration) int32 { return 0 }, most, ""},
		{"waits for its handler", time.Minute, 0, func(time.Duration) int32 { return -1 }, most, ""},
		{"waits, then stalls", time.Minute, 0, func(d time.Duration) int32 {
			if d < 5*time.Minute {
				return -1
			}
			return 0
		}, 6*time.Minute - time.Second, "no item finished for 1m0s (stall_timeout)"}, // since the last beat that waited
		{"takes too long", 0, 5 * time.Minute, func(d time.Duration) int32 { return int32(d / time.Second) }, 5 * time.Minute,
			"not done after 5m0s (attempt_timeout)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				h := header("slow")
				if test.stall != 0 {
					h.Policy.StallTimeout = durationpb.New(test.stall)
				}
				if test.attempt != 0 {
					h.Policy.AttemptTimeout = durationpb.New(test.attempt)
				}
				c.submit(h, lines(1, 2))
				session := c.register("w")
				g := c.claimOne(session, "r")
				b := c.beating(session)
				got := b.timed(g, most, test.finished)
				if got < test.want || got > test.want+3*time.Second {
					t.Errorf("taken away after %v, want %v", got, test.want)
				}
				if test.message == "" {
					return
				}
				a := c.batch(g.GetBatchId()).GetAttempts()
				if len(a) != 1 || a[0].GetEnd() != pb.AttemptEnd_ATTEMPT_END_FAILED || !strings.Contains(a[0].GetMessage(), test.message) ||
					a[0].GetBatchState() != pb.BatchState_BATCH_STATE_PENDING {
					t.Errorf("attempts %v, want one that failed with %q and is retried", a, test.message)
				}
			})
		})
	}
}

// shared is a store that another coordinator closes.
type shared struct{ store.Store }

func (shared) Close() error { return nil }

// beside starts a coordinator on the database of another one, in the same bubble.
func beside(t *scene, first *coordinator) *coordinator {
	t.Helper()
	return start(t, Config{Database: t.database}, func(own store.Store) store.Store {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
		return shared{first.server.store}
	})
}

// A worker whose coordinator is gone, or does not answer, beats at another one. The time for which it finishes nothing
// begins anew there: it may be judged late, but neither of them judges it early, and what stalls is ended for certain.
func TestStallIsNeverEndedEarlyAfterAChangeOfCoordinators(t *testing.T) {
	const stall = 2 * time.Minute
	steady := func(n int32) func(time.Duration) int32 { return func(time.Duration) int32 { return n } }
	for _, test := range []struct {
		name   string
		killed bool          // the first coordinator; else it hears nothing more
		leaves time.Duration // when the worker goes to the second
		there  func(time.Duration) int32
		want   time.Duration // from the arrival there to the end
	}{
		{"killed, nothing finished", true, 90 * time.Second, steady(0), stall},
		{"killed, something finished there", true, 90 * time.Second,
			func(d time.Duration) int32 { return min(int32(d/(30*time.Second)), 1) }, 30*time.Second + stall},
		{"frozen, nothing finished", false, 110 * time.Second, steady(0), stall},
		{"frozen, something finished on the way", false, 110 * time.Second, steady(1), stall},
		{"frozen early", false, 10 * time.Second, steady(0), stall},
		{"frozen, slow but never stalled", false, 110 * time.Second,
			func(d time.Duration) int32 { return int32(d / (100 * time.Second)) }, 20 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *scene) {
				first := start(t, Config{Database: t.database}, nil)
				h := header("moves")
				h.Policy.StallTimeout = durationpb.New(stall)
				first.submit(h, lines(1, 2))
				session := first.register("w")
				g := first.claimOne(session, "r")
				b := first.beating(session)
				if got := b.timed(g, test.leaves, steady(0)); got < test.leaves {
					t.Fatalf("taken away after %v", got)
				}
				var second *coordinator
				if test.killed {
					first.must(first.halt())
					second = start(t, Config{Database: t.database}, nil)
				} else {
					second = beside(t, first)
				}
				got := second.beating(session).timed(g, 20*time.Minute, test.there)
				if got < test.want || got > test.want+3*time.Second {
					t.Errorf("taken away after %v at the second coordinator, want %v", got, test.want)
				}
				if test.want == 20*time.Minute {
					return
				}
				a := second.batch(g.GetBatchId()).GetAttempts()
				if len(a) != 1 || a[0].GetEnd() != pb.AttemptEnd_ATTEMPT_END_FAILED || !strings.Contains(a[0].GetMessage(), "stall_timeout") {
					t.Errorf("attempts %v, want one that stalled", a)
				}
			})
		})
	}
}
