package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/retry"
)

func TestPausesGrowToTheLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Pacer{Longest: time.Second}
		wants := []int{100, 200, 400, 800, 1000, 1000}
		for i, milliseconds := range wants {
			want := time.Duration(milliseconds) * time.Millisecond
			p.Failed()
			began := time.Now()
			if !p.Wait(t.Context(), time.Hour) {
				t.Fatal("the wait was cut short")
			}
			if got := time.Since(began); got < want/2 || got > want {
				t.Errorf("pause %d was %v, want half to all of %v", i, got, want)
			}
		}
		if p.Progressed() == 0 {
			t.Error("an outage of seconds took no time")
		}
		if again := p.Progressed(); again != 0 {
			t.Errorf("without an outage, one of %v is told", again)
		}
		p.Failed()
		began := time.Now()
		p.Wait(t.Context(), time.Hour)
		if got := time.Since(began); got > retry.First {
			t.Errorf("the first pause after progress was %v, want at most %v", got, retry.First)
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Pacer{Longest: time.Minute}
		p.Failed()
		began := time.Now()
		if !p.Wait(t.Context(), time.Millisecond) || time.Since(began) != time.Millisecond {
			t.Errorf("waited %v, want 1ms", time.Since(began))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if p.Wait(ended, time.Hour) {
			t.Error("waited although the context had ended")
		}
	})
}

// TestWhatIsAnsweredDoesNotCount has tries that stand for long before they fail: only the time in between is an outage.
func TestWhatIsAnsweredDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Pacer{Longest: time.Second}
		pass := func(d time.Duration) { <-time.After(d) }
		p.Answered() // before anything has failed it says nothing
		if got := p.Failed(); got != 0 {
			t.Errorf("failing for %v at the first failure", got)
		}
		pass(2 * time.Second)
		p.Answered()
		pass(time.Hour)
		p.Answered() // again, of the same try
		pass(time.Hour)
		if got := p.Failed(); got != 2*time.Second {
			t.Errorf("failing for %v, want 2s", got)
		}
		pass(3 * time.Second)
		if got := p.Failed(); got != 5*time.Second {
			t.Errorf("failing for %v, want 5s", got)
		}
	})
}

func TestBlame(t *testing.T) {
	silent, cancelSilent := context.WithCancelCause(t.Context())
	cancelSilent(retry.ErrSilent)
	wanted, cancelWanted := context.WithCancelCause(t.Context())
	cancelWanted(errors.New("the caller is tired"))
	for name, test := range map[string]struct {
		ctx  context.Context
		err  error
		want codes.Code
	}{
		"silence":              {silent, status.Error(codes.Canceled, "context canceled"), codes.Unavailable},
		"silence, by deadline": {silent, status.Error(codes.DeadlineExceeded, "deadline"), codes.Unavailable},
		"another error":        {silent, status.Error(codes.NotFound, "no such job"), codes.NotFound},
		"the caller":           {wanted, status.Error(codes.Canceled, "context canceled"), codes.Canceled},
		"nothing":              {wanted, nil, codes.OK},
	} {
		if got := status.Code(retry.Blame(test.ctx, test.err)); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
