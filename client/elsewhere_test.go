package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// TestUploadGoesOnElsewhere takes the coordinator away from an upload that is half done: another one on the same
// database goes on with it, and the one that was frozen adds nothing when it wakes.
func TestUploadGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	var collection bytes.Buffer
	made, err := sample.Generate(&collection, sample.Config{Documents: 2000})
	if err != nil {
		t.Fatal(err)
	}
	data := collection.Bytes()
	for _, how := range []struct {
		name string
		away func(*cutter)
	}{
		{"dies", (*cutter).close},
		{"freezes", (*cutter).freeze},
	} {
		for _, seeks := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, seeks %v", how.name, seeks), func(t *testing.T) {
				t.Parallel()
				database := pgtest.DSN(t, "coordinator", postgres.Migrate)
				var ways [2]*cutter
				for i := range ways {
					p := &coordinatorProcess{t: t, config: server.Config{Database: database, Listen: "127.0.0.1:0"}}
					p.start()
					t.Cleanup(p.end)
					ways[i] = newCutter(t, p.address)
				}
				c := reach(t, client.Config{Address: ways[0].address() + "," + ways[1].address()})
				var was *cutter
				reader := bytes.NewReader(data)
				wire := tripwire{Reader: reader, left: len(data) / 2, f: func() {
					for _, way := range ways {
						if way.connections() > 0 {
							was = way
						}
					}
					how.away(was)
				}}
				var source io.Reader = &wire
				if seeks {
					source = &seekingTripwire{wire, reader}
				}
				result, err := c.Upload(t.Context(), source, client.Upload{Project: "elsewhere", FileName: "a.jsonl"})
				if err != nil {
					t.Fatal(err)
				}
				if result.Items != made.Items || result.Committed != made.Bytes {
					t.Errorf("result %+v, want %d items in %d bytes", result, made.Items, made.Bytes)
				}
				before := batches(t, c, result.JobID)
				was.finish()
				undisturbed, err := c.Upload(t.Context(), bytes.NewReader(data), client.Upload{Project: "elsewhere", FileName: "a.jsonl"})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(batches(t, c, undisturbed.JobID), before); diff != "" {
					t.Errorf("batches (-undisturbed +disturbed):\n%s", diff)
				}
				if diff := cmp.Diff(before, batches(t, c, result.JobID)); diff != "" {
					t.Errorf("the one that was away has changed (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// batches describes the batches of a job.
func batches(t *testing.T, c *client.Client, jobID int64) (all []string) {
	t.Helper()
	for b, err := range c.Batches(context.Background(), &tallymanv1.ListBatchesRequest{JobId: jobID, PageSize: 1000}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d: %d items from %d", b.GetOrdinal(), b.GetItemCount(), b.GetFirstItem()))
	}
	return all
}
