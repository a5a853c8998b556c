package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// held drains a queue while somebody else's transaction keeps its first snapshot, so that the database can clean up
// nothing: what a queue slows down by then is what its dead rows cost.
func held(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	r.Settings = c.queue()
	s, err := open(ctx, c, engine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	job, _, err := s.fill(ctx, c)
	if err != nil {
		return r, err
	}
	release, err := s.db.Hold(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if _, err := s.client.Resume(ctx, job); err != nil {
		return r, err
	}
	var pace pace
	for seen, err := range s.client.Watch(ctx, job) {
		if err != nil {
			return r, fmt.Errorf("watch job %d: %w", job, err)
		}
		pace.note(time.Now(), seen.GetProgress().GetItemsEnded())
	}
	first, last, err := pace.fifths()
	if err != nil {
		return r, err
	}
	r.add("held for", pace[len(pace)-1].at.Sub(pace[0].at).Seconds(), "s")
	r.add("drained at first", first, "batches/s")
	r.add("drained at last", last, "batches/s")
	r.add("slower at last", 100*(1-last/first), "%")
	return r, nil
}

// pace is how many batches were done when.
type pace []struct {
	at   time.Time
	done int64
}

func (p *pace) note(at time.Time, done int64) {
	if done == 0 {
		*p = (*p)[:0] // it begins with the last moment before the first was done
	}
	*p = append(*p, struct {
		at   time.Time
		done int64
	}{at, done})
}

// fifths returns how many were done a second in the first and in the last fifth of the time.
func (p pace) fifths() (first, last float64, err error) {
	if len(p) < 10 {
		return 0, 0, errors.New("too few batches to see a pace: raise their number")
	}
	fifth := p[len(p)-1].at.Sub(p[0].at) / 5
	rate := func(from, to int) float64 {
		return float64(p[to].done-p[from].done) / p[to].at.Sub(p[from].at).Seconds()
	}
	end := 1
	for end < len(p)-1 && p[end].at.Sub(p[0].at) < fifth {
		end++
	}
	begin := len(p) - 2
	for begin > 0 && p[len(p)-1].at.Sub(p[begin].at) < fifth {
		begin--
	}
	return rate(0, end), rate(begin, len(p)-1), nil
}
