package api

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// probe is a service behind the interceptors that does what a test says.
type probe struct {
	pb.UnimplementedJobServiceServer
	pb.UnimplementedWorkerServiceServer

	get  func(context.Context, *pb.GetJobRequest) (*pb.GetJobResponse, error)
	beat func(grpc.BidiStreamingServer[pb.HeartbeatRequest, pb.HeartbeatResponse]) error
}

func (p *probe) GetJob(ctx context.Context, r *pb.GetJobRequest) (*pb.GetJobResponse, error) {
	return p.get(ctx, r)
}

func (p *probe) Heartbeat(s grpc.BidiStreamingServer[pb.HeartbeatRequest, pb.HeartbeatResponse]) error {
	return p.beat(s)
}

// probed is a client of it, with the log of its server.
type probed struct {
	t       *testing.T
	jobs    pb.JobServiceClient
	workers pb.WorkerServiceClient

	mu  sync.Mutex
	log []byte
}

// Write implements io.Writer.
func (p *probed) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, line...)
	return len(line), nil
}

// lines returns the log's lines and empties it.
func (p *probed) lines() (lines []map[string]any) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range bytes.Lines(p.log) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			p.t.Fatalf("log line %q: %v", line, err)
		}
		lines = append(lines, m)
	}
	p.log = nil
	return lines
}

func serve(t *testing.T, s *probe, authenticate Authenticate, limit Limit) *probed {
	t.Helper()
	p := &probed{t: t}
	server := grpc.NewServer(ServerOptions(slog.New(slog.NewJSONHandler(p, nil)), authenticate, limit)...)
	pb.RegisterJobServiceServer(server, s)
	pb.RegisterWorkerServiceServer(server, s)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///probe",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	p.jobs, p.workers = pb.NewJobServiceClient(conn), pb.NewWorkerServiceClient(conn)
	return p
}

func (p *probed) get() error {
	_, err := p.jobs.GetJob(p.t.Context(), &pb.GetJobRequest{JobId: 1})
	return err
}

// beat opens a stream, sends one beat, and returns how the stream ended.
func (p *probed) beat(m *pb.HeartbeatRequest) error {
	p.t.Helper()
	stream, err := p.workers.Heartbeat(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := stream.Send(m); err != nil {
		p.t.Fatal(err)
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// answer is what a status says.
type answer struct {
	Code     codes.Code
	Message  string
	Reason   string
	Domain   string
	Metadata map[string]string
	Fields   []string
}

func read(err error) answer {
	s := status.Convert(err)
	a := answer{Code: s.Code(), Message: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			a.Reason, a.Domain, a.Metadata = d.GetReason(), d.GetDomain(), d.GetMetadata()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				a.Fields = append(a.Fields, v.GetField())
			}
		}
	}
	return a
}
