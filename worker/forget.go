package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/retry"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Forgetter is a Handler that keeps records of jobs, such as what protects it from late attempts, and can do without
// them once a job has been deleted. Its methods are called by one goroutine, beside those of Handler.
type Forgetter interface {
	// Recorded returns, in ascending order, the numbers of at most limit jobs above after that there are records of. The
	// jobs are those of the coordinators' database with this id.
	Recorded(ctx context.Context, clusterID string, after int64, limit int) ([]int64, error)

	// Forget removes the records of jobs that have been deleted, and of which no attempt holds a lease any more, not even by
	// its own clock. It may take its time, should disturb no batch that is being handled, and returns soon when ctx ends;
	// what it has not done then is asked for again. Other workers may be told the same at the same time.
	Forget(ctx context.Context, clusterID string, jobs []int64) error
}

const (
	forgetPage = 1000    // jobs whose records are listed at a time
	forgetMost = 100_000 // jobs that are forgotten in a round; the next goes on

	// restLeases is for how many leases nothing is removed after a job was found to be deleted.
	//
	// Why that is safe: a job is deleted only when it has ended, that is, when the coordinators have ended each of its
	// leases, and no batch of it is granted or renewed afterwards; nor does another job get its number. An attempt can only
	// believe longer than they do in a lease that was ended early: its worker's id was registered anew, its connection broke
	// for longer than the grace, it stalled, its job was cancelled while it was cut off. Then its own clock ends the lease
	// at most one lease after the last answer that it got, which was before the end of the job. It asks this clock (and on
	// PostgreSQL that of the database) in the statement that commits, so a process that was frozen anywhere before that
	// changes nothing when it wakes, whatever is forgotten by then. Several leases leave room for clocks that run differently
	// and for coordinators that grant longer leases than the one which told this worker of its own.
	//
	// What is left is a clock that stood still, on a machine that was suspended as a whole. Without its fence an attempt
	// that had begun cannot write either; only one that was suspended between its grant and its first statement could.
	restLeases = 10
)

// forgetLoop has handlers forget jobs from time to time until ctx ends: soon after the start, then once an interval.
func (s *session) forgetLoop(ctx context.Context) {
	every := s.config.ForgetInterval
	for pause := every / 60; every > 0; pause = every {
		// Workers that were started together do not all look at the same time.
		if !sleep(ctx, pause/2+rand.N(pause+1)) {
			return
		}
		for kind, h := range s.config.Handlers {
			f, ok := h.(Forgetter)
			if !ok {
				continue
			}
			if err := s.forget(ctx, f); err != nil && ctx.Err() == nil {
				s.log.Warn("records of deleted jobs are kept for now", "kind", kind, "error", err)
			}
		}
	}
}

// forget has a handler forget the jobs that have been deleted.
func (s *session) forget(ctx context.Context, f Forgetter) error {
	var gone []int64
	for after, more := int64(0), true; more && len(gone) < forgetMost; {
		jobs, err := f.Recorded(ctx, s.cluster, after, forgetPage)
		if err != nil {
			return fmt.Errorf("list jobs with records: %w", err)
		}
		deleted, err := s.deleted(ctx, jobs)
		if err != nil {
			return err
		}
		gone = append(gone, deleted...)
		if more = len(jobs) == forgetPage; more {
			after = jobs[forgetPage-1]
		}
	}
	if len(gone) == 0 || !sleep(ctx, restLeases*s.lease) {
		return nil
	}
	// A coordinator may have asked a database that was being replaced by its standby. It will not have gone on for so long.
	gone, err := s.deleted(ctx, gone)
	if err != nil || len(gone) == 0 {
		return err
	}
	began := time.Now()
	if err := f.Forget(ctx, s.cluster, gone); err != nil {
		return fmt.Errorf("forget jobs: %w", err)
	}
	s.log.Info("records of deleted jobs removed", "jobs", len(gone), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// deleted returns those jobs that the coordinators' database knows no more.
func (s *session) deleted(ctx context.Context, jobs []int64) ([]int64, error) {
	var gone []int64
	for _, job := range jobs {
		yes, err := s.isDeleted(ctx, job)
		if err != nil {
			return nil, fmt.Errorf("look up job %d: %w", job, err)
		}
		if yes {
			gone = append(gone, job)
		}
	}
	return gone, nil
}

// isDeleted reports whether the coordinators' database knows a job no more. That another database does not know it says
// nothing: it may be found behind the same address when somebody has exchanged it.
func (s *session) isDeleted(ctx context.Context, id int64) (bool, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, registerTimeout, retry.ErrSilent)
	defer cancel()
	_, err := s.jobs.GetJob(bounded, &pb.GetJobRequest{JobId: id})
	err = retry.Blame(bounded, err)
	switch {
	case err == nil:
		return false, nil
	case status.Code(err) != codes.NotFound || pb.ReasonOf(err) != pb.ErrorReason_ERROR_REASON_JOB_NOT_FOUND:
		return false, err
	case pb.InfoOf(err).GetMetadata()[pb.MetadataClusterID] != s.cluster:
		return false, errStranger
	}
	return true, nil
}

var errStranger = errors.New("it is not this worker's coordinators' database that does not know the job, or does not say so")

// sleep returns false if ctx ends before so long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
