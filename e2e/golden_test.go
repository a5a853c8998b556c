//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// The collection BC5CDR in numbers.
const (
	goldenProject     = "bc5cdr"
	goldenItems       = 600
	goldenAnnotations = 11789
)

// cut is where a batch begins and ends.
type cut struct {
	FirstItem int64 `json:"first_item"`
	LastItem  int64 `json:"last_item"`
	Items     int32 `json:"items"`
	Weight    int32 `json:"weight"`
}

func goldenCuts(t testing.TB) []cut {
	t.Helper()
	text, err := os.ReadFile(shared(t, "annotations/batch_golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var files map[string]json.RawMessage
	if err := json.Unmarshal(text, &files); err != nil {
		t.Fatal(err)
	}
	var cuts []cut
	if err := json.Unmarshal(files[goldenProject], &cuts); err != nil {
		t.Fatal(err)
	}
	return cuts
}

func cuts(batches []*tallymanv1.Batch) []cut {
	var all []cut
	for _, b := range batches {
		all = append(all, cut{
			FirstItem: b.GetFirstItem(),
			LastItem:  b.GetFirstItem() + int64(b.GetItemCount()) - 1,
			Items:     b.GetItemCount(),
			Weight:    b.GetWeight(),
		})
	}
	return all
}

// parse reads what a verb lists with -o json.
func parse[T any, M interface {
	*T
	proto.Message
}](t testing.TB, lines string) []M {
	t.Helper()
	var all []M
	for line := range strings.Lines(lines) {
		m := M(new(T))
		if err := protojson.Unmarshal([]byte(line), m); err != nil {
			t.Fatalf("read %q: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

// checkGolden fails the test unless a job on BC5CDR ended as it must, and the export is the file's.
func checkGolden(t testing.TB, job *tallymanv1.Job, batches []*tallymanv1.Batch, exported string) {
	t.Helper()
	if got, want := job.GetState(), tallymanv1.JobState_JOB_STATE_SUCCEEDED; got != want {
		t.Errorf("the job is %v, want %v", got, want)
	}
	checkSums(t, job, goldenItems)
	if diff := cmp.Diff(map[tallymanv1.Outcome]int64{tallymanv1.Outcome_OUTCOME_STORED: goldenItems}, stored(job)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if got := job.GetProgress().GetAnnotations(); got != goldenAnnotations {
		t.Errorf("%d annotations, want %d", got, goldenAnnotations)
	}
	if diff := cmp.Diff(goldenCuts(t), cuts(batches)); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
	input, err := os.ReadFile(shared(t, "annotations/bc5cdr.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	got := documents(t, exported)
	checkDocuments(t, documents(t, string(input)), got)
	annotations := 0
	for _, d := range got {
		annotations += len(d.Denotations) + len(d.Blocks) + len(d.Relations) + len(d.Attributes)
	}
	if annotations != goldenAnnotations {
		t.Errorf("%d annotations are exported, want %d", annotations, goldenAnnotations)
	}
}

// stored are the outcomes of a job, those stored with and without warnings together.
func stored(job *tallymanv1.Job) map[tallymanv1.Outcome]int64 {
	by := outcomes(job)
	if n := by[tallymanv1.Outcome_OUTCOME_STORED_WITH_WARNINGS]; n > 0 {
		by[tallymanv1.Outcome_OUTCOME_STORED] += n
		delete(by, tallymanv1.Outcome_OUTCOME_STORED_WITH_WARNINGS)
	}
	return by
}

func TestGoldenRun(t *testing.T) {
	t.Parallel()
	file, data := shared(t, "annotations/bc5cdr.jsonl"), t.TempDir()
	var exported string
	for i := range 2 {
		succeed(t, "run", file, "--project", goldenProject, "--data", data)
		jobs := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--data", data))
		if len(jobs) != i+1 {
			t.Fatalf("there are %d jobs, want %d", len(jobs), i+1)
		}
		id := strconv.FormatInt(jobs[0].GetJobId(), 10)
		batches := parse[tallymanv1.Batch](t, succeed(t, "batches", "--job", id, "-o", "json", "--data", data))
		again := succeed(t, "export", "--project", goldenProject, "--data", data)
		checkGolden(t, jobs[0], batches, again)
		if i > 0 {
			checkExport(t, exported, again)
		}
		exported = again
	}
}

func TestGoldenPostgres(t *testing.T) {
	t.Parallel()
	file := shared(t, "annotations/bc5cdr.jsonl")
	s := postgresSite(t)
	s.serve()
	workers := []*process{s.work("golden-1"), s.work("golden-2")}
	var exported string
	for i := range 2 {
		out := succeed(t, "submit", file, "--watch", "--project", goldenProject, "--server", s.address)
		if !regexp.MustCompile(`\b600\b`).MatchString(out) {
			t.Errorf("submit --watch does not say that there were 600 items:\n%s", out)
		}
		jobs := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--server", s.address))
		if len(jobs) != i+1 {
			t.Fatalf("there are %d jobs, want %d", len(jobs), i+1)
		}
		again := s.export(goldenProject)
		checkGolden(t, jobs[0], s.batches(jobs[0].GetJobId()), again)
		if i > 0 {
			checkExport(t, exported, again)
		}
		exported = again
	}
	for _, w := range workers {
		w.terminate()
	}
	s.server.terminate()
}
