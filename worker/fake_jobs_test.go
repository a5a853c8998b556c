package worker_test

import (
	"context"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// jobs is what a coordinator knows of jobs.
type jobs struct {
	pb.UnimplementedJobServiceServer
	c *coordinator
}

func (j jobs) GetJob(_ context.Context, r *pb.GetJobRequest) (*pb.GetJobResponse, error) {
	if _, err := j.c.enter("get job"); err != nil {
		return nil, err
	}
	if j.c.unknown != nil {
		if err := j.c.unknown(r.GetJobId()); err != nil {
			return nil, err
		}
	}
	return &pb.GetJobResponse{Job: &pb.Job{JobId: r.GetJobId()}}, nil
}

// refusal is an error as a coordinator gives it.
func refusal(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	return refusalWith(t, code, reason, nil)
}

func refusalWith(t *testing.T, code codes.Code, reason string, metadata map[string]string) error {
	t.Helper()
	s, err := status.New(code, reason).WithDetails(&errdetails.ErrorInfo{Domain: "tallyman", Reason: reason, Metadata: metadata})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// unavailable is what a broken connection gives.
var unavailable = status.Error(codes.Unavailable, "the connection was cut")
