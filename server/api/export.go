package api

import (
	"context"
	"fmt"
	"math"

	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	exportBatches = 500     // batches looked at in one read of the store
	exportBytes   = 1 << 20 // of items in a message, more or less
	exportItems   = 1000    // in a message
)

func (s *jobService) ExportItems(r *pb.ExportItemsRequest, stream grpc.ServerStreamingServer[pb.ExportItemsResponse]) error {
	ctx, done := s.draining(stream.Context())
	defer done()
	if _, err := s.cfg.Store.GetJob(ctx, r.GetJobId()); err != nil {
		return asJob(r.GetJobId(), err)
	}
	err := s.export(ctx, r, stream)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// export merges the items of batches with those that ingest rejected, which lie between and within them.
func (s *jobService) export(ctx context.Context, r *pb.ExportItemsRequest, stream grpc.ServerStreamingServer[pb.ExportItemsResponse]) error {
	x := exporting{store: s.cfg.Store, jobID: r.GetJobId(), after: r.GetAfterItem(), wanted: wanted(r.GetOutcomes())}
	sources := make([]*itemSource, 0, 2)
	if x.wanted[job.Rejected] {
		sources = append(sources, &itemSource{fill: x.rejected})
	}
	ordinal, err := x.start(ctx)
	if err != nil {
		return err
	}
	x.ordinal = ordinal
	sources = append(sources, &itemSource{fill: x.batch})

	message, bytes := new(pb.ExportItemsResponse), 0
	for {
		it, err := next(ctx, sources)
		if err != nil {
			return err
		}
		if it != nil {
			message.Items = append(message.Items, it)
			bytes += len(it.GetData())
		}
		if len(message.Items) > 0 && (it == nil || bytes >= exportBytes || len(message.Items) >= exportItems) {
			if err := stream.Send(message); err != nil {
				return err
			}
			message, bytes = new(pb.ExportItemsResponse), 0
		}
		if it == nil {
			return nil
		}
	}
}

// wanted returns which outcomes were asked for, by their number: all when none was named.
func wanted(outcomes []pb.Outcome) map[job.Outcome]bool {
	set := map[job.Outcome]bool{}
	for _, o := range outcomes {
		set[job.Outcome(o)] = true
	}
	if len(set) == 0 {
		for _, o := range job.Outcomes() {
			set[o] = true
		}
	}
	return set
}

// itemSource gives items in the order of their numbers, a frame at a time.
type itemSource struct {
	items []*pb.ExportedItem
	fill  func(context.Context) (items []*pb.ExportedItem, more bool, err error)
	over  bool
}

// next takes the item with the lowest number from some sources, nil when there is none left.
func next(ctx context.Context, sources []*itemSource) (*pb.ExportedItem, error) {
	var first *itemSource
	for _, s := range sources {
		for len(s.items) == 0 && !s.over {
			items, more, err := s.fill(ctx)
			if err != nil {
				return nil, err
			}
			s.items, s.over = items, !more
		}
		if len(s.items) > 0 && (first == nil || s.items[0].GetItem() < first.items[0].GetItem()) {
			first = s
		}
	}
	if first == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	it := first.items[0]
	first.items = first.items[1:]
	return it, nil
}

// exporting is where an export stands. It holds one frame of each kind, and one page of what leads to them.
type exporting struct {
	store   Store
	jobID   int64
	after   int64 // item
	wanted  map[job.Outcome]bool
	ordinal int32 // at which the next page begins
	item    int64 // from which on, there
	page    []job.Batch
	last    bool           // nothing follows the page
	family  []payload.Item // of the batch that ingest cut last, of which the page may have many parts
	root    int32          // its ordinal
	seen    int64          // first item of the rejected frame that was read last
}

// badly reports whether only batches that ended badly can have such items.
func (x *exporting) badly() bool {
	for o := range x.wanted {
		if o.ByHandler() {
			return false
		}
	}
	return true
}

// start returns an ordinal before which no batch holds items after the one where the export goes on, by halving: batches
// are in the order of their items.
func (x *exporting) start(ctx context.Context) (int32, error) {
	if x.after == 0 {
		return 0, nil
	}
	// Each batch has an item at least, so that no more batches than items lie before it.
	low, high := int32(0), int32(min(x.after, math.MaxInt32-1))
	for low < high {
		middle := low + (high-low+1)/2
		list, err := x.store.ItemBatches(ctx, x.jobID, middle, 0, false, 1)
		if err != nil {
			return 0, err
		}
		if len(list) == 0 || list[0].FirstItem > x.after {
			high = middle - 1
		} else {
			low = middle
		}
	}
	return low, nil
}

// batch reads the items of the next batch that has some which are wanted.
func (x *exporting) batch(ctx context.Context) (items []*pb.ExportedItem, more bool, err error) {
	for len(items) == 0 {
		if len(x.page) == 0 {
			if x.last {
				return nil, false, nil
			}
			if x.page, err = x.store.ItemBatches(ctx, x.jobID, x.ordinal, x.item, x.badly(), exportBatches); err != nil {
				return nil, false, err
			}
			x.last = len(x.page) < exportBatches
			if len(x.page) == 0 {
				return nil, false, nil
			}
			last := x.page[len(x.page)-1] // of what may be a family of parts
			x.ordinal, x.item = last.Ordinal, last.FirstItem+1
		}
		b := x.page[0]
		x.page = x.page[1:]
		if !x.has(&b) {
			continue
		}
		if items, err = x.open(ctx, &b); err != nil {
			return nil, false, err
		}
	}
	return items, true, nil
}

func (x *exporting) has(b *job.Batch) bool {
	for _, r := range b.Outcomes {
		if x.wanted[r.Outcome] {
			return true
		}
	}
	return false
}

// open unpacks a batch, whose items may be some of a frame's that it shares with others, and picks those that are wanted.
func (x *exporting) open(ctx context.Context, b *job.Batch) ([]*pb.ExportedItem, error) {
	if x.family == nil || x.root != b.Ordinal {
		frame, err := frameOf(ctx, x.store, x.jobID, b.ID)
		if err != nil {
			return nil, err
		}
		if x.family, err = payload.Decode(frame, math.MaxInt32); err != nil {
			return nil, fmt.Errorf("unpack batch %d: %w", b.ID, err)
		}
		x.root = b.Ordinal
	}
	all, err := payload.Range(x.family, b.FirstItem, int(b.ItemCount))
	if err != nil {
		return nil, fmt.Errorf("unpack batch %d: %w", b.ID, err)
	}
	var items []*pb.ExportedItem
	for _, r := range b.Outcomes {
		n := min(int(r.Count), len(all))
		if x.wanted[r.Outcome] {
			items = x.pick(items, all[:n], r.Outcome, b.ID)
		}
		all = all[n:]
	}
	return items, nil
}

// frameOf returns the frame that holds the items of a batch.
func frameOf(ctx context.Context, st Store, jobID, batch int64) ([]byte, error) {
	frames, err := st.Payloads(ctx, []int64{batch}, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	frame, ok := frames[batch]
	if !ok {
		return nil, jobNotFound(jobID) // it is being removed
	}
	return frame, nil
}

// itemsOf returns the items of a batch.
func itemsOf(ctx context.Context, st Store, jobID, batch, first int64, count int32) ([]payload.Item, error) {
	frame, err := frameOf(ctx, st, jobID, batch)
	if err != nil {
		return nil, err
	}
	items, err := payload.DecodeRange(frame, first, int(count), math.MaxInt32)
	if err != nil {
		return nil, fmt.Errorf("unpack batch %d: %w", batch, err)
	}
	return items, nil
}

// rejected reads the next frame of items that ingest rejected.
func (x *exporting) rejected(ctx context.Context) (items []*pb.ExportedItem, more bool, err error) {
	from := x.after + 1
	if x.seen > 0 {
		from = x.seen
	}
	// The frame that was read last comes again, since where it ends is known by what follows it only.
	list, err := x.store.RejectedItems(ctx, x.jobID, from, 2)
	if err != nil {
		return nil, false, err
	}
	if x.seen > 0 && len(list) > 0 {
		list = list[1:]
	}
	if len(list) == 0 {
		return nil, false, nil
	}
	return x.unpack(&list[0])
}

func (x *exporting) unpack(r *store.RejectedItems) ([]*pb.ExportedItem, bool, error) {
	all, err := payload.Decode(r.Frame, math.MaxInt32)
	if err != nil {
		return nil, false, fmt.Errorf("unpack rejected items from %d on: %w", r.FirstItem, err)
	}
	x.seen = r.FirstItem
	return x.pick(nil, all, job.Rejected, 0), true, nil
}

// pick adds those after the one where the export goes on.
func (x *exporting) pick(to []*pb.ExportedItem, items []payload.Item, o job.Outcome, batch int64) []*pb.ExportedItem {
	for _, it := range items {
		if it.Number > x.after {
			to = append(to, &pb.ExportedItem{
				Item: it.Number, Outcome: pb.Outcome(o), BatchId: batch, File: it.File, Line: it.Line, Offset: it.Offset,
				Length: it.Length, Data: it.Data,
			})
		}
	}
	return to
}
