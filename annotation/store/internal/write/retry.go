package write

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tallyman-dev/tallyman/annotation/store"
)

// The bounds of trying again.
const (
	patience     = 30 * time.Second // how long failures that pass are retried
	fullPatience = 2 * time.Second  // how long a full disk is: no longer than others may make room by ending what they do
	tryTime      = 2 * time.Minute  // after which a try that gives no answer is one of them
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// Retry does something until it works, fails for good, or has failed for too long: ErrUnavailable. If ctx ends, its
// cause is returned.
func Retry(ctx context.Context, fault func(error) (Fault, string), do func(context.Context) error) error {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := once(ctx, do)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch f, _ := fault(err); {
		case f == Full && time.Since(began) > fullPatience:
			return fmt.Errorf("%w: its disk is full: %w", store.ErrUnavailable, err)
		case f != Full && f != Transient && !errors.Is(err, context.DeadlineExceeded): // of once: that of ctx was looked at
			return err
		case time.Since(began) > patience:
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

func once(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	return do(ctx)
}
