package annotations_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/client"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// TestModes takes a real collection in again and again, from upload to store.
func TestModes(t *testing.T) {
	data := realCollection(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, st := site(ctx, t)
	const annotations, distinct = 11_789, 11_764
	for _, test := range []struct {
		project, mode string
		want          int64
		skipped       int64
	}{
		{"first", "", annotations, 0},
		{"first", pb.ModeAdd, 2 * annotations, 0},
		{"first", pb.ModeMerge, 2 * annotations, 0},
		{"first", pb.ModeSkip, 2 * annotations, 600},
		{"empty", pb.ModeMerge, distinct, 0},
	} {
		job, outcomes, err := submit(ctx, c, bytes.NewReader(data), client.Upload{
			Project: test.project, Mode: test.mode, FileName: "bc5cdr.jsonl", Policy: &pb.Policy{BatchWeight: 100},
		})
		if err != nil {
			t.Fatal(err)
		}
		counts, err := st.Count(ctx, test.project)
		if err != nil {
			t.Fatal(err)
		}
		stored := outcomes[pb.Outcome_OUTCOME_STORED] + outcomes[pb.Outcome_OUTCOME_STORED_WITH_WARNINGS]
		got := []int64{stored, outcomes[pb.Outcome_OUTCOME_SKIPPED], counts.Documents, counts.Annotations()}
		if d := cmp.Diff([]int64{600 - test.skipped, test.skipped, 600, test.want}, got); d != "" {
			t.Errorf("mode %q in %s: stored, skipped, documents, annotations (-want +got)\n%s", test.mode, test.project, d)
		}
		if job.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("mode %q in %s: the job ended as %v", test.mode, test.project, job.GetState())
		}
	}
}

// TestJobsAtOnceBringTheSamePassages has several jobs bring the passages of documents that nobody knows, at the same
// time and in batches that tear them apart.
func TestJobsAtOnceBringTheSamePassages(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, st := site(ctx, t)
	const documents, passages, jobs = 5, 20, 3
	var lines strings.Builder
	for document := range documents {
		for passage := range passages {
			fmt.Fprintf(&lines, `{"sourcedb":"PMC","sourceid":"%d","text":"Passage %d of document %d.","denotations":[{"span":{"begin":0,"end":7},"obj":"Word"}]}`+"\n",
				document, passage, document)
		}
	}
	var group errgroup.Group
	for n := range jobs {
		group.Go(func() error {
			job, outcomes, err := submit(ctx, c, strings.NewReader(lines.String()), client.Upload{
				Project: fmt.Sprintf("genes-%d", n), FileName: "up.jsonl", Policy: &pb.Policy{BatchItems: 3},
			})
			if err == nil && outcomes[pb.Outcome_OUTCOME_STORED] != documents*passages {
				err = fmt.Errorf("job %d ended as %v: %v", job.GetJobId(), job.GetState(), outcomes)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range jobs {
		got := export(t, st, fmt.Sprintf("genes-%d", n))
		if len(got) != documents {
			t.Fatalf("%d documents, want %d", len(got), documents)
		}
		for document, item := range got {
			var text strings.Builder
			for passage := range passages {
				fmt.Fprintf(&text, "\nPassage %d of document %d.", passage, document)
			}
			if d := cmp.Diff(text.String()[1:], item.Text); d != "" {
				t.Errorf("text (-want +got)\n%s", d)
			}
			for _, span := range item.Denotations {
				if word := item.Text[span.Begin:span.End]; word != "Passage" {
					t.Errorf("%s covers %q", span.ID, word)
				}
			}
		}
	}
	// They have all ended: the text is what it is.
	more := strings.NewReader(`{"sourcedb":"PMC","sourceid":"1","text":"Quite another text."}` + "\n" +
		`{"sourcedb":"PMC","sourceid":"1","text":"Passage 7 of document 1."}` + "\n")
	_, outcomes, err := submit(ctx, c, more, client.Upload{Project: "genes-more", FileName: "more.jsonl"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_REJECTED: 1, pb.Outcome_OUTCOME_STORED: 1}, outcomes); d != "" {
		t.Errorf("outcomes of a later job (-want +got)\n%s", d)
	}
}

// TestRetryOfAnOlderJob has two jobs replace the annotations of the same documents at the same time, while attempts fail,
// and retries the older one by hand when both have ended: what is left is what the younger says.
func TestRetryOfAnOlderJob(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	conn := coordinator(ctx, t)
	h, st := open(t)
	var mended atomic.Bool
	broken := errors.New("it is broken")
	work(ctx, t, conn, worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
		switch first := b.Items[0].Number; {
		case b.JobID == 1 && first%3 == 0 && !mended.Load():
			return worker.Permanent(broken)
		case first%2 == 0 && b.Attempt == 1:
			return broken
		default:
			return h.Handle(ctx, b)
		}
	}))
	c := clientOf(t, conn)
	const documents, each = 90, 5
	collection := func(obj string) io.Reader {
		var lines strings.Builder
		for n := range documents {
			fmt.Fprintf(&lines, `{"sourcedb":"PMC","sourceid":"%d","text":"Aspirin.","denotations":[{"span":{"begin":0,"end":7},"obj":%q}]}`+"\n", n, obj)
		}
		return strings.NewReader(lines.String())
	}
	var jobs []int64
	for _, obj := range []string{"older", "younger"} {
		sent, err := c.Upload(ctx, collection(obj), client.Upload{Project: "genes", FileName: obj, Policy: &pb.Policy{BatchItems: each}})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, sent.JobID)
	}
	var failed int64
	for _, id := range jobs {
		_, outcomes, err := await(ctx, c, id)
		if err != nil {
			t.Fatal(err)
		}
		failed += outcomes[pb.Outcome_OUTCOME_FAILED]
	}
	if failed == 0 || failed%each != 0 || failed >= documents {
		t.Errorf("%d items failed", failed)
	}
	mended.Store(true)
	_, err := pb.NewJobServiceClient(conn).RetryJob(ctx, &pb.RetryJobRequest{JobId: jobs[0], RequestId: "again"})
	if err != nil {
		t.Fatal(err)
	}
	job, outcomes, err := await(ctx, c, jobs[0])
	if err != nil {
		t.Fatal(err)
	}
	if outcomes[pb.Outcome_OUTCOME_STORED]+outcomes[pb.Outcome_OUTCOME_STORED_WITH_WARNINGS] != documents ||
		outcomes[pb.Outcome_OUTCOME_STORED_WITH_WARNINGS] < failed {
		t.Errorf("the older job ended as %v, with outcomes %v", job.GetState(), outcomes)
	}
	got := export(t, st, "genes")
	if len(got) != documents {
		t.Errorf("%d documents, want %d", len(got), documents)
	}
	for _, item := range got {
		if len(item.Denotations) != 1 || item.Denotations[0].Obj != "younger" {
			t.Errorf("document %s has %+v", item.Key, item.Denotations)
		}
	}
}
