package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// results returns all results of an export, and the size of its largest message in bytes of values.
func (c *coordinator) results(jobID, after int64) (results []*pb.ExportedResult, most int) {
	c.t.Helper()
	stream, err := c.jobs.ExportResults(c.ctx, &pb.ExportResultsRequest{JobId: jobID, AfterItem: after})
	c.must(err)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return results, most
		}
		c.must(err)
		size := 0
		for _, r := range m.GetResults() {
			size += len(r.GetValue())
		}
		most = max(most, size)
		results = append(results, m.GetResults()...)
	}
}

// told is what a test compares of a result.
type told struct {
	Item, Last, Line int64
	Document, Value  string
}

func tell(results []*pb.ExportedResult) (list []told) {
	for _, r := range results {
		list = append(list, told{r.GetItem(), r.GetLastItem(), r.GetLine(), r.GetDocument(), string(r.GetValue())})
	}
	return list
}

// Results come out once, in the order of the upload, with the places of their items, from wherever the export goes on:
// whatever the order in which batches are done, reported by beats or at the end, and with items between them that ingest
// rejected.
func TestResultsAreExportedInTheOrderOfTheUpload(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("results")
		h.Kind, h.Policy.BatchItems = "annotations", 5
		var file bytes.Buffer
		for i := 1; i <= 40; i++ {
			if i%7 == 3 {
				file.WriteString("{\"sourcedb\":\"PubMed\"}\n") // without a sourceid it is rejected
			} else {
				fmt.Fprintf(&file, "{\"sourcedb\":\"PubMed\",\"sourceid\":\"%d\",\"text\":\"t\"}\n", i)
			}
		}
		jobID := c.submit(h, file.Bytes()).GetJobId()
		r, err := c.workers.RegisterWorker(c.ctx, &pb.RegisterWorkerRequest{WorkerId: "w", Kinds: []string{"annotations"}, Slots: 8})
		c.must(err)
		session := r.GetSessionId()
		grants := c.claim(session, "r", 100)
		if got, _ := c.results(jobID, 0); len(got) != 0 {
			t.Errorf("before anything was reported: %v", got)
		}
		var want []told
		number := int64(0) // of the item before
		for range 40 {
			number++
			if number%7 == 3 {
				continue
			}
			want = append(want, told{number, number, number, fmt.Sprintf("PubMed:%d", number), ""})
		}
		at := map[int64]int{} // index in want of a batch's first item, by batch
		n := 0
		for _, g := range grants {
			at[g.GetBatchId()] = n
			n += int(g.GetItemCount())
		}
		if n != len(want) || len(grants) < 7 {
			t.Fatalf("%d items in %d batches, want %d items", n, len(grants), len(want))
		}
		value := func(g *pb.Grant, position int32, how string) *pb.ItemResult {
			v := fmt.Sprintf(`{"batch":%d,"by":"%s"}`, g.GetBatchId(), how)
			want[at[g.GetBatchId()]+int(position)].Value = v
			return &pb.ItemResult{Position: position, Value: []byte(v)}
		}
		beating := c.beating(session)
		for i := len(grants) - 1; i >= 0; i-- { // the last one first
			g := grants[i]
			set := completed(g)
			switch i % 3 {
			case 0: // some by beats, one of which is repeated
				beat := renewal(g)
				beat.Outcomes = []*pb.OutcomeRun{{Count: 2, Outcome: pb.Outcome_OUTCOME_STORED}}
				beat.Results = []*pb.ItemResult{value(g, 0, "beat"), value(g, 1, "beat")}
				beating.beat(beat)
				beat.Outcomes[0].Count = 3
				beat.Results = []*pb.ItemResult{
					{Position: 0, Value: []byte(`"again"`)}, {Position: 1, Value: []byte(`"again"`)}, value(g, 2, "another beat")}
				beating.beat(beat)
				set.FromItem, set.Outcomes[0].Count = 3, g.GetItemCount()-3
				for p := int32(3); p < g.GetItemCount(); p++ {
					set.Results = append(set.Results, value(g, p, "settle"))
				}
			case 1: // one for all
				one := value(g, 0, "all")
				one.Items = g.GetItemCount()
				want[at[g.GetBatchId()]].Last = want[at[g.GetBatchId()]+int(g.GetItemCount())-1].Item
				set.Results = []*pb.ItemResult{one}
			case 2: // for the last item only
				set.Results = []*pb.ItemResult{value(g, g.GetItemCount()-1, "settle")}
			}
			for range 2 {
				if a := c.settle(session, set); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED {
					t.Fatalf("settled: %v", a)
				}
			}
		}
		c.ended(jobID)
		var left []told
		for _, w := range want {
			if w.Value != "" {
				left = append(left, w)
			}
		}
		for after := range int64(42) {
			for len(left) > 0 && left[0].Item <= after {
				left = left[1:]
			}
			got, _ := c.results(jobID, after)
			if diff := cmp.Diff(left, tell(got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("after %d (-want +got):\n%s", after, diff)
			}
			for _, r := range got {
				if r.GetFile() != "results.jsonl" || r.GetBatchId() == 0 {
					t.Errorf("item %d is in %q and batch %d", r.GetItem(), r.GetFile(), r.GetBatchId())
				}
			}
		}
		stream, err := c.jobs.ExportResults(c.ctx, &pb.ExportResultsRequest{JobId: 99})
		c.must(err)
		_, err = stream.Recv()
		c.wantError("export of an unknown job", err, codes.NotFound, "JOB_NOT_FOUND")
	})
}

// Large results come in several messages, none much larger than a MiB.
func TestLargeResultsComeInPieces(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("large")
		h.Policy.BatchItems = 4
		jobID := c.submit(h, lines(1, 12)).GetJobId()
		session := c.register("w")
		for _, g := range c.claim(session, "r", 100) {
			set := completed(g)
			for p := range g.GetItemCount() {
				v := fmt.Sprintf(`"%d.%d %s"`, g.GetBatchId(), p, strings.Repeat("v", 700_000))
				set.Results = append(set.Results, &pb.ItemResult{Position: p, Value: []byte(v)})
			}
			c.settle(session, set)
		}
		got, most := c.results(jobID, 0)
		if len(got) != 12 || most > 1<<20+700_100 {
			t.Errorf("%d results, %d bytes in a message", len(got), most)
		}
		for i, r := range got {
			if want := fmt.Sprintf(`"%d.%d `, i/4+1, i%4); r.GetItem() != int64(i)+1 || !strings.HasPrefix(string(r.GetValue()), want) {
				t.Errorf("result %d is of item %d and begins with %.10s, want %s", i, r.GetItem(), r.GetValue(), want)
			}
		}
	})
}
