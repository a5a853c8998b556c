package client_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// coordinator answers as a test says; what a test does not say is not called.
type coordinator struct {
	tallymanv1.UnimplementedJobServiceServer
	upload   func(grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse]) error
	watch    func(*tallymanv1.WatchJobRequest, grpc.ServerStreamingServer[tallymanv1.WatchJobResponse]) error
	export   func(*tallymanv1.ExportItemsRequest, grpc.ServerStreamingServer[tallymanv1.ExportItemsResponse]) error
	results  func(*tallymanv1.ExportResultsRequest, grpc.ServerStreamingServer[tallymanv1.ExportResultsResponse]) error
	getJob   func(context.Context, *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error)
	listJobs func(context.Context, *tallymanv1.ListJobsRequest) (*tallymanv1.ListJobsResponse, error)
}

func (c *coordinator) SubmitUpload(
	s grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse],
) error {
	return c.upload(s)
}

func (c *coordinator) WatchJob(
	r *tallymanv1.WatchJobRequest, s grpc.ServerStreamingServer[tallymanv1.WatchJobResponse],
) error {
	return c.watch(r, s)
}

func (c *coordinator) ExportItems(
	r *tallymanv1.ExportItemsRequest, s grpc.ServerStreamingServer[tallymanv1.ExportItemsResponse],
) error {
	return c.export(r, s)
}

func (c *coordinator) ExportResults(
	r *tallymanv1.ExportResultsRequest, s grpc.ServerStreamingServer[tallymanv1.ExportResultsResponse],
) error {
	return c.results(r, s)
}

func (c *coordinator) GetJob(ctx context.Context, r *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error) {
	return c.getJob(ctx, r)
}

func (c *coordinator) ListJobs(ctx context.Context, r *tallymanv1.ListJobsRequest) (*tallymanv1.ListJobsResponse, error) {
	return c.listJobs(ctx, r)
}

// dial serves c until the test ends and returns a client of it.
func dial(t *testing.T, c *coordinator, config client.Config) *client.Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	tallymanv1.RegisterJobServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close connection: %v", err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	config.Conn = conn
	cl, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// known answers GetJob for any job.
func known(_ context.Context, r *tallymanv1.GetJobRequest) (*tallymanv1.GetJobResponse, error) {
	return &tallymanv1.GetJobResponse{Job: &tallymanv1.Job{JobId: r.GetJobId()}}, nil
}

// refusal is an error as the coordinator gives it.
func refusal(t *testing.T, code codes.Code, reason, message string, fields ...*errdetails.BadRequest_FieldViolation) error {
	t.Helper()
	s, err := status.New(code, message).WithDetails(
		&errdetails.ErrorInfo{Reason: reason, Domain: "tallyman"}, &errdetails.BadRequest{FieldViolations: fields})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}
