package bench

import (
	"context"
	"errors"
	"strconv"
	"time"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// queue are the settings of scenarios that drain a queue.
func (c Config) queue() map[string]string {
	return map[string]string{
		"batches": strconv.Itoa(c.Batches), "slots": strconv.Itoa(c.Slots), "workers": strconv.Itoa(c.Workers),
	}
}

// fill submits a job of one item a batch, and pauses it with the workers ready. It returns how long it took to take the
// job in.
func (s *site) fill(ctx context.Context, c Config) (job int64, cutting time.Duration, err error) {
	begun := time.Now()
	if job, err = s.upload(ctx, int64(c.Batches), &tallymanv1.Policy{BatchItems: 1}); err != nil {
		return 0, 0, err
	}
	cutting = time.Since(begun)
	if _, err := s.client.Pause(ctx, job); err != nil {
		return 0, 0, err
	}
	return job, cutting, s.work(ctx, c.Workers, c.Slots/c.Workers)
}

// drain submits a job of one item a batch, lets the workers register while it is paused, and takes the time from the
// resumption until the client has been told that the job is over.
func drain(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	r.Settings = c.queue()
	s, err := open(ctx, c, engine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	job, cutting, err := s.fill(ctx, c)
	if err != nil {
		return r, err
	}
	r.add("cut", float64(c.Batches)/cutting.Seconds(), "batches/s")
	before, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	resumed := time.Now()
	if _, err := s.client.Resume(ctx, job); err != nil {
		return r, err
	}
	if _, err := s.ended(ctx, job); err != nil {
		return r, err
	}
	took := time.Since(resumed)
	after, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	r.add("drained", float64(c.Batches)/took.Seconds(), "batches/s")
	after.since(before).report(&r, c.Batches)
	return r, nil
}
