package api

import (
	"cmp"
	"context"

	"google.golang.org/grpc"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/watch"
)

const (
	newestJobs = 100 // with which a list that is watched begins
	firstPart  = 100 // of the list: what a screen shows comes before the rest is read
	listPart   = 1000
)

func (s *jobService) WatchJobs(r *pb.WatchJobsRequest, stream grpc.ServerStreamingServer[pb.WatchJobsResponse]) error {
	ctx, done := s.draining(stream.Context())
	defer done()
	who := access.By(ctx)
	reading := s.cfg.Roll.Read()
	defer reading.Close()
	if err := s.sendNewest(ctx, r, stream, reading); err != nil {
		return err
	}
	for {
		changed, gone, err := reading.Next(ctx, s.cfg.Idle)
		if err != nil {
			return context.Cause(ctx)
		}
		gone = s.projects.seen(who, gone)
		resp := &pb.WatchJobsResponse{GoneJobIds: gone}
		for _, snapshot := range changed {
			if who.Sees(snapshot.Job.Project) && (r.GetProject() == "" || r.GetProject() == snapshot.Job.Project) {
				s.projects.note(snapshot.Job.ID, snapshot.Job.Project)
				resp.Jobs = append(resp.Jobs, toListed(snapshot))
			}
			if len(resp.Jobs) == listPart {
				if err := stream.Send(resp); err != nil {
					return err
				}
				resp = &pb.WatchJobsResponse{}
			}
		}
		if len(changed) > 0 && len(resp.GetJobs())+len(gone) == 0 {
			continue // nothing that was asked for
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// sendNewest sends the list as it is, in parts.
func (s *jobService) sendNewest(
	ctx context.Context, r *pb.WatchJobsRequest, stream grpc.ServerStreamingServer[pb.WatchJobsResponse], reading *watch.Reading,
) error {
	who := access.By(ctx)
	if r.GetProject() != "" && !who.Sees(r.GetProject()) {
		return stream.Send(&pb.WatchJobsResponse{Whole: true})
	}
	filter := store.JobFilter{Project: r.GetProject(), Projects: who.Projects}
	left := int(cmp.Or(r.GetNewest(), newestJobs))
	for p := (store.Page{Size: min(left, firstPart)}); ; p.Size = min(left, listPart) {
		jobs, err := s.cfg.Store.ListJobs(ctx, filter, p)
		if err != nil {
			return err
		}
		resp := &pb.WatchJobsResponse{}
		for i := range jobs {
			snapshot := reading.Known(&jobs[i])
			if snapshot == nil {
				snapshot = &watch.Snapshot{Job: jobs[i]}
			}
			s.projects.note(jobs[i].ID, jobs[i].Project)
			resp.Jobs = append(resp.Jobs, toListed(snapshot))
		}
		left -= len(jobs)
		resp.Whole = left <= 0 || len(jobs) < p.Size
		if err := stream.Send(resp); err != nil || resp.GetWhole() {
			return err
		}
		p.After = jobs[len(jobs)-1].ID
	}
}

// toListed is a job as lists have it that are watched: without what is long and does not change.
func toListed(snapshot *watch.Snapshot) *pb.Job {
	out := toSnapshot(snapshot)
	out.Parameters, out.Policy = nil, nil
	return out
}

func (s *jobService) WatchBatches(r *pb.WatchBatchesRequest, stream grpc.ServerStreamingServer[pb.WatchBatchesResponse]) error {
	ctx, done := s.draining(stream.Context())
	defer done()
	chart, err := s.cfg.Maps.Chart(ctx, r.GetJobId())
	if err != nil {
		return asJob(r.GetJobId(), err)
	}
	defer chart.Close()
	for {
		view, ended, err := chart.Next(ctx, s.cfg.Idle)
		resp := &pb.WatchBatchesResponse{}
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return asJob(r.GetJobId(), err)
		case ended:
			return nil
		case view != nil:
			resp.Batches, resp.States, resp.Revision = int32(view.Batches), view.States, view.Revision
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}
