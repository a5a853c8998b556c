package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/watch"
)

type jobService struct {
	pb.UnsafeJobServiceServer
	*Services
}

var _ pb.JobServiceServer = (*jobService)(nil)

func (s *jobService) GetJob(ctx context.Context, r *pb.GetJobRequest) (*pb.GetJobResponse, error) {
	s.cfg.Events.Current(ctx, r.GetJobId())
	snapshot, err := s.cfg.Hub.Look(ctx, r.GetJobId())
	if errors.Is(err, store.ErrNotFound) {
		return nil, s.unknownJob(ctx, r.GetJobId())
	}
	if err != nil {
		return nil, err
	}
	return &pb.GetJobResponse{Job: toSnapshot(snapshot)}, nil
}

// unknownJob says which database does not know a job: workers forget what they have recorded of it.
func (s *Services) unknownJob(ctx context.Context, id int64) error {
	cluster, err := s.clusterID(ctx)
	if err != nil {
		return err
	}
	unknown := jobNotFound(id)
	unknown.metadata = map[string]string{pb.MetadataClusterID: cluster}
	return unknown
}

func (s *jobService) ListJobs(ctx context.Context, r *pb.ListJobsRequest) (*pb.ListJobsResponse, error) {
	const list = "jobs"
	p, err := page(list, r.GetPageSize(), 50, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	who := access.By(ctx)
	if r.GetProject() != "" && !who.Sees(r.GetProject()) {
		return &pb.ListJobsResponse{}, nil
	}
	f := store.JobFilter{Project: r.GetProject(), Projects: who.Projects, Kind: r.GetKind()}
	for _, state := range r.GetStates() {
		if known, ok := statesByProto[state]; ok {
			f.States = append(f.States, known)
		}
	}
	jobs, err := s.cfg.Store.ListJobs(ctx, f, p)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListJobsResponse{}
	for i := range jobs {
		resp.Jobs = append(resp.Jobs, toJob(&jobs[i]))
		resp.NextPageToken = nextPage(list, p, len(jobs), jobs[i].ID, 0)
	}
	return resp, nil
}

func (s *jobService) WatchJob(r *pb.WatchJobRequest, stream grpc.ServerStreamingServer[pb.WatchJobResponse]) error {
	ctx, done := s.draining(stream.Context())
	defer done()
	sub, err := s.cfg.Hub.Subscribe(ctx, r.GetJobId(), r.GetAfterRevision())
	if err != nil {
		return asJob(r.GetJobId(), err)
	}
	defer sub.Close()
	for quiet := time.Duration(0); ; quiet = s.cfg.Idle { // the first answer comes at once
		snapshot, ended, err := sub.Next(ctx, quiet)
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return asJob(r.GetJobId(), err)
		case ended:
			return nil
		case snapshot == nil:
			if err := stream.Send(&pb.WatchJobResponse{}); err != nil {
				return err
			}
			continue
		}
		if err := sendSnapshot(stream, snapshot); err != nil {
			return err
		}
		if snapshot.Job.State.Ended() {
			return nil
		}
	}
}

// sendSnapshot sends a snapshot that is encoded once, by whoever sends it first. That the others' streams take it as it is
// rests on that no stream is compressed: this server knows no way to.
func sendSnapshot(stream grpc.ServerStream, snapshot *watch.Snapshot) error {
	encoded, err := snapshot.Shared(func(snapshot *watch.Snapshot) (any, error) {
		message := new(grpc.PreparedMsg)
		return message, message.Encode(stream, &pb.WatchJobResponse{Job: toSnapshot(snapshot)})
	})
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return stream.SendMsg(encoded)
}

func (s *jobService) CancelJob(ctx context.Context, r *pb.CancelJobRequest) (*pb.CancelJobResponse, error) {
	reason := r.GetReason()
	if reason == "" {
		reason = "cancelled by the user"
	}
	j, err := s.cfg.Store.StopJob(ctx, r.GetJobId(), job.Cancelled, reason)
	if err != nil {
		return nil, asJob(r.GetJobId(), err)
	}
	s.cfg.Events.Stopping(j.ID)
	s.cfg.Hub.Publish(ctx, j)
	return &pb.CancelJobResponse{Job: toJob(&j)}, nil
}

func (s *jobService) DeleteJob(ctx context.Context, r *pb.DeleteJobRequest) (*pb.DeleteJobResponse, error) {
	if err := s.cfg.Store.DeleteJob(ctx, r.GetJobId()); err != nil {
		return nil, asJob(r.GetJobId(), err)
	}
	s.cfg.Events.Deleted(r.GetJobId())
	return &pb.DeleteJobResponse{}, nil
}

func (s *jobService) GetBatch(ctx context.Context, r *pb.GetBatchRequest) (*pb.GetBatchResponse, error) {
	b, attempts, err := s.cfg.Store.GetBatch(ctx, r.GetBatchId())
	if errors.Is(err, store.ErrNotFound) {
		err = batchNotFound(r.GetBatchId())
	}
	if err != nil {
		return nil, err
	}
	resp := &pb.GetBatchResponse{Batch: toBatch(&b), Attempts: toAttempts(attempts)}
	if resp.Batch.SuspectItem == 0 && suspected(&b) {
		if resp.Batch.SuspectItem, err = s.suspect(ctx, &b); err != nil {
			return nil, err
		}
	}
	if b.RootID == 0 && b.State != job.BatchSplit {
		return resp, nil
	}
	family, err := s.family(ctx, &b)
	if err != nil {
		return nil, err
	}
	resp.Family = toBatches(family[:min(len(family), familyMost)])
	return resp, nil
}

// suspect returns the number of the item of a batch that is accused; 0 when the payload does not say.
func (s *jobService) suspect(ctx context.Context, b *store.BatchRow) (int64, error) {
	frames, err := s.cfg.Store.Payloads(ctx, []int64{b.ID}, math.MaxInt64)
	if err != nil {
		return 0, err
	}
	items, err := store.Items(frames[b.ID], &b.Batch)
	if err != nil || int(b.Suspect) > len(items) {
		return 0, nil //nolint:nilerr // who looks at a batch wants to see the rest of it
	}
	return items[b.Suspect-1].Number, nil
}

// holders puts those parts that hold a document into the place of batches that were split.
func (s *jobService) holders(ctx context.Context, rows []store.BatchRow, document string) ([]store.BatchRow, error) {
	var out []store.BatchRow
	for i := range rows {
		parts := rows[i : i+1]
		if rows[i].State == job.BatchSplit {
			held, err := s.parts(ctx, &rows[i], document)
			if err != nil {
				return nil, err
			}
			if len(held) > 0 {
				parts = held
			}
		}
		out = append(out, parts...)
	}
	return out, nil
}

// parts returns those of a split batch that hold a document and were not split again; none when the payload does not say.
func (s *jobService) parts(ctx context.Context, b *store.BatchRow, document string) ([]store.BatchRow, error) {
	frames, err := s.cfg.Store.Payloads(ctx, []int64{b.ID}, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	items, err := store.Items(frames[b.ID], &b.Batch)
	if err != nil {
		return nil, nil //nolint:nilerr // the whole batch is an answer, too
	}
	family, err := s.family(ctx, b)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(family, func(p store.BatchRow) bool {
		own, err := payload.Range(items, p.FirstItem, int(p.ItemCount))
		return p.State == job.BatchSplit || err != nil ||
			!slices.ContainsFunc(own, func(it payload.Item) bool { return it.Document == document })
	}), nil
}

// family returns the batch that ingest cut and all its parts, of which b is one, each after its parent: they share an
// ordinal, and are numbered as they are made.
func (s *jobService) family(ctx context.Context, b *store.BatchRow) ([]store.BatchRow, error) {
	var family []store.BatchRow
	for page := (store.Page{Size: familyPage, After: int64(b.Ordinal)}); ; {
		list, err := s.cfg.Store.ListBatches(ctx, store.BatchFilter{JobID: b.JobID}, page)
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			if x.Ordinal != b.Ordinal {
				return family, nil
			}
			family = append(family, x)
		}
		if len(list) < page.Size {
			return family, nil
		}
		page.After, page.AfterID = int64(b.Ordinal)+1, list[len(list)-1].ID
	}
}

// A family is read in pages, and of a large one so many are returned with one of them.
const (
	familyPage = 100
	familyMost = 1000
)

func (s *jobService) ListBatches(ctx context.Context, r *pb.ListBatchesRequest) (*pb.ListBatchesResponse, error) {
	const list = "batches"
	p, err := page(list, r.GetPageSize(), 50, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	if r.GetPageToken() == "" {
		p.After = int64(r.GetFromOrdinal())
	}
	f := store.BatchFilter{
		JobID: r.GetJobId(), States: fromBatchStates(r.GetStates()), Document: canonical(r.GetDocument()), Slowest: r.GetSlowest(),
	}
	if f.JobID != 0 {
		if _, err := s.cfg.Store.GetJob(ctx, f.JobID); err != nil {
			return nil, asJob(f.JobID, err)
		}
	}
	rows, err := s.cfg.Store.ListBatches(ctx, f, p)
	if err != nil {
		return nil, err
	}
	shown := rows
	if f.Document != "" && len(f.States) == 0 {
		if shown, err = s.holders(ctx, rows, f.Document); err != nil {
			return nil, err
		}
	}
	if f.JobID == 0 {
		if shown, err = s.seen(ctx, shown); err != nil {
			return nil, err
		}
	}
	resp := &pb.ListBatchesResponse{Batches: toBatches(shown)}
	switch n := len(rows); {
	case n == 0 || f.Slowest:
	case f.JobID != 0:
		resp.NextPageToken = nextPage(list, p, n, int64(rows[n-1].Ordinal)+1, rows[n-1].ID)
	default:
		resp.NextPageToken = nextPage(list, p, n, rows[n-1].ID, 0)
	}
	return resp, nil
}

// canonical writes a document's key as it is kept, where it is one of the kind annotations.
func canonical(document string) string {
	if key, err := annotation.ParseKey(document); err == nil {
		return key.String()
	}
	return document
}

func (s *jobService) ListFindings(ctx context.Context, r *pb.ListFindingsRequest) (*pb.ListFindingsResponse, error) {
	const list = "findings"
	token := ""
	if r.GetPageToken() != "" {
		var err error
		if token, err = openToken(list, r.GetPageToken()); err != nil {
			return nil, err
		}
	}
	size := int(r.GetPageSize())
	if size == 0 {
		size = 100
	}
	if _, err := s.cfg.Store.GetJob(ctx, r.GetJobId()); err != nil {
		return nil, asJob(r.GetJobId(), err)
	}
	findings, next, err := s.cfg.Store.ListFindings(ctx, store.FindingFilter{
		JobID: r.GetJobId(), BatchID: r.GetBatchId(), Item: r.GetItem(), Code: r.GetCode(),
		Severity: store.Severity(r.GetSeverity()),
	}, size, token)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListFindingsResponse{NextPageToken: sealToken(list, next)}
	for i := range findings {
		resp.Findings = append(resp.Findings, toFinding(&findings[i]))
	}
	return resp, nil
}
