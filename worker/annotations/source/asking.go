package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/internal/retry"
)

const (
	longestPause = 5 * time.Second // between two tries

	// Before an id is blamed for an error of the server, the server gets more chances.
	moreTries = 2
	tryPause  = 200 * time.Millisecond // before the first of them; twice as long before the next
)

// asking is how one Lookup goes through the ids that it has to ask for.
type asking struct {
	*Source
	settle  func(id string, doc Document)
	bytes   int64 // of the texts so far
	well    bool  // the source has answered something meanwhile, so that what it refuses is not its own fault
	pacer   retry.Pacer
	failing time.Duration // for which nothing has been answered
}

// errEnough ends a Lookup with the documents that it has.
var errEnough = errors.New("the texts take enough memory")

func newAsking(s *Source, settle func(string, Document)) *asking {
	return &asking{Source: s, settle: settle, pacer: retry.Pacer{Longest: longestPause}}
}

// all asks for ids, in as many calls as it takes, and settles each.
func (a *asking) all(ctx context.Context, ids []string) error {
	for len(ids) > 0 {
		if a.bytes >= a.config.MaxBytes {
			return errEnough
		}
		n := min(len(ids), a.size())
		if err := a.list(ctx, ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// list asks for ids in one call, and in smaller ones where that does not work.
func (a *asking) list(ctx context.Context, ids []string) error {
	for tries := 0; ; tries++ {
		got, err := a.try(ctx, ids)
		if err == nil {
			a.conclude(ids, got)
			return nil
		}
		var f *failure
		var r *refusal
		switch half := len(ids) / 2; {
		case errors.As(err, &f) && f.slow && half > 0:
			return a.all(ctx, ids)
		case errors.As(err, &f):
			tries = -1
		case !errors.As(err, &r):
			return err
		case half > 0:
			if r.large {
				a.shrink(half)
			}
			if err := a.list(ctx, ids[:half]); err != nil {
				return err
			}
			if a.bytes >= a.config.MaxBytes {
				return errEnough
			}
			return a.list(ctx, ids[half:])
		case r.status >= 500 && tries < moreTries:
			if err := pause(ctx, tryPause<<tries); err != nil {
				return err
			}
		default:
			return a.refuse(ctx, ids[0], r)
		}
	}
}

// try makes one call. When it fails for a reason that passes, try has waited for it to pass before it returns the failure;
// ErrUnavailable when that is taking too long.
func (a *asking) try(ctx context.Context, ids []string) (answer, error) {
	if rest := a.rests(); rest > a.config.Patience-a.failing {
		return answer{}, a.gaveUp(fmt.Errorf("it wants to be left alone for %v more", rest.Round(time.Second)))
	} else if rest > 0 {
		if err := pause(ctx, rest); err != nil {
			return answer{}, err
		}
	}
	got, err := a.call(ctx, ids)
	if err == nil {
		a.well, a.failing = true, 0
		a.pacer.Progressed()
		a.answered()
		return got, nil
	}
	var f *failure
	if !errors.As(err, &f) {
		return answer{}, err
	}
	if f.slow && len(ids) > 1 {
		a.shrink(len(ids) / 2)
	}
	a.failing = a.pacer.Failed()
	lasting := a.failed(f)
	if f.final || lasting || a.failing >= a.config.Patience {
		return answer{}, a.gaveUp(f)
	}
	if f.after > 0 {
		return answer{}, f // the next try waits
	}
	if !a.pacer.Wait(ctx, a.config.Patience-a.failing) {
		return answer{}, context.Cause(ctx)
	}
	return answer{}, f
}

// conclude settles the ids of an answered call.
func (a *asking) conclude(ids []string, got answer) {
	for _, id := range ids {
		doc, ok := got.docs[id]
		switch {
		case !ok:
			doc.Reason = fmt.Sprintf("The source of %s does not have document %s:%s.%s", a.name, a.config.SourceDB, id,
				says(got.about(id)))
		case doc.Refused:
			doc.Reason = a.refusedBecause(id, doc.Reason)
		}
		if doc.Text != "" {
			a.bytes += int64(len(doc.Text))
			a.setGood(id)
		}
		a.settle(id, doc)
	}
}

func says(messages []string) string {
	quoted := make([]string, len(messages))
	for i, m := range messages {
		quoted[i] = strconv.Quote(m)
	}
	if len(quoted) == 0 {
		return ""
	}
	return " It says: " + strings.Join(quoted, ", ") + "."
}

func (a *asking) refusedBecause(id, predicate string) string {
	return fmt.Sprintf("The source of %s answers the request for document %s:%s %s.", a.name, a.config.SourceDB, id, predicate)
}

// refuse settles an id that the source cannot bear, once it is known that the source is not what is broken: after an
// error of the server's it must still answer for an id that it had, if there was one, and anyway an empty list.
func (a *asking) refuse(ctx context.Context, id string, r *refusal) error {
	broken := r.status >= 500
	for broken || !a.well {
		var probe []string
		what := "an empty list"
		if good := a.knownGood(); broken && good != "" {
			probe, what = []string{good}, fmt.Sprintf("that for %s, which it had,", good)
		}
		_, err := a.try(ctx, probe)
		var f *failure
		var own *refusal
		switch {
		case err == nil:
			broken = false
		case errors.As(err, &f):
		case !errors.As(err, &own):
			return err
		case probe != nil && own.status < 500:
			a.setGood("") // that one is gone
		default:
			a.failed(&failure{err: own})
			return a.gaveUp(fmt.Errorf("it answers the request for %s with %w, and %s with %w", id, r, what, own))
		}
	}
	a.settle(id, Document{Refused: true, Reason: a.refusedBecause(id, "with "+r.said)})
	return nil
}
