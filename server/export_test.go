package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/ingest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// exported returns all items of an export.
func (c *coordinator) exported(r *pb.ExportItemsRequest) (items []*pb.ExportedItem) {
	c.t.Helper()
	stream, err := c.jobs.ExportItems(c.ctx, r)
	c.must(err)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return items
		}
		c.must(err)
		items = append(items, m.GetItems()...)
	}
}

// The items of a job come out as they went in, in their order, whether ingest rejected them or a batch ended with them,
// from wherever the export goes on.
func TestExportGivesTheOriginalBytes(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database, Reader: ingest.ReaderConfig{MaxItem: 1000}}, nil)
		h := header("exported")
		h.Kind, h.Policy.MaxAttempts, h.Policy.BatchItems = "annotations", 1, 3
		var file bytes.Buffer
		lines := make([]string, 40)
		for i := range lines {
			switch {
			case i%7 == 3:
				lines[i] = fmt.Sprintf(`{"sourcedb":"PubMed","n":  %d}`, i+1) // without a sourceid it is rejected
			case i == 20:
				lines[i] = `{"sourcedb":"PubMed","sourceid":"x","text":"` + strings.Repeat("y", 2000) + `"}`
			default:
				lines[i] = fmt.Sprintf(`{"sourcedb":"PubMed","sourceid":"%d", "text":"%s"}`, i+1, strings.Repeat("t", i))
			}
			file.WriteString(lines[i] + "\r\n")
		}
		up := c.submit(h, file.Bytes())
		r, err := c.workers.RegisterWorker(c.ctx, &pb.RegisterWorkerRequest{WorkerId: "w", Kinds: []string{"annotations"}, Slots: 8})
		c.must(err)
		session := r.GetSessionId()
		want := map[int64]pb.Outcome{}
		for i := range lines {
			if i%7 == 3 || i == 20 {
				want[int64(i)+1] = pb.Outcome_OUTCOME_REJECTED
			}
		}
		for n, g := range c.claim(session, "r", 100) {
			set := completed(g)
			if n%3 == 0 {
				set = failed(g, "no")
				set.Outcomes = []*pb.OutcomeRun{{Count: 1, Outcome: pb.Outcome_OUTCOME_STORED_WITH_WARNINGS}}
			}
			c.settle(session, set)
		}
		c.ended(up.GetJobId())

		all := c.exported(&pb.ExportItemsRequest{JobId: up.GetJobId()})
		offset := int64(0)
		for i, it := range all {
			line := lines[i]
			if it.GetItem() != int64(i)+1 || it.GetLine() != int64(i)+1 || it.GetFile() != "exported.jsonl" ||
				it.GetOffset() != offset || it.GetLength() != int64(len(line)) {
				t.Errorf("item %d is %d at %s:%d, byte %d, with %d bytes", i+1, it.GetItem(), it.GetFile(), it.GetLine(), it.GetOffset(), it.GetLength())
			}
			offset += int64(len(line)) + 2
			if i == 20 {
				line = line[:1000]
			}
			if string(it.GetData()) != line {
				t.Errorf("item %d is %q, want %q", i+1, it.GetData(), line)
			}
			if o, ok := want[it.GetItem()]; ok != (it.GetOutcome() == pb.Outcome_OUTCOME_REJECTED) || ok && o != it.GetOutcome() ||
				ok != (it.GetBatchId() == 0) {
				t.Errorf("item %d ended %v in batch %d", i+1, it.GetOutcome(), it.GetBatchId())
			}
		}
		if len(all) != len(lines) {
			t.Fatalf("%d items of %d", len(all), len(lines))
		}
		counts := outcomes(c.job(up.GetJobId()))
		for _, chosen := range [][]pb.Outcome{
			{pb.Outcome_OUTCOME_REJECTED}, {pb.Outcome_OUTCOME_FAILED}, {pb.Outcome_OUTCOME_STORED},
			{pb.Outcome_OUTCOME_STORED_WITH_WARNINGS, pb.Outcome_OUTCOME_FAILED}, {pb.Outcome_OUTCOME_CRASHED},
		} {
			total := int64(0)
			for _, o := range chosen {
				total += counts[o]
			}
			for after := range int64(len(lines) + 2) {
				var want, got []int64
				for _, it := range all {
					if slices.Contains(chosen, it.GetOutcome()) && it.GetItem() > after {
						want = append(want, it.GetItem())
					}
				}
				for _, it := range c.exported(&pb.ExportItemsRequest{JobId: up.GetJobId(), Outcomes: chosen, AfterItem: after}) {
					got = append(got, it.GetItem())
				}
				if diff := cmp.Diff(want, got); diff != "" || after == 0 && int64(len(got)) != total {
					t.Errorf("%v after %d: %d of %d (-want +got):\n%s", chosen, after, len(got), total, diff)
				}
			}
		}
		stream, err := c.jobs.ExportItems(c.ctx, &pb.ExportItemsRequest{JobId: 99})
		c.must(err)
		_, err = stream.Recv()
		c.wantError("export of an unknown job", err, codes.NotFound, "JOB_NOT_FOUND")
	})
}

// measured is a store that notes what an export holds of it at a time.
type measured struct {
	store.Store
	pages, most, frames atomic.Int64 // pages; batches of the largest; frames read at once
}

func (m *measured) ItemBatches(ctx context.Context, jobID int64, ordinal int32, item int64, bad bool, size int) ([]job.Batch, error) {
	list, err := m.Store.ItemBatches(ctx, jobID, ordinal, item, bad, size)
	m.pages.Add(1)
	m.most.Store(max(m.most.Load(), int64(size), int64(len(list))))
	return list, err
}

func (m *measured) Payloads(ctx context.Context, batches []int64, maxBytes int64) (map[int64][]byte, error) {
	m.frames.Store(max(m.frames.Load(), int64(len(batches))))
	return m.Store.Payloads(ctx, batches, maxBytes)
}

// However many batches a job has, an export holds one page of them and one frame, and sends messages of bounded size.
func TestExportHoldsAPage(t *testing.T) {
	onBoth(t, func(t *scene) {
		const items, page, message = 2600, 500, 1000
		var m measured
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			m.Store = s
			return &m
		})
		h := header("many")
		h.Policy.BatchItems = 1
		up := c.submit(h, lines(1, items))
		_, err := c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: up.GetJobId()})
		c.must(err)
		if j := c.ended(up.GetJobId()); outcomes(j)[pb.Outcome_OUTCOME_CANCELLED] != items {
			t.Fatalf("ended with %v", outcomes(j))
		}
		for _, chosen := range [][]pb.Outcome{nil, {pb.Outcome_OUTCOME_CANCELLED}} {
			m.pages.Store(0)
			stream, err := c.jobs.ExportItems(c.ctx, &pb.ExportItemsRequest{JobId: up.GetJobId(), Outcomes: chosen})
			c.must(err)
			next := int64(1)
			for {
				got, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				c.must(err)
				if n := len(got.GetItems()); n > message {
					t.Errorf("a message has %d items", n)
				}
				for _, it := range got.GetItems() {
					if it.GetItem() != next {
						t.Fatalf("item %d follows item %d", it.GetItem(), next-1)
					}
					next++
				}
			}
			if next != items+1 {
				t.Errorf("%d items of %d", next-1, items)
			}
			if n := m.pages.Load(); n != items/page+1 || m.most.Load() != page || m.frames.Load() != 1 {
				t.Errorf("%d pages of at most %d batches, %d frames at once", n, m.most.Load(), m.frames.Load())
			}
		}
	})
}
