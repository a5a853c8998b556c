package check_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/check"
	"github.com/tallyman-dev/tallyman/sample"
	"github.com/tallyman-dev/tallyman/server/ingest"
)

func run(t *testing.T, content string, config check.Config) (check.Summary, []ingest.Finding) {
	t.Helper()
	config.File = "a.jsonl"
	var findings []ingest.Finding
	config.Finding = func(f ingest.Finding) error { findings = append(findings, f); return nil }
	summary, err := check.Run(t.Context(), io.NopCloser(strings.NewReader(content)), config)
	if err != nil {
		t.Fatal(err)
	}
	return summary, findings
}

func TestFindsWhatIngestAndWorkersFind(t *testing.T) {
	lines := []string{
		`{"sourcedb":"PubMed","sourceid":"1","text":"one two","denotations":[{"span":{"begin":0,"end":3},"obj":"A"}]}`,
		`{"sourceid":"2","text":"no sourcedb"}`,
		`{"sourcedb":"PubMed","sourceid":"3","text":"short","denotations":[{"span":{"begin":0,"end":99},"obj":"A"}]}`,
		`not JSON`,
		`{"sourcedb":"PubMed","sourceid":"5","text":"one two","denotations":[{"span":{"begin":"0","end":3},"obj":"A"}]}`,
	}
	summary, findings := run(t, strings.Join(lines, "\n"), check.Config{})
	want := check.Summary{Items: 5, Valid: 2, Rejected: 3, Batches: 1, Annotations: 2, Errors: 3, Warnings: 1, Readable: true}
	if diff := cmp.Diff(want, summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	type place struct {
		Item, Line, Offset int64
		Code, Document     string
	}
	var got []place
	for _, f := range findings {
		got = append(got, place{f.Item, f.Line, f.Offset, f.Code, f.Document})
	}
	offset := func(line int) int64 { return int64(len(strings.Join(lines[:line-1], "\n")) + 1) }
	wantPlaces := []place{
		{2, 2, offset(2), "MISSING_SOURCEDB", ""},
		{3, 3, offset(3), "SPAN_OUT_OF_RANGE", "PubMed:3"},
		{4, 4, offset(4), "INVALID_JSON", ""},
		{5, 5, offset(5), "COERCED_NUMBER", "PubMed:5"},
	}
	if diff := cmp.Diff(wantPlaces, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if summary.OK() {
		t.Error("a file with rejected items is OK")
	}
}

func TestDefaultSourceDB(t *testing.T) {
	const line = `{"sourceid":"2","text":"no sourcedb"}`
	if summary, findings := run(t, line, check.Config{DefaultSourceDB: "PubMed"}); !summary.OK() {
		t.Errorf("findings %v, want none", findings)
	}
}

func TestUnreadableFile(t *testing.T) {
	summary, findings := run(t, "%PDF-1.7\n", check.Config{})
	if summary.Readable || summary.OK() || len(findings) != 1 || findings[0].Code != ingest.CodeNotJSON {
		t.Errorf("summary %+v with findings %v, want one %s", summary, findings, ingest.CodeNotJSON)
	}
}

func TestCountsSample(t *testing.T) {
	var file bytes.Buffer
	made, err := sample.Generate(&file, sample.Config{Documents: 3000, Bad: 40, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	summary, _ := run(t, file.String(), check.Config{})
	if summary.Items != made.Items || summary.Rejected != made.Bad || summary.Annotations != made.Annotations {
		t.Errorf("checked %+v, made %+v", summary, made)
	}
}

// TestGoldenBatches compares the cuts with those of a real file.
func TestGoldenBatches(t *testing.T) {
	data := filepath.Join("..", "..", "..", "..", "..", "shared", "data", "annotations")
	text, err := os.ReadFile(filepath.Join(data, "batch_golden.json"))
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED: the real data is not there: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	type cut struct {
		First  int64 `json:"first_item"`
		Last   int64 `json:"last_item"`
		Items  int   `json:"items"`
		Weight int   `json:"weight"`
	}
	var golden struct {
		BC5CDR []cut `json:"bc5cdr"`
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(data, "bc5cdr.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var got []cut
	summary, err := check.Run(t.Context(), file, check.Config{File: "bc5cdr.jsonl", Batch: func(b ingest.Batch) error {
		got = append(got, cut{b.FirstItem, b.LastItem, b.Items, b.Weight})
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(golden.BC5CDR, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
	if summary.Items != 600 || summary.Annotations != 11789 || !summary.OK() {
		t.Errorf("summary %+v, want 600 items with 11,789 annotations", summary)
	}
}

// BenchmarkRun checks a collection; with -cpu 1,2 on one processor and on two.
func BenchmarkRun(b *testing.B) {
	var data bytes.Buffer
	made, err := sample.Generate(&data, sample.Config{Documents: 5000})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(data.Len()))
	for b.Loop() {
		summary, err := check.Run(b.Context(), io.NopCloser(bytes.NewReader(data.Bytes())), check.Config{File: "f"})
		if err != nil || summary.Valid != made.Items {
			b.Fatalf("got %+v, %v", summary, err)
		}
	}
	b.ReportMetric(float64(made.Items)*float64(b.N)/b.Elapsed().Seconds(), "items/s")
}

// TestFindingsKeepTheirOrder has findings of many items, of rejected ones and of those that workers reject, in turns.
func TestFindingsKeepTheirOrder(t *testing.T) {
	var lines strings.Builder
	const items = 1000
	for i := range items {
		switch i % 3 {
		case 0:
			lines.WriteString(`{"text":"no key"}` + "\n")
		case 1:
			lines.WriteString(`{"sourcedb":"PMC","sourceid":"1","text":"a","denotations":[{"span":{"begin":0,"end":9},"obj":"x"}]}` + "\n")
		default:
			lines.WriteString(`{"sourcedb":"PMC","sourceid":"1","text":"` + strings.Repeat("good ", i) + `"}` + "\n")
		}
	}
	summary, findings := run(t, lines.String(), check.Config{Cut: ingest.CutConfig{Items: 70}})
	if summary.Items != items || summary.Valid != items/3 {
		t.Errorf("got %+v", summary)
	}
	var got []int64
	for _, f := range findings {
		if len(got) == 0 || got[len(got)-1] != f.Item {
			got = append(got, f.Item)
		}
	}
	var want []int64
	for i := range int64(items) {
		if i%3 < 2 {
			want = append(want, i+1)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items with findings (-want +got):\n%s", diff)
	}
}
