package worker_test

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

func TestClaimIsRepeatedUntilAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(2)
		c.before = func(call string, n int) error {
			if call == "claim" && n == 1 {
				return unavailable
			}
			return nil
		}
		c.after = func(call string, n int) error {
			if call == "claim" && n < 4 {
				return unavailable // the grant is lost on its way
			}
			return nil
		}
		if err := start(t, conn, worker.HandlerFunc(storing), worker.Config{ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if b.attempt != 1 || b.ends != 1 {
			t.Errorf("%d attempts, %d ends; want one", b.attempt, b.ends)
		}
		if d := cmp.Diff([]bool{true, true, true}, []bool{
			c.requests[0] == c.requests[1], c.requests[1] == c.requests[2], c.requests[2] != c.requests[3],
		}); d != "" {
			t.Errorf("request ids %q: three times the same and then another is wanted", c.requests)
		}
	})
}

// An outage is over when a call gets through, not when the coordinator has something to answer.
func TestIdleClaimIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.before = func(call string, n int) error {
			if call == "claim" && n == 1 {
				return unavailable
			}
			return nil
		}
		began := time.Now()
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 3*time.Second {
			t.Fatalf("the worker waited for %v only", took)
		}
		match := regexp.MustCompile(`coordinator reached again.* operation="claim batches" outage=(\S+)`).FindStringSubmatch(r.log.String())
		if match == nil {
			t.Fatalf("the outage is not over:\n%s", r.log)
		}
		if outage, err := time.ParseDuration(match[1]); err != nil || outage > time.Second {
			t.Errorf("outage %v, error %v; want that before the call that got through", outage, err)
		}
	})
}

func TestClaimWhoseDeadlinePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		c.after = func(call string, n int) error {
			if call == "claim" && n == 1 {
				<-time.After(time.Minute) // slower than any deadline
			}
			return nil
		}
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if b.attempt != 1 || b.ends != 1 {
			t.Errorf("%d attempts, %d ends; want one", b.attempt, b.ends)
		}
		if strings.Contains(r.log.String(), "WARN") {
			t.Errorf("logged a warning:\n%s", r.log)
		}
	})
}

func TestReadsWhatDoesNotComeWithTheGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(50)
		b.read, b.frame = b.frame, nil
		c.before = func(call string, n int) error {
			if call == "read" && n == 1 {
				return unavailable
			}
			return nil
		}
		c.after = func(call string, n int) error {
			if call == "read" && n == 2 {
				return unavailable // in the middle
			}
			return nil
		}
		if err := start(t, conn, worker.HandlerFunc(storing), worker.Config{ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if b.ends != 1 || len(b.outcomes) != 50 || c.count("read") != 3 {
			t.Errorf("%d ends with %d outcomes after %d reads", b.ends, len(b.outcomes), c.count("read"))
		}
	})
}

func TestPayloadThatCannotBeUsed(t *testing.T) {
	tests := map[string]struct {
		spoil   func(*batch)
		limit   int64
		message string
	}{
		"damaged":  {spoil: func(b *batch) { b.frame[len(b.frame)/2] ^= 0xff }, message: "unpack batch"},
		"too few":  {spoil: func(b *batch) { b.items++ }, message: "the payload has 3 items, the grant speaks of 4"},
		"too much": {spoil: func(*batch) {}, limit: 10, message: "max-payload-bytes"},
		"too much to read": {
			spoil:   func(b *batch) { b.frame, b.read = nil, make([]byte, 5000) },
			limit:   10,
			message: "max-payload-bytes",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				b := c.add(3)
				test.spoil(b)
				r := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1, MaxPayloadBytes: test.limit})
				synctest.Wait()
				<-time.After(100 * time.Millisecond)
				r.stop()
				if err := r.wait(); err != nil {
					t.Fatal(err)
				}
				if b.ends == 0 || len(c.settles) == 0 {
					t.Fatalf("not settled:\n%s", r.log)
				}
				s := c.settles[0].GetSettlements()[0]
				if s.GetEnd() != pb.AttemptEnd_ATTEMPT_END_FAILED || !strings.Contains(s.GetMessage(), test.message) {
					t.Errorf("settled with %v, want a failure with %q", s, test.message)
				}
			})
		})
	}
}

func TestReadThatFindsTheLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(1)
		b.read, b.frame = b.frame, nil
		c.before = func(call string, _ int) error {
			if call == "read" {
				b.lost = true
			}
			return nil
		}
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if len(c.settles) != 0 || c.count("read") != 1 {
			t.Errorf("%d settles after %d reads", len(c.settles), c.count("read"))
		}
	})
}
