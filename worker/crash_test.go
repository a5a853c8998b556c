package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// crashing is a handler that reports one item and then crashes.
func crashing(crash worker.Crash) worker.Handler {
	return worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
		b.Report(worker.Result{Outcome: worker.Stored})
		return fmt.Errorf("item %d: %w", b.Items[1].Number, &crash)
	})
}

func TestCrashIsSettledAsDied(t *testing.T) {
	for name, test := range map[string]struct {
		crash   worker.Crash
		want    *pb.Crash
		message string
	}{
		"by a signal": {
			worker.Crash{Suspect: 1, Signal: "SIGSEGV", PeakMemory: 5 << 30, Stderr: "argh\n", Fingerprint: "0123456789ab"},
			&pb.Crash{Suspect: 2, Signal: "SIGSEGV", PeakMemoryBytes: 5 << 30, Stderr: "argh\n",
				Fingerprint: "0123456789ab"},
			"item 2: the process was killed by SIGSEGV",
		},
		"by itself, over nobody knows what": {
			worker.Crash{Suspect: -1, ExitCode: 3}, &pb.Crash{ExitCode: 3}, "item 2: the process exited with code 3",
		},
		"over an item that is not there": {worker.Crash{Suspect: 3, ExitCode: 1}, &pb.Crash{ExitCode: 1},
			"item 2: the process exited with code 1"},
		"with more to say than is kept": {
			worker.Crash{Suspect: 2, Signal: strings.Repeat("S", 40), PeakMemory: -1, Fingerprint: strings.Repeat("f", 70),
				Stderr: "€" + strings.Repeat("x\x00", worker.MaxCrashOutput/2-1) + "\xff"},
			&pb.Crash{Suspect: 3, Signal: strings.Repeat("S", 32), Fingerprint: strings.Repeat("f", 64),
				Stderr: strings.Repeat("x?", worker.MaxCrashOutput/2-1) + "?"},
			"item 2: the process was killed by " + strings.Repeat("S", 40),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				b := c.add(3)
				if err := start(t, conn, crashing(test.crash), worker.Config{ExitWhenIdle: true}).wait(); err != nil {
					t.Fatal(err)
				}
				want := &pb.Settlement{BatchId: b.id, Attempt: 1, End: pb.AttemptEnd_ATTEMPT_END_DIED, Message: test.message,
					Outcomes: []*pb.OutcomeRun{{Count: 1, Outcome: pb.Outcome_OUTCOME_STORED}}, Crash: test.want}
				if diff := cmp.Diff(want, b.end, protocmp.Transform()); diff != "" {
					t.Errorf("settled (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What is over for another reason has not crashed.
func TestCrashOfWhatIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		h := worker.HandlerFunc(func(ctx context.Context, _ *worker.Batch) error {
			c.mu.Lock()
			b.cancel = true
			c.mu.Unlock()
			<-ctx.Done()
			return errors.Join(context.Cause(ctx), &worker.Crash{Suspect: 0, Signal: "SIGTERM"})
		})
		if err := start(t, conn, h, worker.Config{ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_CANCELLED || b.end.GetCrash() != nil {
			t.Errorf("settled with %v", b.end)
		}
	})
}

// whole is a handler that finishes all items at once, if that is true.
type whole bool

func (w whole) AllAtOnce() bool { return bool(w) }

func (w whole) Handle(_ context.Context, b *worker.Batch) error {
	<-time.After(3 * beatTime)
	b.ReportRest(worker.Result{Outcome: worker.Stored})
	return nil
}

func TestBeatsSayThatAllIsDoneAtOnce(t *testing.T) {
	for _, want := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, conn := serve(t)
			c.add(2)
			if err := start(t, conn, whole(want), worker.Config{ExitWhenIdle: true}).wait(); err != nil {
				t.Fatal(err)
			}
			leases := 0
			for _, beat := range c.beats {
				for _, l := range beat.GetLeases() {
					if leases++; l.GetOpaque() != want {
						t.Errorf("a beat of a handler that says %v: %v", want, l)
					}
				}
			}
			if leases == 0 {
				t.Error("no beat")
			}
		})
	}
}
