//go:build linux

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
)

// memoryBound is what a run may need, whatever it is given, in bytes. The race detector multiplies memory.
func memoryBound() int64 {
	if raceEnabled {
		return 2 << 30
	}
	return 400 << 20
}

// good is an item that is stored.
const good = `{"sourcedb":"PubMed","sourceid":"%d","text":"one two","denotations":[{"id":"T1","span":{"begin":0,"end":3},"obj":"A"}]}` + "\n"

// found is what must be said of an input. The offset is counted by the test.
type found struct {
	Code   string
	Line   int64
	Item   int64
	Offset int64
}

// input is a file and what a run must make of it.
type input struct {
	name     string
	content  func() []byte
	code     int
	outcomes map[tallymanv1.Outcome]int64
	findings []found
	summary  []string // is said, among others
}

func text(format string, args ...any) func() []byte {
	return func() []byte { return fmt.Appendf(nil, format, args...) }
}

func only(outcome tallymanv1.Outcome, n int64) map[tallymanv1.Outcome]int64 {
	return map[tallymanv1.Outcome]int64{outcome: n}
}

const (
	isStored   = tallymanv1.Outcome_OUTCOME_STORED
	isRejected = tallymanv1.Outcome_OUTCOME_REJECTED
)

// goods are n good items, a line each.
func goods(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, good, i+1)
	}
	return b.String()
}

// gzipped returns b compressed. Nothing fails in memory.
func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// gzippedPart returns b compressed, as far as it has been written when the power fails.
func gzippedPart(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// between puts a bad line between two good ones.
func between(bad string) func() []byte { return text("%s%s\n"+good, goods(1), bad, 2) }

// second is what is found of it.
func second(code string) []found {
	return []found{{Code: code, Line: 2, Item: 2, Offset: int64(len(goods(1)))}}
}

// begun is the beginning of an item.
const begun = `{"sourcedb":"Pub`

var twoStored = map[tallymanv1.Outcome]int64{isStored: 2, isRejected: 1}

var inputs = []input{
	{
		name: "empty", content: text(""), code: 0,
		findings: []found{{Code: "EMPTY_UPLOAD", Line: 1}}, summary: []string{"succeeded", "EMPTY_UPLOAD"},
	},
	{
		name: "blank lines", content: text("\n \t \r\n\n\n"), code: 0,
		findings: []found{{Code: "EMPTY_UPLOAD", Line: 1}}, summary: []string{"succeeded", "blank lines"},
	},
	{
		name: "gzip", content: func() []byte { return gzipped([]byte(goods(300))) }, code: 0,
		outcomes: only(isStored, 300), summary: []string{"succeeded"},
	},
	{
		name: "zstd", content: func() []byte { return zstandard([]byte(goods(300))) }, code: 0,
		outcomes: only(isStored, 300), summary: []string{"succeeded"},
	},
	{
		name:    "a gzip of one whole item that is truncated in the next",
		content: func() []byte { return gzippedPart([]byte(goods(1) + begun)) },
		code:    2, outcomes: only(isStored, 1),
		findings: []found{{Code: "TRUNCATED", Line: 2, Offset: int64(len(goods(1) + begun))}},
		summary:  []string{"completed with errors", "TRUNCATED"},
	},
	{
		name:    "a gzip that is truncated at once",
		content: func() []byte { return gzipped([]byte(goods(300)))[:40] },
		code:    3, findings: []found{{Code: "TRUNCATED", Line: 1}}, summary: []string{"failed", "TRUNCATED"},
	},
	{
		name: "a line of 100 MB",
		content: func() []byte {
			line := append([]byte(goods(1)), `{"sourcedb":"PubMed","sourceid":"9","text":"`...)
			line = append(line, bytes.Repeat([]byte("word "), 20<<20)...)
			return append(line, "\"}\n"+fmt.Sprintf(good, 2)...)
		},
		code: 2, outcomes: twoStored, findings: second("ITEM_TOO_LARGE"), summary: []string{"completed with errors", "ITEM_TOO_LARGE"},
	},
	{
		name:    "nesting of 10,000",
		content: between(`{"sourcedb":"PubMed","sourceid":"9","text":"x","config":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}"),
		code:    2, outcomes: twoStored, findings: second("TOO_DEEP"), summary: []string{"completed with errors", "TOO_DEEP"},
	},
	{
		name:    "invalid UTF-8",
		content: between("{\"sourcedb\":\"PubMed\",\"sourceid\":\"9\",\"text\":\"caf\xe9\"}"),
		code:    2, outcomes: twoStored, findings: second("INVALID_UTF8"), summary: []string{"INVALID_UTF8"},
	},
	{
		name:    "a NUL in a string",
		content: between(`{"sourcedb":"PubMed","sourceid":"9","text":"no \u0000 here"}`),
		code:    2, outcomes: twoStored, findings: second("NUL_CHARACTER"), summary: []string{"NUL_CHARACTER"},
	},
	{
		name: "a PDF", content: text("%%PDF-1.7\n%%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"), code: 3,
		findings: []found{{Code: "NOT_JSON", Line: 1}}, summary: []string{"failed", "a PDF"},
	},
	{
		name: "a program", content: text("\x7fELF\x02\x01\x01\x00%s", strings.Repeat("\x00\x7f", 4096)), code: 3,
		findings: []found{{Code: "NOT_JSON", Line: 1}}, summary: []string{"failed", "an ELF program"},
	},
	{
		name: "a table", content: text("id,begin,end\n1,2,3\n4,5,6\n"), code: 3,
		findings: []found{{Code: "NOT_JSON", Line: 1}}, summary: []string{"failed", "a CSV table"},
	},
}

func TestInputs(t *testing.T) {
	t.Parallel()
	for _, in := range inputs {
		t.Run(in.name, func(t *testing.T) {
			t.Parallel()
			job, findings, r := runInput(t, in.content())
			if r.code != in.code {
				t.Errorf("exit code %d, want %d", r.code, in.code)
			}
			if diff := cmp.Diff(in.findings, places(t, findings)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			want := in.outcomes
			if want == nil {
				want = map[tallymanv1.Outcome]int64{}
			}
			if diff := cmp.Diff(want, outcomes(job)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			checkSums(t, job, job.GetProgress().GetItemsTotal())
			for _, said := range in.summary {
				if !strings.Contains(r.stdout, said) {
					t.Errorf("the summary does not say %q", said)
				}
			}
		})
	}
}

// TestEveryItemBad runs a collection without a single good item.
func TestEveryItemBad(t *testing.T) {
	t.Parallel()
	const items = 200
	var content bytes.Buffer
	if _, err := sample.Generate(&content, sample.Config{Bad: items, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	var offsets []int64
	var offset int64
	for line := range bytes.Lines(content.Bytes()) {
		offsets = append(offsets, offset)
		offset += int64(len(line))
	}
	job, findings, r := runInput(t, content.Bytes())
	if r.code != 2 {
		t.Errorf("exit code %d, want 2", r.code)
	}
	if diff := cmp.Diff(only(isRejected, items), outcomes(job)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	checkSums(t, job, items)
	checkFindings(t, findings, items)
	for _, f := range places(t, findings) {
		if f.Item < 1 || f.Item > items || f.Line != f.Item || f.Offset != offsets[f.Item-1] {
			t.Errorf("%s of item %d: line %d, byte %d; want line %d, byte %d", f.Code, f.Item, f.Line, f.Offset, f.Item, offsets[f.Item-1])
		}
	}
	if !strings.Contains(r.stdout, "200") || !strings.Contains(r.stdout, "rejected") {
		t.Error("the summary does not say that 200 items were rejected")
	}
}

// inputName is the file of every input: findings name it as it is.
const inputName = "input.jsonl"

// runInput runs a file of that content and returns its job, its findings and what the program said.
func runInput(t testing.TB, content []byte) (*tallymanv1.Job, []*tallymanv1.Finding, result) {
	t.Helper()
	dir := t.TempDir()
	path, data := filepath.Join(dir, inputName), filepath.Join(dir, "data")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r := tallyman(t, "run", path, "--project", project, "--data", data)
	if r.maxRSS > memoryBound() {
		t.Errorf("the run needed %d MiB, want at most %d", r.maxRSS>>20, memoryBound()>>20)
	}
	jobs := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--data", data))
	if len(jobs) != 1 {
		t.Fatalf("there are %d jobs, want 1", len(jobs))
	}
	return jobs[0], parse[tallymanv1.Finding](t, succeed(t, "findings", "-o", "json", "--limit", "0", "--data", data)), r
}

// places returns where the findings are. Each must name the file and say something.
func places(t testing.TB, findings []*tallymanv1.Finding) []found {
	t.Helper()
	var all []found
	for _, f := range findings {
		if f.GetFile() != inputName || f.GetMessage() == "" {
			t.Errorf("%s is in file %q with message %q; want %s and a sentence", f.GetCode(), f.GetFile(), f.GetMessage(), inputName)
		}
		all = append(all, found{f.GetCode(), f.GetLine(), f.GetItem(), f.GetOffset()})
	}
	return all
}

// TestNoFile runs what is no file: nothing is begun.
func TestNoFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, path, said string }{
		{"an empty folder", t.TempDir(), "folder"},
		{"a missing file", filepath.Join(t.TempDir(), "missing.jsonl"), "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			r := tallyman(t, "run", c.path, "--project", project, "--data", data)
			if r.code != 1 {
				t.Errorf("exit code %d, want 1", r.code)
			}
			if !strings.Contains(r.stderr, c.path) || !strings.Contains(r.stderr, c.said) {
				t.Errorf("the error does not name %s and say %q", c.path, c.said)
			}
			if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
				t.Errorf("%d files were made in the data folder (%v), want none: nothing was to be started", len(left), err)
			}
		})
	}
}
