package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func TestConfigValidate(t *testing.T) {
	for name, config := range map[string]client.Config{
		"nothing":          {},
		"no port":          {Address: "127.0.0.1"},
		"an empty address": {Address: "127.0.0.1:1,"},
		"negative retries": {Address: "127.0.0.1:1", RetryFor: -1},
		"negative timeout": {Address: "127.0.0.1:1", CallTimeout: -1},
	} {
		if _, err := client.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCallRepeatsWhatMaySucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := dial(t, &coordinator{getJob: func(_ context.Context, r *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error) {
			calls++
			switch calls {
			case 1:
				return nil, refusal(t, codes.Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be reached")
			case 2:
				return nil, refusal(t, codes.ResourceExhausted, "RATE_LIMITED", "too many requests")
			case 3:
				return nil, status.Error(codes.Unavailable, "the connection was cut")
			}
			return &tallymanv1.GetJobResponse{Job: &tallymanv1.Job{JobId: r.GetJobId()}}, nil
		}}, client.Config{})
		job, err := c.Job(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		if job.GetJobId() != 7 || calls != 4 {
			t.Errorf("job %d after %d calls, want job 7 after 4", job.GetJobId(), calls)
		}
	})
}

func TestCallReportsRefusals(t *testing.T) {
	calls := 0
	c := dial(t, &coordinator{getJob: func(context.Context, *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error) {
		calls++
		return nil, refusal(t, codes.InvalidArgument, "INVALID_ARGUMENT", "the request is wrong",
			&errdetails.BadRequest_FieldViolation{Field: "job_id", Description: "must be positive"})
	}}, client.Config{})
	_, err := c.Job(t.Context(), -1)
	failure, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("error %v, want a *client.Error", err)
	}
	if client.ReasonOf(err) != tallymanv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT || failure.Unreachable() {
		t.Errorf("reason %v, unreachable %v", failure.Reason, failure.Unreachable())
	}
	if want := []client.Field{{Name: "job_id", Problem: "must be positive"}}; !cmp.Equal(want, failure.Fields) {
		t.Errorf("fields %v, want %v", failure.Fields, want)
	}
	if want := "get job -1: the request is wrong; job_id: must be positive"; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("status %v", status.Code(err))
	}
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

func TestFirstContactFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, &coordinator{getJob: func(context.Context, *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error) {
			return nil, status.Error(codes.Unavailable, "connection refused")
		}}, client.Config{})
		began := time.Now()
		_, err := c.Job(t.Context(), 7)
		failure, ok := errors.AsType[*client.Error](err)
		if !ok || !failure.Unreachable() {
			t.Errorf("error %v, want that nothing answers", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v, want no waiting", took)
		}
	})
}

func TestCallIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, &coordinator{getJob: func(ctx context.Context, _ *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}}, client.Config{CallTimeout: 3 * time.Second})
		began := time.Now()
		_, err := c.Job(t.Context(), 7)
		if failure, ok := errors.AsType[*client.Error](err); !ok || !failure.Unreachable() {
			t.Errorf("error %v, want that nothing answers", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want 3s", took)
		}
	})
}

func TestContextEndsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, &coordinator{getJob: func(context.Context, *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error) {
			return nil, refusal(t, codes.Unavailable, "SHUTTING_DOWN", "the coordinator is shutting down")
		}}, client.Config{})
		tired := errors.New("tired of waiting")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, tired)
		defer cancel()
		if _, err := c.Job(ctx, 7); !errors.Is(err, tired) {
			t.Errorf("error %v, want the context's cause", err)
		}
	})
}

func TestJobsFetchesPages(t *testing.T) {
	var tokens []string
	c := dial(t, &coordinator{listJobs: func(_ context.Context, r *tallymanv1.ListJobsRequest) (*tallymanv1.ListJobsResponse, error) {
		tokens = append(tokens, r.GetPageToken())
		switch r.GetPageToken() {
		case "":
			return &tallymanv1.ListJobsResponse{Jobs: []*tallymanv1.Job{{JobId: 5}, {JobId: 4}}, NextPageToken: "a"}, nil
		case "a":
			return &tallymanv1.ListJobsResponse{NextPageToken: "b"}, nil
		case "b":
			return &tallymanv1.ListJobsResponse{Jobs: []*tallymanv1.Job{{JobId: 3}}, NextPageToken: "c"}, nil
		}
		return nil, refusal(t, codes.InvalidArgument, "INVALID_ARGUMENT", "wrong page token")
	}}, client.Config{})
	var got []int64
	var last error
	for job, err := range c.Jobs(t.Context(), &tallymanv1.ListJobsRequest{PageSize: 2}) {
		if err != nil {
			last = err
			continue
		}
		got = append(got, job.GetJobId())
	}
	if diff := cmp.Diff([]int64{5, 4, 3}, got); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if client.ReasonOf(last) != tallymanv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT {
		t.Errorf("last error %v, want the one of the fourth page", last)
	}
	tokens = nil
	for _, err := range c.Jobs(t.Context(), &tallymanv1.ListJobsRequest{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if diff := cmp.Diff([]string{""}, tokens); diff != "" {
		t.Errorf("pages fetched for one job (-want +got):\n%s", diff)
	}
}

func snapshot(revision int64, state tallymanv1.JobState) *tallymanv1.WatchJobResponse {
	return &tallymanv1.WatchJobResponse{Job: &tallymanv1.Job{JobId: 7, Revision: revision, State: state}}
}

func TestWatchReconnects(t *testing.T) {
	const running, succeeded = tallymanv1.JobState_JOB_STATE_RUNNING, tallymanv1.JobState_JOB_STATE_SUCCEEDED
	synctest.Test(t, func(t *testing.T) {
		var after []int64
		c := dial(t, &coordinator{
			watch: func(r *tallymanv1.WatchJobRequest, s grpc.ServerStreamingServer[tallymanv1.WatchJobResponse]) error {
				after = append(after, r.GetAfterRevision())
				var send []*tallymanv1.WatchJobResponse
				end := func() error { return nil }
				switch len(after) {
				case 1:
					send = append(send, snapshot(1, running), snapshot(3, running))
					end = func() error { return status.Error(codes.Unavailable, "the connection was cut") }
				case 2: // an answer from a coordinator that is behind, then silence
					send = append(send, snapshot(2, running), &tallymanv1.WatchJobResponse{}, snapshot(4, running))
					end = func() error { <-s.Context().Done(); return nil }
				case 3: // ended although the job has not
				default:
					send = append(send, snapshot(9, succeeded))
				}
				for _, m := range send {
					if err := s.Send(m); err != nil {
						return err
					}
				}
				return end()
			},
		}, client.Config{})
		var got []int64
		for job, err := range c.Watch(t.Context(), 7) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, job.GetRevision())
		}
		if diff := cmp.Diff([]int64{1, 3, 4, 9}, got); diff != "" {
			t.Errorf("revisions (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int64{0, 3, 4, 4}, after); diff != "" {
			t.Errorf("streams opened after (-want +got):\n%s", diff)
		}
	})
}

func TestWatchEndsWithAnError(t *testing.T) {
	c := dial(t, &coordinator{
		watch: func(*tallymanv1.WatchJobRequest, grpc.ServerStreamingServer[tallymanv1.WatchJobResponse]) error {
			return refusal(t, codes.NotFound, "JOB_NOT_FOUND", "there is no job 7")
		},
	}, client.Config{})
	var errs []error
	for _, err := range c.Watch(t.Context(), 7) {
		errs = append(errs, err)
	}
	if len(errs) != 1 || client.ReasonOf(errs[0]) != tallymanv1.ErrorReason_ERROR_REASON_JOB_NOT_FOUND {
		t.Errorf("errors %v, want one JOB_NOT_FOUND", errs)
	}
}

func TestWatchMayBeLeft(t *testing.T) {
	c := dial(t, &coordinator{
		watch: func(_ *tallymanv1.WatchJobRequest, s grpc.ServerStreamingServer[tallymanv1.WatchJobResponse]) error {
			if err := s.Send(snapshot(1, tallymanv1.JobState_JOB_STATE_RUNNING)); err != nil {
				return err
			}
			<-s.Context().Done()
			return nil
		},
	}, client.Config{})
	for _, err := range c.Watch(t.Context(), 7) {
		if err != nil {
			t.Error(err)
		}
		break
	}
}
