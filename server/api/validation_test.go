package api

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

type validated interface{ Validate() error }

func TestEveryRequestIsValidated(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_tallyman_v1_job_service_proto, pb.File_tallyman_v1_worker_service_proto, pb.File_tallyman_v1_admin_service_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for k := range methods.Len() {
				input := methods.Get(k).Input()
				message, err := protoregistry.GlobalTypes.FindMessageByName(input.FullName())
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := message.New().Interface().(validated); !ok {
					t.Errorf("%s has no Validate", input.FullName())
				}
			}
		}
	}
}

func upload(change func(*pb.UploadHeader)) *pb.SubmitUploadRequest {
	h := &pb.UploadHeader{UploadId: "id", Project: "project"}
	change(h)
	return &pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Header{Header: h}}
}

func settlement(change func(*pb.Settlement)) *pb.SettleBatchesRequest {
	s := &pb.Settlement{BatchId: 1, Attempt: 1, End: pb.AttemptEnd_ATTEMPT_END_COMPLETED}
	change(s)
	return &pb.SettleBatchesRequest{SessionId: 1, Settlements: []*pb.Settlement{s}}
}

func results(position, items int32, value string) []*pb.ItemResult {
	return []*pb.ItemResult{{Position: position, Items: items, Value: []byte(value)}}
}

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[strconv.Itoa(i)] = ""
	}
	return m
}

func TestRequestsAreValidated(t *testing.T) {
	long := strings.Repeat("x", 2000)
	warning := &pb.Finding{Severity: pb.Severity_SEVERITY_WARNING}
	stored := []*pb.OutcomeRun{{Count: 2, Outcome: pb.Outcome_OUTCOME_STORED}}
	tests := []struct {
		request validated
		fields  []string // that are wrong; none when all is well
	}{
		{upload(func(*pb.UploadHeader) {}), nil},
		{upload(func(h *pb.UploadHeader) { h.UploadId = "" }), []string{"header.upload_id"}},
		{upload(func(h *pb.UploadHeader) { h.UploadId = "a b" }), []string{"header.upload_id"}},
		{upload(func(h *pb.UploadHeader) { h.UploadId = long }), []string{"header.upload_id"}},
		{upload(func(h *pb.UploadHeader) { h.Project = "four" }), []string{"header.project"}},
		{upload(func(h *pb.UploadHeader) { h.Project = "UPPER-is_folded" }), nil},
		{upload(func(h *pb.UploadHeader) { h.Project = "with space" }), []string{"header.project"}},
		{upload(func(h *pb.UploadHeader) { h.Project = "" }), []string{"header.project"}},
		{upload(func(h *pb.UploadHeader) { h.Project, h.Kind = "", "ner" }), nil},
		{upload(func(h *pb.UploadHeader) { h.Kind = "NER" }), []string{"header.kind"}},
		{upload(func(h *pb.UploadHeader) { h.Mode = "replace" }), nil},
		{upload(func(h *pb.UploadHeader) { h.Mode = "add" }), nil},
		{upload(func(h *pb.UploadHeader) { h.Mode = "merge" }), nil},
		{upload(func(h *pb.UploadHeader) { h.Mode = "skip" }), nil},
		{upload(func(h *pb.UploadHeader) { h.Mode = "append" }), []string{"header.mode"}},
		{upload(func(h *pb.UploadHeader) { h.Parameters = many(65) }), []string{"header.parameters"}},
		{upload(func(h *pb.UploadHeader) { h.Labels = map[string]string{"": "x"} }), []string{"header.labels"}},
		{upload(func(h *pb.UploadHeader) { h.Labels = map[string]string{"x": "\x00"} }), []string{"header.labels"}},
		{upload(func(h *pb.UploadHeader) { h.Labels = map[string]string{"x": strings.Repeat(long, 9)} }), []string{"header.labels"}},
		{upload(func(h *pb.UploadHeader) { h.Priority = 101 }), []string{"header.priority"}},
		{upload(func(h *pb.UploadHeader) { h.FileName = "a\x00b" }), []string{"header.file_name"}},
		{upload(func(h *pb.UploadHeader) { h.Size = -1 }), []string{"header.size"}},
		{upload(func(h *pb.UploadHeader) { h.Policy = &pb.Policy{MaxAttempts: 101, BatchBytes: 1 << 40} }),
			[]string{"header.policy.max_attempts", "header.policy.batch_bytes"}},
		{upload(func(h *pb.UploadHeader) {
			h.Policy = &pb.Policy{BatchItems: -1, BatchWeight: -1, DefaultSourcedb: long}
		}),
			[]string{"header.policy.batch_weight", "header.policy.batch_items", "header.policy.default_sourcedb"}},
		{&pb.SubmitUploadRequest{}, []string{"message"}},
		{chunked(-1, nil), []string{"chunk.offset"}},
		{chunked(0, make([]byte, pb.MaxChunk)), nil},
		{chunked(0, make([]byte, pb.MaxChunk+1)), []string{"chunk.data"}},
		{&pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Finish{Finish: &pb.UploadFinish{Size: -1}}}, []string{"finish.size"}},
		{&pb.GetUploadRequest{}, []string{"upload_id"}},
		{&pb.GetJobRequest{}, []string{"job_id"}},
		{&pb.GetJobRequest{JobId: 1}, nil},
		{&pb.DeleteJobRequest{JobId: -1}, []string{"job_id"}},
		{&pb.WatchJobRequest{AfterRevision: -1}, []string{"job_id", "after_revision"}},
		{&pb.CancelJobRequest{Reason: long}, []string{"job_id", "reason"}},
		{&pb.ListJobsRequest{}, nil},
		{&pb.ListJobsRequest{PageSize: 1001, States: []pb.JobState{1, 99}}, []string{"page_size", "states[1]"}},
		{&pb.GetBatchRequest{}, []string{"batch_id"}},
		{&pb.ListBatchesRequest{}, []string{"job_id"}},
		{&pb.ListBatchesRequest{Document: "PMC:1"}, nil},
		{&pb.ListBatchesRequest{Document: "PMC:1", Slowest: true}, []string{"slowest"}},
		{&pb.ListBatchesRequest{JobId: 1, Document: long, States: []pb.BatchState{77}, PageSize: -1},
			[]string{"page_size", "document", "states[0]"}},
		{&pb.ListFindingsRequest{BatchId: -1, Item: -1, Code: long, Severity: 9},
			[]string{"job_id", "batch_id", "item", "code", "severity"}},
		{&pb.RegisterWorkerRequest{Kinds: []string{"probe"}, Slots: 1}, nil},
		{&pb.RegisterWorkerRequest{WorkerId: "a b", Host: long, Version: long}, []string{"worker_id", "kinds", "slots", "host", "version"}},
		{&pb.RegisterWorkerRequest{Kinds: []string{""}, Slots: pb.MaxSlots + 1}, []string{"kinds[0]", "slots"}},
		{&pb.ClaimBatchesRequest{}, []string{"session_id", "request_id", "max_batches"}},
		{&pb.ClaimBatchesRequest{SessionId: 1, RequestId: "r", MaxBatches: pb.MaxClaim + 1}, []string{"max_batches"}},
		{&pb.ReadBatchRequest{}, []string{"session_id", "batch_id", "attempt"}},
		{&pb.HeartbeatRequest{SessionId: 1}, nil},
		{&pb.HeartbeatRequest{Leases: make([]*pb.LeaseBeat, pb.MaxLeases+1)}, nil}, // compared by its first two
		{&pb.HeartbeatRequest{SessionId: 1, Leases: []*pb.LeaseBeat{{BatchId: 1, Attempt: 1,
			Findings: []*pb.ItemFinding{{Finding: warning}}}}}, []string{"leases[0].findings[0]"}},
		{&pb.HeartbeatRequest{SessionId: 1, Leases: []*pb.LeaseBeat{{BatchId: 1, Attempt: 1, Outcomes: stored,
			Findings: []*pb.ItemFinding{{Position: 1, Finding: warning}}}}}, nil},
		{&pb.SettleBatchesRequest{SessionId: 1}, nil},
		{settlement(func(*pb.Settlement) {}), nil},
		{settlement(func(s *pb.Settlement) { s.End, s.Crash = pb.AttemptEnd_ATTEMPT_END_DIED, &pb.Crash{} }), nil},
		{settlement(func(s *pb.Settlement) { s.End = pb.AttemptEnd_ATTEMPT_END_LOST }), []string{"settlements[0].end"}},
		{settlement(func(s *pb.Settlement) { s.Crash = &pb.Crash{Suspect: -1} }),
			[]string{"settlements[0].crash", "settlements[0].crash.suspect"}},
		{settlement(func(s *pb.Settlement) { s.End = 0 }), []string{"settlements[0].end"}},
		{settlement(func(s *pb.Settlement) { s.FromItem = -1 }), []string{"settlements[0].from_item"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes = []*pb.OutcomeRun{{Outcome: pb.Outcome_OUTCOME_CRASHED}} }),
			[]string{"settlements[0].outcomes[0].count", "settlements[0].outcomes[0].outcome"}},
		{settlement(func(s *pb.Settlement) {
			s.Outcomes = []*pb.OutcomeRun{{Count: 1<<31 - 1, Outcome: 1}, {Count: 1<<31 - 1, Outcome: 1}}
		}), []string{"settlements[0].outcomes"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Findings = stored, []*pb.ItemFinding{{Position: 2}} }),
			[]string{"settlements[0].findings[0]", "settlements[0].findings[0].finding.severity"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(0, 0, `{}`) }), nil},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(0, 2, ` "日本" `) }), nil},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(2, 0, `{}`) }), []string{"settlements[0].results[0]"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(-1, 0, `{}`) }), []string{"settlements[0].results[0]"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(1, 2, `{}`) }), []string{"settlements[0].results[0]"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(0, -1, `{}`) }), []string{"settlements[0].results[0]"}},
		{settlement(func(s *pb.Settlement) {
			s.Outcomes, s.Results = stored, append(results(0, 2, `{}`), results(1, 0, `{}`)...)
		}), []string{"settlements[0].results[1]"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(0, 0, `{"a":}`) }),
			[]string{"settlements[0].results[0].value"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(0, 0, "{\n}") }),
			[]string{"settlements[0].results[0].value"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(0, 0, "\"\xff\"") }),
			[]string{"settlements[0].results[0].value"}},
		{settlement(func(s *pb.Settlement) { s.Outcomes, s.Results = stored, results(0, 0, "") }),
			[]string{"settlements[0].results[0].value"}},
		{settlement(func(s *pb.Settlement) {
			s.Outcomes, s.Results = stored, results(0, 0, `"`+strings.Repeat("x", pb.MaxResult-1)+`"`)
		}), []string{"settlements[0].results[0].value"}},
		{&pb.HeartbeatRequest{SessionId: 1, Leases: []*pb.LeaseBeat{{BatchId: 1, Attempt: 1, Results: results(0, 0, `{}`)}}},
			[]string{"leases[0].results[0]"}},
		{&pb.ExportResultsRequest{AfterItem: -1}, []string{"job_id", "after_item"}},
		{&pb.DeregisterWorkerRequest{Reason: long}, []string{"session_id", "reason"}},
		{&pb.GetStatisticsRequest{}, nil},
		{&pb.GetStatisticsRequest{Window: durationpb.New(-time.Second), JobId: -1}, []string{"window", "job_id"}},
		{&pb.GetStatisticsRequest{Window: durationpb.New(367 * 24 * time.Hour)}, []string{"window"}},
		{&pb.ListWorkersRequest{PageSize: -1}, []string{"page_size"}},
	}
	for i, test := range tests {
		var got []string
		err := test.request.Validate()
		var bad *pb.ValidationError
		if errors.As(err, &bad) {
			for _, v := range bad.Violations {
				got = append(got, v.GetField())
				if v.GetDescription() == "" {
					t.Errorf("%d: %T: no description of %s", i, test.request, v.GetField())
				}
			}
		} else if err != nil {
			t.Errorf("%d: %T: %v", i, test.request, err)
		}
		if beat, ok := test.request.(*pb.HeartbeatRequest); ok && len(beat.GetLeases()) > pb.MaxLeases {
			if diff := cmp.Diff([]string{"session_id", "leases"}, got[:2]); diff != "" {
				t.Errorf("%d: too many leases (-want +got):\n%s", i, diff)
			}
			continue
		}
		if diff := cmp.Diff(test.fields, got); diff != "" {
			t.Errorf("%d: %T (-want +got):\n%s", i, test.request, diff)
		}
	}
}

func chunked(at int64, data []byte) *pb.SubmitUploadRequest {
	return &pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Chunk{Chunk: &pb.UploadChunk{Offset: at, Data: data}}}
}

func TestPageTokens(t *testing.T) {
	first, err := page("jobs", 0, 50, "")
	if err != nil || first != (store.Page{Size: 50}) {
		t.Errorf("the first page is %+v, %v", first, err)
	}
	if token := nextPage("jobs", first, 49, 7, 0); token != "" {
		t.Errorf("a page that is not full is followed by %q", token)
	}
	token := nextPage("jobs", first, 50, 7, 0)
	second, err := page("jobs", 10, 50, token)
	if err != nil || second != (store.Page{Size: 10, After: 7}) {
		t.Errorf("the second page is %+v, %v", second, err)
	}
	seal := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, bad := range map[string]string{
		"another list's": sealToken("batches", "7"), "no token": "!", "no key": seal("jobs:"), "no number": seal("jobs:x"),
		"no colon": seal("jobs"), "too large": seal("jobs:9223372036854775808"), "negative": seal("jobs:-1"),
	} {
		_, err := page("jobs", 10, 50, bad)
		var v *pb.ValidationError
		if !errors.As(err, &v) || len(v.Violations) != 1 || v.Violations[0].GetField() != "page_token" {
			t.Errorf("%s: %v", name, err)
		}
	}
	key, err := openToken("findings", sealToken("findings", "any:text"))
	if err != nil || key != "any:text" || sealToken("findings", "") != "" {
		t.Errorf("key %q, %v", key, err)
	}
}
