//go:build linux

package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// runData runs a file of the shared data as it is and returns its job, its findings, and what is stored then.
func runData(t testing.TB, name string, flags ...string) (*tallymanv1.Job, []*tallymanv1.Finding, string) {
	t.Helper()
	path, data := shared(t, name), t.TempDir()
	r := tallyman(t, append([]string{"run", path, "--project", project, "--data", data}, flags...)...)
	if r.code != 0 && r.code != 2 {
		t.Fatalf("run of %s ended with %d: %s", name, r.code, r.stderr)
	}
	jobs := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--data", data))
	if len(jobs) != 1 {
		t.Fatalf("there are %d jobs, want 1", len(jobs))
	}
	findings := parse[tallymanv1.Finding](t, succeed(t, "findings", "-o", "json", "--limit", "0", "--data", data))
	if jobs[0].GetProgress().GetItemsTotal() == outcomes(jobs[0])[isRejected] {
		return jobs[0], findings, "" // a project without documents cannot be exported
	}
	return jobs[0], findings, succeed(t, "export", "--project", project, "--data", data)
}

// TestArrays runs arrays as they are.
func TestArrays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		items, annotations int64
		documents, batches int
	}{
		"BB-event":    {146, 3273, 146, 7},
		"PMC-7646410": {238, 4217, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job, _, exported := runData(t, "annotations/"+name+".array.json")
			checkSums(t, job, want.items)
			if stored := stored(job)[isStored]; stored != want.items || job.GetProgress().GetAnnotations() != want.annotations {
				t.Errorf("%d items with %d annotations stored, want %d with %d", stored, job.GetProgress().GetAnnotations(), want.items, want.annotations)
			}
			if batches := stateOf(job, tallymanv1.BatchState_BATCH_STATE_COMPLETED); batches != int64(want.batches) {
				t.Errorf("%d batches, want %d", batches, want.batches)
			}
			if lines := strings.Count(exported, "\n"); lines != want.documents {
				t.Errorf("%d documents, want %d", lines, want.documents)
			}
			if name == "PMC-7646410" {
				checkPassages(t, shared(t, "annotations/"+name+".array.json"), exported, want.annotations)
			}
		})
	}
}

func stateOf(job *tallymanv1.Job, state tallymanv1.BatchState) int64 {
	for _, n := range job.GetProgress().GetBatchesByState() {
		if n.GetState() == state {
			return n.GetBatches()
		}
	}
	return 0
}

// checkPassages expects one document of the passages, with all annotations.
func checkPassages(t testing.TB, path, exported string, annotations int64) {
	t.Helper()
	type content struct {
		Text                                       string
		Denotations, Blocks, Relations, Attributes []json.RawMessage
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var items []content
	var document content
	if err := json.Unmarshal(data, &items); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(exported), &document); err != nil {
		t.Fatal(err)
	}
	var passages []string
	for i, it := range items {
		if i == 0 || it.Text != items[i-1].Text {
			passages = append(passages, it.Text)
		}
	}
	if len(passages) != 113 || document.Text != strings.Join(passages, "\n") {
		t.Errorf("a text of %d bytes, want that of %d passages", len(document.Text), len(passages))
	}
	if n := len(document.Denotations) + len(document.Blocks) + len(document.Relations) + len(document.Attributes); int64(n) != annotations {
		t.Errorf("%d annotations exported, want %d", n, annotations)
	}
}

// TestArchives runs archives as they are, which rejects all of their items, and with what they lack.
func TestArchives(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(shared(t, "archives/bconv-elliptic-coordination.json")), "*"))
	if err != nil {
		t.Fatal(err)
	}
	var rejected, stored int64
	for _, path := range paths {
		name := filepath.Base(path)
		job, findings, _ := runData(t, "archives/"+name)
		rejected += outcomes(job)[isRejected]
		checkSums(t, job, job.GetProgress().GetItemsTotal())
		for _, f := range findings {
			if f.GetCode() != "MISSING_SOURCEDB" || f.GetLine() != 1 || !strings.HasPrefix(f.GetFile(), name) {
				t.Errorf("%s: %v", name, f)
			}
			if archive := strings.HasSuffix(name, ".tgz"); archive != strings.HasPrefix(f.GetFile(), name+"!") || !strings.HasSuffix(f.GetFile(), ".json") {
				t.Errorf("%s: place %s", name, f.GetFile())
			}
		}
		job, _, _ = runData(t, "archives/"+name, "--sourcedb", "PubMed")
		if state := job.GetState(); state != tallymanv1.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("%s with a sourcedb: %v", name, state)
		}
		stored += job.GetProgress().GetItemsTotal()
	}
	if rejected != 24 || stored != 24 {
		t.Errorf("%d items rejected as they are, %d stored with a sourcedb; want 24 of each", rejected, stored)
	}
}

// TestZIPOfAll runs everything in one ZIP archive, from standard input.
func TestZIPOfAll(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for _, name := range []string{"annotations/BB-event.array.json", "annotations/bc5cdr.jsonl", "archives/bconv-NCBIdevset-example.tgz"} {
		content, err := os.ReadFile(shared(t, name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	args := []string{"run", "-", "--project", project, "--data", data, "--sourcedb", "PubMed"}
	p := start(t, "tallyman run -", command{args: args, stdin: &archive})
	if code := p.wait(commandTimeout); code != 0 {
		t.Fatalf("run ended with %d: %s", code, p.stderr.String())
	}
	jobs := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--data", data))
	checkSums(t, jobs[0], 146+600+18)
	if got := stored(jobs[0])[isStored]; got != 146+600+18 {
		t.Errorf("%d items stored, want all %d", got, 146+600+18)
	}
	items := parse[tallymanv1.ExportedItem](t, succeed(t, "items", "-o", "json", "--data", data))
	files := map[string]int{}
	for _, it := range items {
		file, entry, _ := strings.Cut(strings.TrimPrefix(it.GetFile(), "stdin!"), "!")
		files[file]++
		if strings.HasSuffix(file, ".tgz") != strings.HasSuffix(entry, ".json") {
			t.Errorf("an item in %s", it.GetFile())
		}
	}
	want := map[string]int{"annotations/BB-event.array.json": 146, "annotations/bc5cdr.jsonl": 600, "archives/bconv-NCBIdevset-example.tgz": 18}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("items of files (-want +got):\n%s", diff)
	}
	if left, err := filepath.Glob(filepath.Join(data, "tallyman-zip-*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}
