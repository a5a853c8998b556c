package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// cleanupStep is how many jobs are deleted in one transaction.
const cleanupStep = 100

// CleanupJobs lists old jobs, or deletes them. The token of a page is that of the last job's place: when it ended, and
// its id.
func (s *adminService) CleanupJobs(ctx context.Context, r *pb.CleanupJobsRequest) (*pb.CleanupJobsResponse, error) {
	const list = "jobs to clean up"
	f := store.EndedFilter{Age: r.GetOlderThan().AsDuration()}
	for _, state := range r.GetStates() {
		f.States = append(f.States, statesByProto[state])
	}
	page := store.EndedPage{Size: int(r.GetPageSize())}
	if page.Size == 0 {
		page.Size = pb.MaxPageSize
	}
	var jobs []job.Job
	var more bool
	var err error
	if r.GetDryRun() {
		if page.EndedAt, page.ID, err = endedPlace(list, r.GetPageToken()); err != nil {
			return nil, err
		}
		jobs, err = s.cfg.Store.EndedJobs(ctx, f, page)
		more = len(jobs) == page.Size
	} else {
		jobs, more, err = s.deleteEnded(ctx, f, page.Size)
	}
	if err != nil {
		return nil, err
	}
	resp := &pb.CleanupJobsResponse{}
	for i := range jobs {
		resp.Jobs = append(resp.Jobs, toJob(&jobs[i]))
	}
	if more {
		last := jobs[len(jobs)-1]
		resp.NextPageToken = sealToken(list, fmt.Sprintf("%d.%d", last.EndedAt.UnixMicro(), last.ID))
	}
	return resp, nil
}

// deleteEnded deletes at most limit jobs, in steps, and reports whether there may be more. What was deleted before a step
// failed is an answer like any other: who asks for more meets the error.
func (s *adminService) deleteEnded(ctx context.Context, f store.EndedFilter, limit int) (all []job.Job, more bool, err error) {
	for len(all) < limit {
		jobs, err := s.cfg.Store.DeleteEndedJobs(ctx, f, min(cleanupStep, limit-len(all)))
		if err != nil && len(all) == 0 {
			return nil, false, err
		}
		for i := range jobs {
			s.cfg.Events.Deleted(jobs[i].ID)
		}
		all = append(all, jobs...)
		if err != nil || len(jobs) == 0 {
			more = err != nil
			break
		}
	}
	if len(all) > 0 {
		s.cfg.Logger.InfoContext(ctx, "old jobs deleted", "jobs", len(all), "ended_before", f.Age, "states", f.Ends())
	}
	return all, more || len(all) == limit, nil
}

// endedPlace reads the token of a page of ended jobs.
func endedPlace(list, token string) (time.Time, int64, error) {
	if token == "" {
		return time.Time{}, 0, nil
	}
	key, err := openToken(list, token)
	if err != nil {
		return time.Time{}, 0, err
	}
	at, id, _ := strings.Cut(key, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil || micros < 0 {
		return time.Time{}, 0, badToken(list)
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, 0, badToken(list)
	}
	return time.UnixMicro(micros).UTC(), n, nil
}
