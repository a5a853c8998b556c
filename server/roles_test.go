package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
)

// who may make each call: v, s, w, a for the roles, V and S for those confined to a project, - for somebody without a token.
// It is written down twice on purpose, here and in package access.
var mayCall = map[string]string{
	"JobService/SubmitUpload": "sSa", "JobService/GetUpload": "vVsSa", "JobService/GetJob": "vVsSwa", "JobService/ListJobs": "vVsSa",
	"JobService/WatchJob": "vVsSa", "JobService/WatchJobs": "vVsSa", "JobService/WatchBatches": "vVsSa", "JobService/CancelJob": "sSa", "JobService/PauseJob": "sSa",
	"JobService/ResumeJob": "sSa", "JobService/RetryJob": "sSa", "JobService/DeleteJob": "sSa", "JobService/GetBatch": "vVsSa",
	"JobService/ListBatches": "vVsSa", "JobService/ListFindings": "vVsSa", "JobService/ExportItems": "vVsSa",
	"JobService/ExportResults": "vVsSa",

	"WorkerService/RegisterWorker": "wa", "WorkerService/ClaimBatches": "wa", "WorkerService/ReadBatch": "wa",
	"WorkerService/Heartbeat": "wa", "WorkerService/SettleBatches": "wa", "WorkerService/DeregisterWorker": "wa",

	"AdminService/GetStatistics": "vVsSa", "AdminService/ListWorkers": "vVsSa", "AdminService/GetWorker": "vVsSa",
	"AdminService/DrainWorker": "a", "AdminService/CleanupJobs": "a",

	"Health/Check": "vVsSwa-", "Health/List": "vVsSwa-", "Health/Watch": "vVsSwa-", "ServerReflection/ServerReflectionInfo": "vVsSwa",
}

// mayAsk is the same for what is served by HTTP and is no RPC.
var mayAsk = map[string]string{
	"GET /v1/whoami": "vVsSwa", "GET /healthz": "vVsSwa-", "GET /readyz": "vVsSwa-", "GET /openapi.json": "vVsSwa-", "GET /api": "vVsSwa-",
	"GET /api.css": "vVsSwa-", "GET /login": "vVsSwa-", "POST /login": "vVsSwa-", "POST /logout": "vVsSwa-", "/v1/": "vVsSwa",
	"GET /{$}": "vVsSwa", "GET /jobs/{job_id}": "vVsSwa", "GET /upload": "vVsSwa", "GET /metrics": "vsa", "GET /workers": "vVsSwa", "GET /statistics": "vVsSwa",
	"GET /assets/{version}/{name...}": "vVsSwa-",
}

// castle is a coordinator that asks everybody who he is, with a token of each kind.
type castle struct {
	*testing.T
	server *Server
	conn   *grpc.ClientConn
	base   string
	tokens map[string]string // by the letters of mayCall
	log    *log
}

func openCastle(t *testing.T) *castle {
	t.Helper()
	c := &castle{T: t, tokens: map[string]string{"-": ""}, log: &log{}}
	s, err := Open(t.Context(), Config{
		Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db"), Migrate: true, Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0",
		Auth: AuthTokens, Logger: slog.New(slog.NewJSONHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.server, c.base = s, "http://"+s.HTTPAddr()
	for letter, n := range map[string]NewToken{
		"v": {Role: access.Viewer}, "V": {Role: access.Viewer, Projects: []string{"project-a"}},
		"s": {Role: access.Submitter}, "S": {Role: access.Submitter, Projects: []string{"project-a"}},
		"w": {Role: access.Worker}, "x": {Role: access.Worker}, "a": {Role: access.Admin},
	} {
		n.Name = "holder-" + letter
		if c.tokens[letter], _, err = (&Tokens{s.store}).Create(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if c.conn, err = grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	running, halt := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(running) }()
	t.Cleanup(func() {
		_ = c.conn.Close() // it can only have been closed
		http.DefaultClient.CloseIdleConnections()
		halt()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// as returns a context of calls that show a token.
func (c *castle) as(letter string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	if token := c.tokens[letter]; token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return ctx, cancel
}

// call makes a call with an empty request, and returns what it was answered with first.
func (c *castle) call(method, letter string) error {
	c.Helper()
	service, name, _ := strings.Cut(method[1:], "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		c.Fatal(err)
	}
	d := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	ctx, cancel := c.as(letter)
	defer cancel()
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(dynamicpb.NewMessage(d.Input())); err != nil && err != io.EOF { //nolint:errorlint // as gRPC documents it
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(dynamicpb.NewMessage(d.Output())); err != io.EOF { //nolint:errorlint // as gRPC documents it
		return err
	}
	return nil
}

const letters = "vVsSwa-"

func TestRolesOfEveryCall(t *testing.T) {
	t.Parallel()
	c := openCastle(t)
	for _, method := range served(c.server) {
		may, ok := mayCall[method[strings.LastIndexByte(method, '.')+1:]]
		if !ok {
			t.Errorf("who may call %s is not written down here", method)
			continue
		}
		for _, letter := range strings.Split(letters, "") {
			code := status.Code(c.call(method, letter))
			refused := code == codes.PermissionDenied || code == codes.Unauthenticated
			if strings.Contains(may, letter) == refused || (letter == "-") != (code == codes.Unauthenticated) && refused {
				t.Errorf("%s by %s: %v", method, letter, code)
			}
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer tallyman_nobody", callerKey, `{"Key":"coordinator","Role":"admin"}`)
	if _, err := pb.NewJobServiceClient(c.conn).ListJobs(ctx, &pb.ListJobsRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("an unknown token that says it is the coordinator: %v", err)
	}
}

// request makes a request and returns the status.
func (c *castle) request(method, path, letter string, header ...string) (int, string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(""))
	if err != nil {
		c.Fatal(err)
	}
	if token := c.tokens[letter]; token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		c.Fatalf("%s %s by %s: %v", method, path, letter, err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp.StatusCode, "" // which does not end
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

var placeholders = strings.NewReplacer("{job_id}", "77", "{batch_id}", "77", "{worker_id}", "nobody", "{upload_id}", "none", "{$}", "",
	"{version}", "1", "{name...}", "x")

func TestRolesOfEveryRoute(t *testing.T) {
	t.Parallel()
	c := openCastle(t)
	check := func(method, path, may string) {
		t.Helper()
		for _, letter := range strings.Split(letters, "") {
			code, text := c.request(method, placeholders.Replace(path), letter)
			refused := code == http.StatusForbidden || code == http.StatusUnauthorized
			login := method+" "+path == "POST /login" && code == http.StatusUnauthorized // it lacks a token in its form
			if !login && (strings.Contains(may, letter) == refused || (letter == "-") != (code == http.StatusUnauthorized) && refused) {
				t.Errorf("%s %s by %s: %d %s", method, path, letter, code, text)
			}
		}
	}
	var described struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	_, text := c.request("GET", "/openapi.json", "-")
	if err := json.Unmarshal([]byte(text), &described); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for path, operations := range described.Paths {
		for method, o := range operations {
			method = strings.ToUpper(method)
			may, ok := mayCall[strings.TrimRight(strings.Replace(o.OperationID, "_", "/", 1), "0123456789")]
			if !ok {
				may, ok = mayAsk[method+" "+path]
			}
			if !ok {
				t.Errorf("who may ask for %s %s is not written down here", method, path)
				continue
			}
			known[method+" "+path] = true
			check(method, path, may)
		}
	}
	for _, r := range c.server.web.routes {
		if known[r.Pattern] {
			continue
		}
		may, ok := mayAsk[r.Pattern]
		if !ok {
			t.Errorf("who may ask for %s is not written down here", r.Pattern)
			continue
		}
		method, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			method, path = "GET", r.Pattern
		}
		check(method, path, may)
	}
}

func TestAnotherProjectsJobDoesNotExist(t *testing.T) {
	t.Parallel()
	c := openCastle(t)
	jobs, admin := pb.NewJobServiceClient(c.conn), pb.NewAdminServiceClient(c.conn)
	for _, project := range []string{"project-a", "project-b"} {
		ctx, cancel := c.as("s")
		defer cancel()
		stream, err := jobs.SubmitUpload(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data := []byte("{\"secret\":\"sesame\"}\n")
		for _, m := range []*pb.SubmitUploadRequest{
			{Message: &pb.SubmitUploadRequest_Header{Header: &pb.UploadHeader{UploadId: "of-" + project, Project: project, Kind: "probe"}}},
			{Message: &pb.SubmitUploadRequest_Chunk{Chunk: &pb.UploadChunk{Data: data}}},
			{Message: &pb.SubmitUploadRequest_Finish{Finish: &pb.UploadFinish{Size: int64(len(data))}}},
		} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		for {
			if _, err := stream.Recv(); err == io.EOF { //nolint:errorlint // as gRPC documents it
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := c.as("S")
	defer cancel()
	first := func(_ any, err error) error { return err }
	watch := func(id int64) error {
		stream, err := jobs.WatchJob(ctx, &pb.WatchJobRequest{JobId: id})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	items := func(id int64) error {
		stream, err := jobs.ExportItems(ctx, &pb.ExportItemsRequest{JobId: id})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	results := func(id int64) error {
		stream, err := jobs.ExportResults(ctx, &pb.ExportResultsRequest{JobId: id})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	request := "00000000-0000-4000-8000-000000000001"
	for name, call := range map[string]func(id int64) error{
		"GetJob":    func(id int64) error { return first(jobs.GetJob(ctx, &pb.GetJobRequest{JobId: id})) },
		"CancelJob": func(id int64) error { return first(jobs.CancelJob(ctx, &pb.CancelJobRequest{JobId: id})) },
		"PauseJob":  func(id int64) error { return first(jobs.PauseJob(ctx, &pb.PauseJobRequest{JobId: id})) },
		"ResumeJob": func(id int64) error { return first(jobs.ResumeJob(ctx, &pb.ResumeJobRequest{JobId: id})) },
		"RetryJob": func(id int64) error {
			return first(jobs.RetryJob(ctx, &pb.RetryJobRequest{JobId: id, RequestId: request}))
		},
		"DeleteJob":     func(id int64) error { return first(jobs.DeleteJob(ctx, &pb.DeleteJobRequest{JobId: id})) },
		"ListFindings":  func(id int64) error { return first(jobs.ListFindings(ctx, &pb.ListFindingsRequest{JobId: id})) },
		"ListBatches":   func(id int64) error { return first(jobs.ListBatches(ctx, &pb.ListBatchesRequest{JobId: id})) },
		"GetStatistics": func(id int64) error { return first(admin.GetStatistics(ctx, &pb.GetStatisticsRequest{JobId: id})) },
		"GetBatch":      func(id int64) error { return first(jobs.GetBatch(ctx, &pb.GetBatchRequest{BatchId: id})) },
		"WatchJob":      watch, "ExportItems": items, "ExportResults": results,
	} {
		theirs, none := status.Convert(call(2)), status.Convert(call(7777))
		if want := strings.ReplaceAll(none.Message(), "7777", "2"); theirs.Code() != codes.NotFound || theirs.Message() != want ||
			theirs.Code() != none.Code() || len(theirs.Details()) != len(none.Details()) {
			t.Errorf("%s: of another project's %v, of none %v", name, theirs, none)
		}
	}
	if err := first(jobs.GetUpload(ctx, &pb.GetUploadRequest{UploadId: "of-project-b"})); status.Code(err) != codes.NotFound {
		t.Errorf("another project's upload: %v", err)
	}
	list, err := jobs.ListJobs(ctx, &pb.ListJobsRequest{})
	if err != nil || len(list.GetJobs()) != 1 || list.GetJobs()[0].GetProject() != "project-a" {
		t.Errorf("jobs: %v, %v", list, err)
	}
	if list, err = jobs.ListJobs(ctx, &pb.ListJobsRequest{Project: "project-b"}); err != nil || len(list.GetJobs()) != 0 {
		t.Errorf("jobs of another project: %v, %v", list, err)
	}
	if own, err := jobs.GetJob(ctx, &pb.GetJobRequest{JobId: 1}); err != nil || own.GetJob().GetJobId() != 1 {
		t.Errorf("own job: %v, %v", own, err)
	}
	watched, err := jobs.WatchJobs(ctx, &pb.WatchJobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := watched.Recv(); err != nil || len(m.GetJobs()) != 1 || m.GetJobs()[0].GetJobId() != 1 {
		t.Errorf("watched: %v, %v", m, err)
	}

	// Neither texts nor tokens are in the log, whatever it says of calls.
	if logged := c.log.text(); !bytes.Contains(logged, []byte("holder")) && len(logged) == 0 || bytes.Contains(logged, []byte("sesame")) {
		t.Errorf("the log has %d bytes, and text of the upload: %v", len(logged), bytes.Contains(logged, []byte("sesame")))
	} else {
		for letter, token := range c.tokens {
			if token != "" && bytes.Contains(logged, []byte(token[len("tallyman_"):])) {
				t.Errorf("the token of %s is in the log", letter)
			}
		}
	}
}

func TestAnothersSessionIsOfNoUse(t *testing.T) {
	t.Parallel()
	c := openCastle(t)
	workers := pb.NewWorkerServiceClient(c.conn)
	owner, cancel := c.as("w")
	defer cancel()
	thief, cancel := c.as("x")
	defer cancel()
	mine, err := workers.RegisterWorker(owner, &pb.RegisterWorkerRequest{WorkerId: "w", Kinds: []string{"probe"}, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	id, request := mine.GetSessionId(), "00000000-0000-4000-8000-000000000001"
	beat := func(ctx context.Context) error {
		stream, err := workers.Heartbeat(ctx)
		if err == nil {
			err = stream.Send(&pb.HeartbeatRequest{SessionId: id, Sequence: 1})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	read := func(ctx context.Context) error {
		stream, err := workers.ReadBatch(ctx, &pb.ReadBatchRequest{SessionId: id, BatchId: 1, Attempt: 1})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for name, call := range map[string]func(ctx context.Context) error{
		"Heartbeat": beat, "ReadBatch": read,
		"ClaimBatches": func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := workers.ClaimBatches(short, &pb.ClaimBatchesRequest{SessionId: id, RequestId: request, MaxBatches: 1})
			return err
		},
		"SettleBatches": func(ctx context.Context) error {
			_, err := workers.SettleBatches(ctx, &pb.SettleBatchesRequest{SessionId: id})
			return err
		},
		"DeregisterWorker": func(ctx context.Context) error {
			_, err := workers.DeregisterWorker(ctx, &pb.DeregisterWorkerRequest{SessionId: id})
			return err
		},
	} {
		if got := sayings(call(thief)); got != (said{codes.FailedPrecondition, "SESSION_ENDED"}) {
			t.Errorf("%s with another's session: %v", name, got)
		}
	}
	_, err = workers.RegisterWorker(thief, &pb.RegisterWorkerRequest{WorkerId: "w", Kinds: []string{"probe"}, Slots: 1})
	if got := sayings(err); got != (said{codes.PermissionDenied, "WORKER_ID_TAKEN"}) {
		t.Errorf("register another's worker id: %v", got)
	}
	if err := beat(owner); err != nil {
		t.Errorf("the owner's beat: %v", err)
	}
}

func TestLoginIsACookieAndItsTokenCanBeRevoked(t *testing.T) {
	t.Parallel()
	c := openCastle(t)
	if code, _ := c.request("GET", "/jobs/1?x=1", "-", "Accept", "text/html"); code != http.StatusSeeOther {
		t.Errorf("a browser that is not logged in: %d", code)
	}
	if code, _ := c.request("POST", "/v1/jobs/1:cancel", "-", "Cookie", "tallyman="+c.tokens["a"], "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden {
		t.Errorf("a write that another site makes: %d", code)
	}
	for cookie, want := range map[string]int{c.tokens["v"]: http.StatusForbidden, c.tokens["a"]: http.StatusNotFound, "x": http.StatusUnauthorized} {
		if code, text := c.request("POST", "/v1/jobs/1:cancel", "-", "Cookie", "tallyman="+cookie, "Sec-Fetch-Site", "same-origin"); code != want {
			t.Errorf("a write by cookie: %d %s, want %d", code, text, want)
		}
	}
	// A stream that is open ends when its token is revoked, and calls are refused.
	ctx, cancel := c.as("v")
	defer cancel()
	stream, err := pb.NewJobServiceClient(c.conn).WatchJobs(ctx, &pb.WatchJobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	list, err := (&Tokens{c.server.store}).List(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range list {
		if token.Name == "holder-v" {
			if _, err := (&Tokens{c.server.store}).Revoke(t.Context(), token.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("the stream of a revoked token ended with %v", err)
	}
	if code, _ := c.request("GET", "/v1/jobs", "v"); code != http.StatusUnauthorized {
		t.Errorf("a request with a revoked token: %d", code)
	}
}
