package worker

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/tallyman-dev/tallyman/internal/retry"
)

// The longest pause between two tries, so that there are several within a lease, also when each finds another coordinator
// gone.
const (
	longPause   = 3 * time.Second
	leasePauses = 10 // at least, within a lease
)

// remindAfter is how often an outage that goes on is logged again.
const remindAfter = time.Minute

// repetition is one operation that is repeated until it succeeds. It logs each outage when it begins, every now and then,
// and when it is over. It is for one goroutine.
type repetition struct {
	log       *slog.Logger
	address   string // where the coordinator is looked for; empty for a connection that the worker did not make
	operation string
	pacer     retry.Pacer
	reminded  time.Duration // into the outage, at the last log line
}

func (s *session) repeat(operation string) *repetition {
	r := repeat(s.log, s.config.Address, operation)
	r.pacer.Longest = min(longPause, s.lease/leasePauses)
	return r
}

func repeat(log *slog.Logger, address, operation string) *repetition {
	return &repetition{log: log, address: address, operation: operation, pacer: retry.Pacer{Longest: longPause}}
}

// failed waits until the operation may be tried again. It returns false when ctx has ended.
func (r *repetition) failed(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	switch failing := r.pacer.Failed(); {
	case failing == 0:
		r.reminded = 0
		r.log.Warn("coordinator not reached, trying again", "operation", r.operation, "address", r.address, "error", err)
	case failing >= r.reminded+remindAfter:
		r.reminded = failing
		r.log.Warn("coordinator still not reached", "operation", r.operation, "address", r.address,
			"outage", failing.Round(time.Second), "error", err)
	}
	return r.pacer.Wait(ctx, math.MaxInt64)
}

// worked forgets the failures so far.
func (r *repetition) worked() { r.reached(time.Now()) }

// reached forgets the failures so far, after which a call reached the coordinator that was sent at that time.
func (r *repetition) reached(sent time.Time) {
	if outage := r.pacer.Progressed(); outage > 0 {
		outage = max(outage-time.Since(sent), 0)
		r.log.Info("coordinator reached again", "operation", r.operation, "outage", outage.Round(time.Millisecond))
	}
}
