package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

const (
	// smallItems is how many items a small job has, jobItems how many every batch of a small and of the big job.
	smallItems, jobItems = 100, 10

	// submitters is how many clients submit small jobs.
	submitters = 8
)

// jobs takes the time that many small jobs need beside a big one that was submitted before them, and the time that they
// need alone with their share of the slots.
func jobs(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	share := max(1, c.Slots*c.SmallJobs/(c.SmallJobs+1))
	r.Settings = map[string]string{
		"small jobs": strconv.Itoa(c.SmallJobs), "items of each": strconv.Itoa(smallItems),
		"items of the big job": strconv.Itoa(c.BigItems), "items of a batch": strconv.Itoa(jobItems),
		"slots": strconv.Itoa(c.Slots), "slots alone": strconv.Itoa(share),
	}
	alone, err := rushed(ctx, c, engine, 0, share)
	if err != nil {
		return r, err
	}
	beside, err := rushed(ctx, c, engine, c.BigItems, c.Slots)
	if err != nil {
		return r, err
	}
	var first, then Result
	first.Distribution("alone", alone)
	then.Distribution("beside the big one", beside)
	r.Metrics = append(first.Metrics, then.Metrics...)
	for _, m := range []int{0, 2} { // the median, and the last
		_, quantile, _ := strings.Cut(first.Metrics[m].Name, " ")
		r.add(quantile+", of that alone", then.Metrics[m].Value/first.Metrics[m].Value, "×")
	}
	return r, nil
}

// rushed returns how long each of the small jobs took to end, from the moment at which one worker with so many slots
// begins with all that is there.
func rushed(ctx context.Context, c Config, engine Engine, big, slots int) (_ []time.Duration, err error) {
	s, err := open(ctx, c, engine)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	policy := &tallymanv1.Policy{BatchItems: jobItems}
	if big > 0 {
		if _, err := s.upload(ctx, int64(big), policy); err != nil {
			return nil, err
		}
	}
	small := make([]int64, c.SmallJobs)
	group, submitting := errgroup.WithContext(ctx)
	group.SetLimit(submitters)
	for i := range small {
		group.Go(func() (err error) {
			small[i], err = s.upload(submitting, smallItems, policy)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	h := newRush(small)
	dismiss, err := s.employ(ctx, noopKind, slots, h)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dismiss()) }()
	return h.run(ctx, s)
}

// rush is a handler that begins on a sign, and tells when the last batch of small jobs has come.
type rush struct {
	small map[int64]bool
	begin chan struct{}
	first chan struct{} // has a word once a batch waits for the sign
	left  atomic.Int64
	last  chan struct{}
}

func newRush(small []int64) *rush {
	h := &rush{small: map[int64]bool{}, begin: make(chan struct{}), first: make(chan struct{}, 1), last: make(chan struct{})}
	for _, id := range small {
		h.small[id] = true
	}
	h.left.Store(int64(len(small)) * smallItems / jobItems)
	return h
}

// Handle implements worker.Handler.
func (h *rush) Handle(ctx context.Context, b *worker.Batch) error {
	select {
	case h.first <- struct{}{}:
	default: // it is there
	}
	select {
	case <-h.begin:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := finish(b); err != nil {
		return err
	}
	if h.small[b.JobID] && h.left.Add(-1) == 0 {
		close(h.last)
	}
	return nil
}

// run gives the sign, and returns how long after it each of the small jobs had ended, by the database's clock, which is
// this machine's.
func (h *rush) run(ctx context.Context, s *site) ([]time.Duration, error) {
	wait := func(event <-chan struct{}) error {
		select {
		case <-event:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := wait(h.first); err != nil {
		return nil, err
	}
	begun := time.Now()
	close(h.begin)
	if err := wait(h.last); err != nil {
		return nil, err
	}
	var took []time.Duration
	err := await(ctx, "the small jobs to end", func() (bool, error) {
		took = took[:0]
		for job, err := range s.client.Jobs(ctx, &tallymanv1.ListJobsRequest{PageSize: 1000}) {
			if err != nil {
				return false, err
			}
			if !h.small[job.GetJobId()] {
				continue
			}
			if !client.Ended(job.GetState()) {
				return false, nil
			}
			if job.GetState() != tallymanv1.JobState_JOB_STATE_SUCCEEDED {
				return false, fmt.Errorf("job %d ended as %v", job.GetJobId(), job.GetState())
			}
			took = append(took, job.GetEndedAt().AsTime().Sub(begun))
		}
		return len(took) == len(h.small), nil
	})
	return took, err
}
