package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

func TestMain(m *testing.M) {
	// Channels for compressing are made with the first frame: those of one bubble could not be used by the next.
	var warm payload.Encoder
	if err := warm.Append(payload.Item{Number: 1, Line: 1, Data: []byte("{}"), Length: 2}); err != nil {
		panic(err)
	}
	frame, err := warm.Finish()
	if err == nil {
		_, err = payload.Decode(frame, 1<<10)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// patient bounds every wait of a test. Under synctest it costs nothing.
const patient = time.Minute

// coordinator is one that runs, with clients of it.
type coordinator struct {
	t       testing.TB
	ctx     context.Context // of calls
	server  *Server
	jobs    pb.JobServiceClient
	workers pb.WorkerServiceClient
	admin   pb.AdminServiceClient
	conn    *grpc.ClientConn
	log     *log
	halt    func() error // ends Run and returns its error; may be repeated
}

// scene is a test with a database of its own.
type scene struct {
	*testing.T
	database string
}

// pass lets time pass. In a bubble, where all is idle before time moves, that costs none.
func pass(d time.Duration) { <-time.After(d) }

// inMemory runs a scenario on SQLite with the time of a bubble.
func inMemory(t *testing.T, scenario func(t *scene)) {
	t.Helper()
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) { scenario(&scene{t, "sqlite:" + filepath.Join(folder, "tallyman.db")}) })
}

// onBoth runs a scenario, which must not depend on time, on SQLite and on Postgres.
func onBoth(t *testing.T, scenario func(t *scene)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { inMemory(t, scenario) })
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		scenario(&scene{t, pgtest.DSN(t, "coordinator", postgres.Migrate)})
	})
}

// start runs a coordinator until the test ends. wrap stands between it and its store; nil is none.
func start(t testing.TB, cfg Config, wrap func(store.Store) store.Store) *coordinator {
	t.Helper()
	log := &log{}
	cfg.Logger = slog.New(slog.NewJSONHandler(log, nil))
	cfg.Migrate = true
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	if strings.HasPrefix(cfg.Database, "postgres") {
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), patient)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.withDefaults()
	st, err := openStore(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		st = wrap(st)
	}
	s := newServer(cfg, st)
	s.wire()
	running, halt := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(running) }()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	c := &coordinator{
		t: t, ctx: ctx, server: s, conn: conn, log: log, jobs: pb.NewJobServiceClient(conn),
		workers: pb.NewWorkerServiceClient(conn), admin: pb.NewAdminServiceClient(conn),
		halt: sync.OnceValue(func() error { halt(); return <-done }),
	}
	t.Cleanup(func() {
		cancel()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		began := time.Now()
		if err := c.halt(); err != nil {
			t.Errorf("the coordinator ended with %v", err)
		}
		if took := time.Since(began); took >= cfg.DrainTimeout {
			t.Errorf("with all its clients gone the coordinator took %v to end", took)
		}
		if t.Failed() {
			t.Logf("the log:\n%s", log.data)
		}
	})
	return c
}

// log collects log lines.
type log struct {
	mu   sync.Mutex
	data []byte
}

// Write implements io.Writer.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = append(l.data, p...)
	return len(p), nil
}

// lines returns the lines with this message.
func (l *log) lines(t testing.TB, msg string) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.data) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if m["msg"] == msg {
			lines = append(lines, m)
		}
	}
	return lines
}

// said is what a status says.
type said struct {
	Code   codes.Code
	Reason string
}

func sayings(err error) said {
	s := said{Code: status.Code(err)}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			s.Reason = info.GetReason()
		}
	}
	return s
}

func (c *coordinator) wantError(what string, err error, code codes.Code, reason string) {
	c.t.Helper()
	if got := sayings(err); got != (said{code, reason}) {
		c.t.Errorf("%s: got %v, want %v %s", what, err, code, reason)
	}
}

func (c *coordinator) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// lines are items of a kind of its own, numbered from first on.
func lines(first, n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "{\"n\":%d}\n", first+i)
	}
	return b.Bytes()
}

// header is that of an upload whose batches have two items each.
func header(id string) *pb.UploadHeader {
	return &pb.UploadHeader{
		UploadId: id, Kind: "probe", Project: "probing", FileName: id + ".jsonl", Policy: &pb.Policy{BatchItems: 2},
	}
}

type upload struct {
	*coordinator
	pb.JobService_SubmitUploadClient
	first *pb.SubmitUploadResponse
	at    int64
}

// open opens an upload and takes the answer to its header.
func (c *coordinator) open(ctx context.Context, h *pb.UploadHeader) *upload {
	c.t.Helper()
	stream, err := c.jobs.SubmitUpload(ctx)
	c.must(err)
	c.must(stream.Send(&pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Header{Header: h}}))
	first, err := stream.Recv()
	c.must(err)
	return &upload{c, stream, first, first.GetResumeOffset()}
}

func (u *upload) chunk(data []byte) {
	u.t.Helper()
	u.must(u.Send(chunk(u.at, data)))
	u.at += int64(len(data))
}

func chunk(at int64, data []byte) *pb.SubmitUploadRequest {
	return &pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Chunk{Chunk: &pb.UploadChunk{Offset: at, Data: data}}}
}

func finish(size int64) *pb.SubmitUploadRequest {
	return &pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Finish{Finish: &pb.UploadFinish{Size: size}}}
}

// until receives answers until one satisfies ok.
func (u *upload) until(what string, ok func(*pb.SubmitUploadResponse) bool) *pb.SubmitUploadResponse {
	u.t.Helper()
	for {
		m, err := u.Recv()
		if err != nil {
			u.t.Fatalf("while waiting for %s: %v", what, err)
		}
		if ok(m) {
			return m
		}
	}
}

// end finishes the upload and returns the last answer.
func (u *upload) end() *pb.SubmitUploadResponse {
	u.t.Helper()
	u.must(u.Send(finish(u.at)))
	last := u.until("the end", (*pb.SubmitUploadResponse).GetFinished)
	if _, err := u.Recv(); !errors.Is(err, io.EOF) {
		u.t.Fatalf("after the last answer: %v", err)
	}
	return last
}

// failure receives until the stream ends with an error, and returns that.
func (u *upload) failure() error {
	u.t.Helper()
	for {
		if _, err := u.Recv(); err != nil {
			return err
		}
	}
}

// submit uploads a whole file and returns the last answer.
func (c *coordinator) submit(h *pb.UploadHeader, data []byte) *pb.SubmitUploadResponse {
	c.t.Helper()
	u := c.open(c.ctx, h)
	u.chunk(data)
	return u.end()
}

// register starts a session that serves the tests' kind.
func (c *coordinator) register(worker string) int64 {
	c.t.Helper()
	r, err := c.workers.RegisterWorker(c.ctx, &pb.RegisterWorkerRequest{WorkerId: worker, Kinds: []string{"probe"}, Slots: 8})
	c.must(err)
	return r.GetSessionId()
}

// claim takes at most most batches.
func (c *coordinator) claim(session int64, request string, most int32) []*pb.Grant {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 45*time.Second)
	defer cancel()
	r, err := c.workers.ClaimBatches(ctx, &pb.ClaimBatchesRequest{SessionId: session, RequestId: request, MaxBatches: most})
	c.must(err)
	return r.GetGrants()
}

// claimOne takes one batch, failing the test when there is none.
func (c *coordinator) claimOne(session int64, request string) *pb.Grant {
	c.t.Helper()
	grants := c.claim(session, request, 1)
	if len(grants) != 1 {
		c.t.Fatalf("claim %q got %d batches, want 1", request, len(grants))
	}
	return grants[0]
}

// settle ends one attempt.
func (c *coordinator) settle(session int64, s *pb.Settlement) *pb.SettleAnswer {
	c.t.Helper()
	r, err := c.workers.SettleBatches(c.ctx, &pb.SettleBatchesRequest{SessionId: session, Settlements: []*pb.Settlement{s}})
	c.must(err)
	return r.GetAnswers()[0]
}

// completed settles a grant with every item stored.
func completed(g *pb.Grant) *pb.Settlement {
	return &pb.Settlement{
		BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_COMPLETED, FromItem: g.GetDoneItems(),
		Outcomes: []*pb.OutcomeRun{{Count: g.GetItemCount() - g.GetDoneItems(), Outcome: pb.Outcome_OUTCOME_STORED}},
	}
}

// ended watches a job to its end and returns the last snapshot.
func (c *coordinator) ended(jobID int64) *pb.Job {
	c.t.Helper()
	stream, err := c.jobs.WatchJob(c.ctx, &pb.WatchJobRequest{JobId: jobID})
	c.must(err)
	var last *pb.Job
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last
		}
		c.must(err)
		if m.GetJob() != nil {
			last = m.GetJob()
		}
	}
}

func (c *coordinator) batch(id int64) *pb.GetBatchResponse {
	c.t.Helper()
	r, err := c.jobs.GetBatch(c.ctx, &pb.GetBatchRequest{BatchId: id})
	c.must(err)
	return r
}

// outcomes returns the items of a job by outcome.
func outcomes(j *pb.Job) map[pb.Outcome]int64 {
	m := map[pb.Outcome]int64{}
	for _, o := range j.GetProgress().GetItemsByOutcome() {
		m[o.GetOutcome()] = o.GetItems()
	}
	return m
}

// text returns all that was logged.
func (l *log) text() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.data)
}
