package client_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// An export that is cut goes on after the last item that arrived.
func TestItemsGoOnAfterACut(t *testing.T) {
	var after []int64
	c := dial(t, &coordinator{
		export: func(r *tallymanv1.ExportItemsRequest, s grpc.ServerStreamingServer[tallymanv1.ExportItemsResponse]) error {
			after = append(after, r.GetAfterItem())
			next := r.GetAfterItem() + 1
			if next > 4 {
				return nil
			}
			err := s.Send(&tallymanv1.ExportItemsResponse{Items: []*tallymanv1.ExportedItem{{Item: next}, {Item: next + 1}}})
			if err != nil {
				return err
			}
			return status.Error(codes.Unavailable, "cut")
		},
	}, client.Config{})
	var got []int64
	for it, err := range c.Items(t.Context(), &tallymanv1.ExportItemsRequest{JobId: 7}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, it.GetItem())
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4}, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{0, 2, 4}, after); diff != "" {
		t.Errorf("asked for items after (-want +got):\n%s", diff)
	}
	for _, err := range c.Items(t.Context(), &tallymanv1.ExportItemsRequest{JobId: 7}) {
		if err != nil {
			t.Error(err)
		}
		break // nobody wants more
	}
}

func TestItemsOfAJobThatIsNotThere(t *testing.T) {
	c := dial(t, &coordinator{
		export: func(*tallymanv1.ExportItemsRequest, grpc.ServerStreamingServer[tallymanv1.ExportItemsResponse]) error {
			return refusal(t, codes.NotFound, "JOB_NOT_FOUND", "there is no job 7")
		},
	}, client.Config{})
	var errs []error
	for _, err := range c.Items(t.Context(), &tallymanv1.ExportItemsRequest{JobId: 7}) {
		errs = append(errs, err)
	}
	if len(errs) != 1 || client.ReasonOf(errs[0]) != tallymanv1.ErrorReason_ERROR_REASON_JOB_NOT_FOUND {
		t.Errorf("errors %v, want one JOB_NOT_FOUND", errs)
	}
}

// Results go on as items do.
func TestResultsGoOnAfterACut(t *testing.T) {
	var after []int64
	c := dial(t, &coordinator{
		results: func(r *tallymanv1.ExportResultsRequest, s grpc.ServerStreamingServer[tallymanv1.ExportResultsResponse]) error {
			after = append(after, r.GetAfterItem())
			next := r.GetAfterItem() + 1
			if next > 6 {
				return nil
			}
			err := s.Send(&tallymanv1.ExportResultsResponse{Results: []*tallymanv1.ExportedResult{{Item: next, LastItem: next + 1}}})
			if err != nil {
				return err
			}
			return status.Error(codes.Unavailable, "cut")
		},
	}, client.Config{})
	results := c.Results(t.Context(), &tallymanv1.ExportResultsRequest{JobId: 7, AfterItem: 3})
	for range 2 { // it begins anew
		var got []int64
		for r, err := range results {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.GetItem())
		}
		if diff := cmp.Diff([]int64{4, 5, 6}, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int64{3, 4, 5, 6}, after); diff != "" {
			t.Errorf("asked for results after (-want +got):\n%s", diff)
		}
		after = nil
	}
}
