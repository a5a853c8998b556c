package worker_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const (
	leaseTime = 30 * time.Second
	beatTime  = 5 * time.Second
	sessionID = 7
	kind      = "test"
)

// batch is one as the coordinator sees it.
type batch struct {
	id       int64
	items    int
	frame    []byte // of the grant; nil when it must be read
	read     []byte // what ReadBatch answers
	attempt  int32
	held     bool
	expires  time.Time // of the lease, if the coordinator keeps time
	cancel   bool      // its job is being stopped
	paused   bool      // its job is paused
	lost     bool      // its lease was taken away
	outcomes []pb.Outcome
	findings []*pb.ItemFinding
	results  []*pb.ItemResult
	end      *pb.Settlement // the last
	ends     int
	rests    time.Time // until when it is not granted again, since it failed
}

// coordinator keeps leases as the protocol says, without ever ending one by itself. Its hooks are called without the
// lock; those that a test leaves nil do nothing.
type coordinator struct {
	pb.UnsafeWorkerServiceServer
	t *testing.T

	before  func(call string, n int) error         // fails the n-th call of a kind without effect
	after   func(call string, n int) error         // fails it after its effect
	silent  func() bool                            // beats are not answered
	reaps   bool                                   // leases end by their time
	old     bool                                   // settlements that ask for batches are not known
	answers func(*pb.LeaseAnswer)                  // changes an answer to a beat
	settled func(*pb.Settlement, *pb.SettleAnswer) // changes an answer to a settle
	beaten  func(*pb.HeartbeatRequest)             // sees a beat
	unknown func(job int64) error                  // what GetJob says of a job; nil: it is there

	mu           sync.Mutex
	calls        map[string]int
	batches      []*batch
	claimed      map[string][]*batch // by request_id
	requests     []string            // ids of claims, in order
	settles      []*pb.SettleBatchesRequest
	beats        []*pb.HeartbeatRequest
	registered   *pb.RegisterWorkerRequest
	deregistered bool
	push         chan *pb.HeartbeatResponse
	work         chan struct{} // closed, and replaced, when there is more to claim
}

var _ pb.WorkerServiceServer = (*coordinator)(nil)

// serve starts a coordinator that ends with the test, and returns it with a connection.
func serve(t *testing.T) (*coordinator, grpc.ClientConnInterface) {
	t.Helper()
	c := &coordinator{
		t: t, calls: map[string]int{}, claimed: map[string][]*batch{}, push: make(chan *pb.HeartbeatResponse, 16),
		work: make(chan struct{}),
	}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(8<<20), grpc.WaitForHandlers(true))
	pb.RegisterWorkerServiceServer(server, c)
	pb.RegisterJobServiceServer(server, jobs{c: c})
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
	return c, conn
}

// add makes a batch of n items to be claimed.
func (c *coordinator) add(n int) *batch {
	c.t.Helper()
	var e payload.Encoder
	for i := range n {
		data := fmt.Appendf(nil, `{"item":%d}`, i)
		it := payload.Item{Number: int64(i + 1), File: "up.jsonl", Line: int64(2*i + 1), Offset: int64(100 * i),
			Document: fmt.Sprintf("PMC:%d", i), Data: data, Length: int64(len(data))}
		if err := e.Append(it); err != nil {
			c.t.Fatal(err)
		}
	}
	frame, err := e.Finish()
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &batch{id: int64(len(c.batches) + 1), items: n, frame: frame}
	c.batches = append(c.batches, b)
	close(c.work)
	c.work = make(chan struct{})
	return b
}

// call counts a call and applies one of the hooks.
func (c *coordinator) enter(call string) (n int, err error) {
	c.mu.Lock()
	c.calls[call]++
	n = c.calls[call]
	c.mu.Unlock()
	if c.before != nil {
		err = c.before(call, n)
	}
	return n, err
}

func (c *coordinator) leave(call string, n int) error {
	if c.after != nil {
		return c.after(call, n)
	}
	return nil
}

func (c *coordinator) count(call string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[call]
}

func (c *coordinator) RegisterWorker(_ context.Context, r *pb.RegisterWorkerRequest) (*pb.RegisterWorkerResponse, error) {
	if err := r.Validate(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	n, err := c.enter("register")
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.registered = r
	c.mu.Unlock()
	return &pb.RegisterWorkerResponse{
		SessionId: sessionID, WorkerId: r.GetWorkerId(), HeartbeatInterval: durationpb.New(beatTime),
		LeaseDuration: durationpb.New(leaseTime), ClusterId: "cluster",
	}, c.leave("register", n)
}

func (c *coordinator) ClaimBatches(ctx context.Context, r *pb.ClaimBatchesRequest) (*pb.ClaimBatchesResponse, error) {
	if err := r.Validate(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	began := time.Now()
	n, err := c.enter("claim")
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "a claim without deadline")
	}
	c.mu.Lock()
	c.requests = append(c.requests, r.GetRequestId())
	c.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline) - 200*time.Millisecond)
	defer timer.Stop()
	for ended := false; ; {
		grants, more := c.grant(r)
		if len(grants) > 0 || ended {
			return &pb.ClaimBatchesResponse{Grants: grants, Waited: durationpb.New(time.Since(began))}, c.leave("claim", n)
		}
		select {
		case <-more:
		case <-timer.C:
			ended = true
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (c *coordinator) grant(r *pb.ClaimBatchesRequest) ([]*pb.Grant, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claimed[r.GetRequestId()] == nil {
		for _, b := range c.batches {
			if c.expired(b) {
				b.held = false
			}
			if !b.held && !b.paused && !time.Now().Before(b.rests) && (b.end == nil || b.end.GetRetryable() || b.end.GetEnd() == pb.AttemptEnd_ATTEMPT_END_RELEASED) &&
				len(c.claimed[r.GetRequestId()]) < int(r.GetMaxBatches()) {
				b.held, b.lost, b.end = true, false, nil
				b.attempt++
				b.expires = time.Now().Add(leaseTime)
				c.claimed[r.GetRequestId()] = append(c.claimed[r.GetRequestId()], b)
			}
		}
	}
	var grants []*pb.Grant
	for _, b := range c.claimed[r.GetRequestId()] {
		if !b.held || c.expired(b) {
			continue // the answer that was lost is too old
		}
		grants = append(grants, &pb.Grant{
			BatchId: b.id, Attempt: b.attempt, JobId: 3, Kind: kind, Project: "project", Mode: "replace",
			Parameters: map[string]string{"model": "small"}, DefaultSourcedb: "PMC", ItemCount: int32(b.items),
			DoneItems: int32(len(b.outcomes)), Remaining: durationpb.New(time.Until(b.expires)), Payload: b.frame,
		})
	}
	return grants, c.work
}

func (c *coordinator) ReadBatch(r *pb.ReadBatchRequest, stream grpc.ServerStreamingServer[pb.ReadBatchResponse]) error {
	n, err := c.enter("read")
	if err != nil {
		return err
	}
	b := c.find(r.GetBatchId(), r.GetAttempt())
	if b == nil {
		return refusal(c.t, codes.FailedPrecondition, "LEASE_LOST")
	}
	for piece := range slices.Chunk(b.read, 16) {
		if err := stream.Send(&pb.ReadBatchResponse{Data: piece}); err != nil {
			return err
		}
	}
	return c.leave("read", n)
}

// find returns the batch of a lease, nil if that does not live.
func (c *coordinator) find(id int64, attempt int32) *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.batches[id-1]
	if !b.held || b.lost || b.attempt != attempt || c.expired(b) {
		return nil
	}
	return b
}

// expired reports whether the time of a lease is over. The lock must be held.
func (c *coordinator) expired(b *batch) bool {
	return c.reaps && b.held && !time.Now().Before(b.expires)
}

// report is what a beat and a settlement have in common.
type report interface {
	GetFromItem() int32
	GetOutcomes() []*pb.OutcomeRun
	GetFindings() []*pb.ItemFinding
	GetResults() []*pb.ItemResult
}

// record adds what is new of outcomes, findings and results, and returns false if they leave a gap or pass the end.
func (c *coordinator) record(b *batch, m report) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	position, known := int(m.GetFromItem()), len(b.outcomes)
	if position > known {
		return false
	}
	for _, run := range m.GetOutcomes() {
		for range run.GetCount() {
			if position++; position > b.items {
				return false
			}
			if position > len(b.outcomes) {
				b.outcomes = append(b.outcomes, run.GetOutcome())
			}
		}
	}
	for _, f := range m.GetFindings() {
		if int(f.GetPosition()) >= known {
			b.findings = append(b.findings, f)
		}
	}
	for _, r := range m.GetResults() {
		if int(r.GetPosition()) >= known {
			b.results = append(b.results, r)
		}
	}
	return true
}

func (c *coordinator) SettleBatches(_ context.Context, r *pb.SettleBatchesRequest) (*pb.SettleBatchesResponse, error) {
	if err := r.Validate(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c.mu.Lock()
	c.settles = append(c.settles, r)
	c.mu.Unlock()
	n, err := c.enter("settle")
	if err != nil {
		return nil, err
	}
	resp := &pb.SettleBatchesResponse{}
	if next := r.GetClaim(); next != nil && !c.old {
		// Before the settlements: what they return is not available again at once.
		resp.Grants, _ = c.grant(&pb.ClaimBatchesRequest{RequestId: next.GetRequestId(), MaxBatches: next.GetMaxBatches()})
		resp.Waited = durationpb.New(0)
	}
	for _, s := range r.GetSettlements() {
		a := &pb.SettleAnswer{BatchId: s.GetBatchId(), Attempt: s.GetAttempt(), Status: c.settle(s)}
		if c.settled != nil {
			c.settled(s, a)
		}
		resp.Answers = append(resp.Answers, a)
	}
	return resp, c.leave("settle", n)
}

func (c *coordinator) settle(s *pb.Settlement) pb.SettleStatus {
	b := c.find(s.GetBatchId(), s.GetAttempt())
	if b == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if b := c.batches[s.GetBatchId()-1]; b.end != nil && proto.Equal(b.end, s) {
			return pb.SettleStatus_SETTLE_STATUS_SETTLED
		}
		return pb.SettleStatus_SETTLE_STATUS_LEASE_LOST
	}
	covered := c.record(b, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !covered || (s.GetEnd() == pb.AttemptEnd_ATTEMPT_END_COMPLETED && len(b.outcomes) < b.items) {
		return pb.SettleStatus_SETTLE_STATUS_OUTCOMES_INCOMPLETE
	}
	b.held, b.end = false, s
	b.ends++
	if s.GetEnd() == pb.AttemptEnd_ATTEMPT_END_FAILED {
		b.rests = time.Now().Add(time.Second)
	}
	return pb.SettleStatus_SETTLE_STATUS_SETTLED
}

func (c *coordinator) DeregisterWorker(context.Context, *pb.DeregisterWorkerRequest) (*pb.DeregisterWorkerResponse, error) {
	n, err := c.enter("deregister")
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.deregistered = true
	c.mu.Unlock()
	return &pb.DeregisterWorkerResponse{}, c.leave("deregister", n)
}
