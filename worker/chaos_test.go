package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// dice is a source of decisions that many goroutines share.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) one(in int) bool { return d.below(in) == 0 }

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// unreliable is a handler with a store of its own. It is slow, fails, panics, and may not notice that it must stop.
type unreliable struct {
	*dice
	calm func() bool // failures are over

	mu     sync.Mutex
	fences map[int64]int32             // by batch: the highest attempt
	stored map[[2]int64]worker.Outcome // by batch and item
	twice  int                         // effects of items that had one
}

// outcome is that of an item, whoever handles it.
func outcome(batch, item int64) worker.Outcome {
	return worker.Stored + worker.Outcome((batch+item)%3)
}

func (u *unreliable) Handle(ctx context.Context, b *worker.Batch) error {
	u.mu.Lock()
	u.fences[b.ID] = max(u.fences[b.ID], b.Attempt)
	u.mu.Unlock()
	for _, it := range b.Open() {
		if !u.calm() {
			switch u.below(60) {
			case 0:
				return errBroken
			case 1:
				panic(errBroken)
			case 2:
				<-time.After(time.Duration(u.below(60)) * time.Second) // deaf meanwhile
			}
		}
		select {
		case <-time.After(time.Duration(u.below(900)) * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		u.mu.Lock()
		if u.fences[b.ID] > b.Attempt {
			u.mu.Unlock()
			return worker.ErrLeaseLost
		}
		key := [2]int64{b.ID, it.Number}
		if _, ok := u.stored[key]; ok {
			u.twice++
		}
		u.stored[key] = outcome(b.ID, it.Number)
		u.mu.Unlock()
		result := worker.Result{Outcome: outcome(b.ID, it.Number)}
		if result.Outcome != worker.Stored {
			result.Findings = []worker.Finding{{Severity: worker.SeverityWarning, Code: strconv.FormatInt(it.Number, 10)}}
		}
		b.Report(result)
	}
	return nil
}

// TestNothingIsLostOrDoubled has workers that come and go, an unreliable handler, and a coordinator whose calls fail
// before and after their effect and whose beats remain unanswered. When that is over, every item must have the outcome
// and the findings that its handling gave, exactly once.
func TestNothingIsLostOrDoubled(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	t.Helper()
	d := &dice{rng: rand.New(rand.NewPCG(seed, 1))}
	c, conn := serve(t)
	c.reaps = true
	began := time.Now()
	calm := func() bool { return time.Since(began) > 4*time.Minute }
	failing := func(string, int) error {
		if calm() || !d.one(6) {
			return nil
		}
		return status.Error([]codes.Code{codes.Unavailable, codes.Unavailable, codes.Aborted, codes.Internal}[d.below(4)], "out of luck")
	}
	c.before, c.after = failing, failing
	c.silent = func() bool { return !calm() && d.one(5) }
	for range 12 {
		b := c.add(1 + d.below(30))
		if d.one(3) {
			b.read, b.frame = b.frame, nil
		}
	}
	h := &unreliable{dice: d, calm: calm, fences: map[int64]int32{}, stored: map[[2]int64]worker.Outcome{}}
	open := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, b := range c.batches {
			if b.held || b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
				return true
			}
		}
		return false
	}
	for open() {
		if time.Since(began) > time.Hour {
			t.Fatal("there is no end of it")
		}
		r := start(t, conn, h, worker.Config{Slots: 1 + d.below(5)})
		life := time.Duration(1+d.below(120)) * time.Second
		for lived := time.Duration(0); lived < life && open(); lived += time.Second {
			<-time.After(time.Second)
		}
		r.stop()
		if err := r.wait(); err != nil && time.Since(began) > 6*time.Minute { // nobody is deaf any more
			t.Errorf("Run returned %v", err)
		}
	}
	<-time.After(time.Minute) // handlers that are deaf still
	for _, b := range c.batches {
		if len(b.outcomes) != b.items || b.ends == 0 {
			t.Errorf("batch %d of %d items has %d outcomes", b.id, b.items, len(b.outcomes))
		}
		findings := 0
		for i, got := range b.outcomes {
			want := outcome(b.id, int64(i+1))
			if worker.Outcome(got) != want || h.stored[[2]int64{b.id, int64(i + 1)}] != want {
				t.Errorf("batch %d, item %d: %v, want %v", b.id, i+1, got, want)
			}
			if want == worker.Stored {
				continue
			}
			if findings >= len(b.findings) || b.findings[findings].GetFinding().GetCode() != strconv.Itoa(i+1) {
				t.Fatalf("batch %d: finding %d is not of item %d", b.id, findings, i+1)
			}
			findings++
		}
		if findings != len(b.findings) {
			t.Errorf("batch %d has %d findings, want %d", b.id, len(b.findings), findings)
		}
	}
	t.Logf("%d calls of settle, %d effects repeated, over after %v", c.count("settle"), h.twice, time.Since(began))
}
