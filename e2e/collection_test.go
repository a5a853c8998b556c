//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
)

// project is the one that the collections of the tests go into.
const project = "e2e-project"

// collection is a generated file of items, and what an undisturbed run makes of it.
type collection struct {
	path     string
	summary  sample.Summary
	exported string // all documents of the project afterwards; only of undisturbed
}

// good returns the number of items that are stored.
func (c collection) good() int64 { return c.summary.Items - c.summary.Bad }

// source makes a collection when the first test asks for it.
type source struct {
	name   string
	config sample.Config

	mu   sync.Mutex
	made collection
}

var (
	// trial is large enough that a job on it can be caught in the middle.
	trial = &source{name: "trial.jsonl", config: sample.Config{Documents: trialDocuments(), Bad: 8, Seed: 7}}

	// small is for jobs that are held in the middle. It makes some ten batches.
	small = &source{name: "small.jsonl", config: sample.Config{Documents: 200, Bad: 4, Seed: 8}}
)

// trialDocuments is fewer where everything takes longer.
func trialDocuments() int {
	if raceEnabled {
		return 300
	}
	return 800
}

// collection returns the generated file.
func (s *source) collection(t testing.TB) collection {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.make(t)
}

// undisturbed returns the file with the export of a run that nothing disturbs, on an embedded database.
func (s *source) undisturbed(t testing.TB) collection {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.make(t)
	if c.exported != "" {
		return c
	}
	data := t.TempDir()
	if r := tallyman(t, "run", c.path, "--project", project, "--data", data); r.code != 2 {
		t.Fatalf("run: exit code %d, want 2", r.code)
	}
	c.exported = succeed(t, "export", "--project", project, "--data", data)
	if got, want := int64(strings.Count(c.exported, "\n")), c.summary.Documents; got != want {
		t.Fatalf("%d documents are exported, want %d", got, want)
	}
	s.made = c
	return c
}

func (s *source) make(t testing.TB) collection {
	t.Helper()
	if s.made.path != "" {
		return s.made
	}
	c := collection{path: filepath.Join(scratch(), s.name)}
	file, err := os.Create(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if c.summary, err = sample.Generate(file, s.config); err != nil {
		t.Fatal(err)
	}
	s.made = c
	return c
}

// uploadFile sends a file by the client library and returns its job.
func uploadFile(t testing.TB, c *client.Client, path string, u client.Upload) int64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if u.Project == "" {
		u.Project = project
	}
	if u.FileName == "" {
		u.FileName = filepath.Base(path)
	}
	got, err := c.Upload(t.Context(), file, u)
	if err != nil {
		t.Fatal(err)
	}
	return got.JobID
}

// outcomes are the items of a job by their outcome.
func outcomes(job *tallymanv1.Job) map[tallymanv1.Outcome]int64 {
	by := make(map[tallymanv1.Outcome]int64)
	for _, c := range job.GetProgress().GetItemsByOutcome() {
		by[c.GetOutcome()] += c.GetItems()
	}
	return by
}

// checkTrial fails the test unless the job on the trial collection ended as an undisturbed one, and left the same.
func (s *site) checkTrial(job *tallymanv1.Job, c collection) {
	s.t.Helper()
	s.checkOutcomes(job, c)
	checkExport(s.t, c.exported, s.export(project))
}

// checkOutcomes fails the test unless the job on a collection ended as an undisturbed one.
func (s *site) checkOutcomes(job *tallymanv1.Job, c collection) {
	s.t.Helper()
	if got, want := job.GetState(), tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS; got != want {
		s.t.Errorf("the job is %v, want %v: %s", got, want, job.GetReason())
	}
	checkSums(s.t, job, c.summary.Items)
	want := map[tallymanv1.Outcome]int64{
		tallymanv1.Outcome_OUTCOME_STORED:   c.good(),
		tallymanv1.Outcome_OUTCOME_REJECTED: c.summary.Bad,
	}
	if diff := cmp.Diff(want, outcomes(job)); diff != "" {
		s.t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// checkSums fails the test unless the numbers of a job that has ended add up.
func checkSums(t testing.TB, job *tallymanv1.Job, items int64) {
	t.Helper()
	p := job.GetProgress()
	var sum int64
	for _, n := range outcomes(job) {
		sum += n
	}
	type numbers struct{ Total, Ended, Open, InFlight, Sum int64 }
	got := numbers{p.GetItemsTotal(), p.GetItemsEnded(), p.GetItemsOpen(), p.GetItemsInFlight(), sum}
	if diff := cmp.Diff(numbers{Total: items, Ended: items, Sum: items}, got); diff != "" {
		t.Errorf("numbers of job %d (-want +got):\n%s", job.GetJobId(), diff)
	}
}

// checkExport fails the test unless two exports are equal, byte by byte; it shows the first line that differs.
func checkExport(t testing.TB, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Errorf("exports differ from line %d on (-want +got):\n%s", i+1, tail(cmp.Diff(w[i], g[i])))
			return
		}
	}
	t.Errorf("the export has %d lines, want %d", len(g), len(w))
}

// document is what an item says of its document, or an export of one.
type document struct {
	SourceDB    string `json:"sourcedb"`
	SourceID    any    `json:"sourceid"`
	Text        string `json:"text"`
	Denotations []span `json:"denotations"`
	Blocks      []span `json:"blocks"`
	Relations   []tie  `json:"relations"`
	Attributes  []tie  `json:"attributes"`
}

type span struct {
	ID   string `json:"id"`
	Span struct {
		Begin int `json:"begin"`
		End   int `json:"end"`
	} `json:"span"`
	Obj string `json:"obj"`
}

type tie struct {
	ID   string `json:"id"`
	Subj string `json:"subj"`
	Pred string `json:"pred"`
	Obj  any    `json:"obj"` // of an attribute with its type
}

// documents reads JSON Lines, by source and id.
func documents(t testing.TB, lines string) map[string]document {
	t.Helper()
	all := make(map[string]document)
	scanner := bufio.NewScanner(strings.NewReader(lines))
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		var d document
		if err := json.Unmarshal(scanner.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		id, ok := d.SourceID.(string)
		if !ok {
			t.Fatalf("the id %v is no string", d.SourceID)
		}
		key := d.SourceDB + ":" + id
		if _, twice := all[key]; twice {
			t.Fatalf("%s is there twice", key)
		}
		all[key] = d
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// checkDocuments fails the test unless both say the same, document by document, in the same order within each.
func checkDocuments(t testing.TB, want, got map[string]document) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("documents (-want +got):\n%s", tail(diff))
	}
}
