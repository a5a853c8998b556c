package api

import (
	"context"
	"fmt"
	"math"

	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

// resultFrames is how many frames of results are read at once: each has as much as a worker said in one message.
const resultFrames = 4

// fromResults packs the results of a report as they are kept.
func fromResults(results []*pb.ItemResult) (store.Results, error) {
	if len(results) == 0 {
		return store.Results{}, nil
	}
	list := make([]payload.Result, len(results))
	for i, r := range results {
		list[i] = payload.Result{Position: r.GetPosition(), Items: max(r.GetItems(), 1), Value: r.GetValue()}
	}
	frame, err := payload.EncodeResults(list)
	if err != nil {
		return store.Results{}, fmt.Errorf("pack results: %w", err)
	}
	return store.Results{Frame: frame, Last: list[len(list)-1].Position}, nil
}

func (s *jobService) ExportResults(r *pb.ExportResultsRequest, stream grpc.ServerStreamingServer[pb.ExportResultsResponse]) error {
	ctx, done := s.draining(stream.Context())
	defer done()
	if _, err := s.cfg.Store.GetJob(ctx, r.GetJobId()); err != nil {
		return asJob(r.GetJobId(), err)
	}
	err := s.exportResults(ctx, r, stream)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *jobService) exportResults(
	ctx context.Context, r *pb.ExportResultsRequest, stream grpc.ServerStreamingServer[pb.ExportResultsResponse],
) error {
	place, err := s.cfg.Store.ResultsPlace(ctx, r.GetJobId(), r.GetAfterItem()+1)
	if err != nil {
		return err
	}
	x := resultExport{store: s.cfg.Store, jobID: r.GetJobId(), after: r.GetAfterItem()}
	message, bytes := new(pb.ExportResultsResponse), 0
	for {
		page, err := s.cfg.Store.ResultFrames(ctx, r.GetJobId(), place, resultFrames)
		if err != nil {
			return err
		}
		for i := range page {
			place = page[i].Place + 1
			results, err := x.open(ctx, &page[i])
			if err != nil {
				return err
			}
			for _, result := range results {
				message.Results = append(message.Results, result)
				bytes += len(result.GetValue())
				if bytes < exportBytes && len(message.Results) < exportItems {
					continue
				}
				if err := stream.Send(message); err != nil {
					return err
				}
				message, bytes = new(pb.ExportResultsResponse), 0
			}
		}
		if len(page) < resultFrames {
			break
		}
	}
	if len(message.Results) == 0 {
		return nil
	}
	return stream.Send(message)
}

// resultExport is where an export of results stands. It holds the items of one batch.
type resultExport struct {
	store Store
	jobID int64
	after int64 // item
	batch int64 // whose items these are
	items []payload.Item
}

// open unpacks a frame and says where its results belong.
func (x *resultExport) open(ctx context.Context, r *store.ResultFrame) ([]*pb.ExportedResult, error) {
	results, err := payload.DecodeResults(r.Frame, math.MaxInt32)
	if err != nil {
		return nil, fmt.Errorf("unpack results of batch %d: %w", r.BatchID, err)
	}
	if x.batch != r.BatchID {
		if x.items, err = itemsOf(ctx, x.store, x.jobID, r.BatchID, r.FirstItem, r.ItemCount); err != nil {
			return nil, err
		}
		x.batch = r.BatchID
		for i := range x.items {
			x.items[i].Data = nil // the place is what is needed
		}
	}
	var list []*pb.ExportedResult
	for _, result := range results {
		if result.Position < r.From {
			continue
		}
		last := int(result.Position) + int(result.Items) - 1
		if last >= len(x.items) {
			return nil, fmt.Errorf("batch %d has %d items and a result of item %d", r.BatchID, len(x.items), last+1)
		}
		it := &x.items[result.Position]
		if it.Number <= x.after {
			continue
		}
		list = append(list, &pb.ExportedResult{
			Item: it.Number, LastItem: x.items[last].Number, BatchId: r.BatchID, File: it.File, Line: it.Line,
			Document: it.Document, Value: result.Value,
		})
	}
	return list, nil
}
