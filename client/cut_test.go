package client_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
)

// TestUploadCutAnywhere cuts the connections of small uploads twice at the same place, which wanders over everything that
// is said: the first bytes of the connection, the answer to the header, the data, the end, and the last answer. However
// it is cut, each upload is one job with every item once.
func TestUploadCutAnywhere(t *testing.T) {
	t.Parallel()
	p := startCoordinator(t)
	direct := p.client()
	var collection bytes.Buffer
	made, err := sample.Generate(&collection, sample.Config{Documents: 4})
	if err != nil {
		t.Fatal(err)
	}
	data := collection.Bytes()
	// What an upload says in all, up and down, with some to spare: places after it are those of no cut at all.
	places := map[string][]budget{}
	for n := int64(0); n < 480; n += 11 {
		places["down"] = append(places["down"], budget{-1, n})
	}
	for n := int64(0); n < int64(len(data))+700; n += int64(len(data)+700) / 40 {
		places["up"] = append(places["up"], budget{n, -1})
	}
	for direction, budgets := range places {
		for part := range 4 {
			t.Run(fmt.Sprint(direction, part), func(t *testing.T) {
				t.Parallel()
				cut := newCutter(t, p.address)
				c := reach(t, client.Config{Address: cut.address()})
				interrupted := 0
				for i := part; i < len(budgets); i += 4 {
					b := budgets[i]
					u := client.Upload{ID: fmt.Sprint(direction, i), Project: "cut-anywhere", FileName: "a.jsonl", ChunkBytes: 700}
					// The first contact of a client is not repeated, and this is about the later ones.
					if _, err := c.UploadStatus(t.Context(), u.ID); client.ReasonOf(err) !=
						tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_NOT_FOUND {
						t.Fatalf("before it: %v", err)
					}
					cut.cut(b, b)
					result, err := c.Upload(t.Context(), bytes.NewReader(data), u)
					if err != nil {
						t.Errorf("cut twice after %+v bytes: %v", b, err)
						continue
					}
					if cut.connections() > 1 {
						interrupted++
					}
					job, err := direct.Job(t.Context(), result.JobID)
					if err != nil {
						t.Fatal(err)
					}
					progress := job.GetProgress()
					if result.Items != made.Items || progress.GetItemsTotal() != made.Items ||
						!job.GetIngestDone() || result.Committed != made.Bytes {
						t.Errorf("cut after %+v bytes: result %+v, job %v, want %d items", b, result, job, made.Items)
					}
				}
				if interrupted < 2 {
					t.Errorf("%d uploads were interrupted, want most of them", interrupted)
				}
			})
		}
	}
	t.Cleanup(func() {
		n := 0
		for _, err := range direct.Jobs(context.Background(), &tallymanv1.ListJobsRequest{Project: "cut-anywhere"}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if want := len(places["up"]) + len(places["down"]); n != want {
			t.Errorf("%d jobs, want %d, one for each upload", n, want)
		}
	})
}
