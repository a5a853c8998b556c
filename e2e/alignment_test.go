//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// surfaces returns the texts of a document's denotations by id, in small letters, and fails the test if one is out of range.
func surfaces(t testing.TB, d document) map[string]string {
	t.Helper()
	text := []rune(d.Text)
	by := make(map[string]string)
	for _, s := range d.Denotations {
		if s.Span.Begin < 0 || s.Span.Begin >= s.Span.End || s.Span.End > len(text) {
			t.Fatalf("%s lies at %d to %d of a text of %d", s.ID, s.Span.Begin, s.Span.End, len(text))
		}
		by[s.ID] = strings.ToLower(string(text[s.Span.Begin:s.Span.End]))
	}
	return by
}

// TestAlignment uploads documents, and then items about them whose texts differ, in many batches to two workers.
func TestAlignment(t *testing.T) {
	t.Parallel()
	for name, newSite := range map[string]func(testing.TB) *site{"postgres": postgresSite, "sqlite": sqliteSite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			alignAll(t, newSite(t))
		})
	}
}

func alignAll(t *testing.T, s *site) {
	t.Helper()
	read := func(name string, into any) string {
		raw, err := os.ReadFile(shared(t, "alignment/"+name))
		if err == nil && into != nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	var texts, items []any
	want := make(map[string]document) // the other aligner's
	given := make(map[string]document)
	files, err := filepath.Glob(shared(t, "alignment") + "/oryza-*.item.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d items, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".item.json")
		key := "PubMed:" + strings.TrimPrefix(name, "oryza-")
		var item map[string]any
		var known, theirs, ours document
		read(name+".item.json", &item)
		read(name+".item.json", &ours)
		read(name+".document.json", &known)
		read(name+".aligned.json", &theirs)
		texts = append(texts, map[string]any{"sourcedb": "PubMed", "sourceid": strings.TrimPrefix(name, "oryza-"), "text": known.Text})
		items, want[key], given[key] = append(items, item), theirs, ours
	}
	var passages []any
	read("PMC-1310901.passages.json", &passages)
	var paper document
	read("PMC-1310901.aligned.json", &paper)
	texts = append(texts, map[string]any{"sourcedb": "PMC", "sourceid": "1310901", "text": read("PMC-1310901.document.txt", nil)})

	s.serve(short...)
	s.work("first", "--slots", "2")
	if got := s.await(s.upload(jsonLines(t, texts), client.Upload{Project: "texts-only"})); got.GetState() != tallymanv1.JobState_JOB_STATE_SUCCEEDED {
		t.Fatalf("the documents are not stored: %v", got)
	}
	s.work("second", "--slots", "2")
	upload := client.Upload{Project: "aligned", Policy: &tallymanv1.Policy{BatchWeight: 10}}
	job := s.await(s.upload(jsonLines(t, append(items, passages...)), upload))
	if got := job.GetState(); got != tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS { // since spans are lost
		t.Errorf("the job is %v", got)
	}
	if diff := cmp.Diff(only(tallymanv1.Outcome_OUTCOME_STORED, int64(len(items)+len(passages))), stored(job)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	lost := make(map[string]int)
	for f, err := range s.client.Findings(t.Context(), &tallymanv1.ListFindingsRequest{JobId: job.GetJobId(), PageSize: 500}) {
		if err != nil {
			t.Fatal(err)
		}
		if f.GetCode() == "SPAN_LOST" && f.GetSeverity() == tallymanv1.Severity_SEVERITY_ERROR {
			lost[f.GetDocument()]++
		}
	}
	exported := documents(t, s.export("aligned"))
	for key, theirs := range want {
		item, is, were := surfaces(t, given[key]), surfaces(t, exported[key]), surfaces(t, theirs)
		same := func(by map[string]string) int {
			n := 0
			for id, surface := range by {
				if surface == item[id] {
					n++
				}
			}
			return n
		}
		t.Logf("%s: theirs %d, ours %d, lost %d, changed %d of %d", key, same(were), same(is), lost[key], len(is)-same(is), len(item))
		if same(is) < same(were) {
			t.Errorf("%s: %d keep their surface, want at least %d", key, same(is), same(were))
		}
		if len(is)+lost[key] != len(item) {
			t.Errorf("%s: %d are stored and %d are said to be lost of %d", key, len(is), lost[key], len(item))
		}
	}
	got := exported["PMC:1310901"]
	surfaces(t, got)
	ranges := func(d document) map[string]int {
		by := make(map[string]int)
		text := []rune(d.Text)
		for _, s := range d.Denotations {
			by[s.Obj+" "+string(text[s.Span.Begin:s.Span.End])]++
		}
		return by
	}
	if diff := cmp.Diff(ranges(paper), ranges(got)); diff != "" || len(got.Relations) != len(paper.Relations) {
		t.Errorf("%d relations, want %d; denotations (-want +got):\n%s", len(got.Relations), len(paper.Relations), diff)
	}
}

// jsonLines writes a file of values.
func jsonLines(t testing.TB, values []any) string {
	t.Helper()
	var lines strings.Builder
	for _, v := range values {
		line, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	return writeFile(t, lines.String())
}
