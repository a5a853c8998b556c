package display

import (
	"bytes"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vbauerster/mpb/v8"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func finding(item int64, code, message string) *tallymanv1.Finding {
	return &tallymanv1.Finding{
		Item: item, Severity: tallymanv1.Severity_SEVERITY_ERROR, Code: code, File: "a.jsonl", Line: item, Offset: 10 * item,
		Document: "PubMed:1", Path: "denotations[0].span.end", Message: message,
	}
}

func TestListFormats(t *testing.T) {
	findings := []*tallymanv1.Finding{
		finding(1, "SPAN_EMPTY", "It is\x1b[2J empty."),
		finding(12345, "INVALID_JSON", "A tab\there."),
	}
	findings[1].Path = ""
	want := map[Format]string{
		Table: "" +
			"SEVERITY  CODE          PLACE          ITEM   BYTE    DOCUMENT  PATH                     MESSAGE\n" +
			"error     SPAN_EMPTY    a.jsonl:1      1      10      PubMed:1  denotations[0].span.end  It is\\x1b[2J empty.\n" +
			"error     INVALID_JSON  a.jsonl:12345  12345  123450  PubMed:1  -                        A tab\\there.\n",
		TSV: "" +
			"severity\tcode\tplace\titem\tbyte\tdocument\tpath\tmessage\n" +
			"error\tSPAN_EMPTY\ta.jsonl:1\t1\t10\tPubMed:1\tdenotations[0].span.end\tIt is\\x1b[2J empty.\n" +
			"error\tINVALID_JSON\ta.jsonl:12345\t12345\t123450\tPubMed:1\t-\tA tab\\there.\n",
		JSON: "" +
			`{"batch_id":"0","item":"1","severity":"SEVERITY_ERROR","code":"SPAN_EMPTY","file":"a.jsonl","line":"1",` +
			`"offset":"10","document":"PubMed:1","path":"denotations[0].span.end","message":"It is\u001b[2J empty."}` + "\n" +
			`{"batch_id":"0","item":"12345","severity":"SEVERITY_ERROR","code":"INVALID_JSON","file":"a.jsonl",` +
			`"line":"12345","offset":"123450","document":"PubMed:1","path":"","message":"A tab\there."}` + "\n",
	}
	for format, text := range want {
		var out bytes.Buffer
		n, more, err := Findings.Write(&out, format, each(findings), 0)
		if err != nil || more || n != 2 {
			t.Errorf("%s: %d written, more %v, error %v", format, n, more, err)
		}
		if diff := cmp.Diff(text, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestListStopsAtLimitAndAtErrors(t *testing.T) {
	broken := errors.New("the line is broken")
	entries := iter.Seq2[*tallymanv1.Finding, error](func(yield func(*tallymanv1.Finding, error) bool) {
		_ = yield(finding(1, "A", ""), nil) && yield(finding(2, "B", ""), nil) && yield(nil, broken)
	})
	for _, c := range []struct {
		limit, n int
		more     bool
		err      error
	}{
		{limit: 1, n: 1, more: true},
		{limit: 2, n: 2, err: broken},
		{limit: 0, n: 2, err: broken},
	} {
		var out bytes.Buffer
		n, more, err := Findings.Write(&out, TSV, entries, c.limit)
		if n != c.n || more != c.more || !errors.Is(err, c.err) {
			t.Errorf("limit %d: %d, more %v, error %v; want %+v", c.limit, n, more, err, c)
		}
		if lines := strings.Count(out.String(), "\n"); lines != c.n+1 {
			t.Errorf("limit %d: %d lines, want a header and %d", c.limit, lines, c.n)
		}
	}
}

func TestLongTablesComeInParts(t *testing.T) {
	out := &countingWriter{}
	entries := func(yield func(*tallymanv1.Finding, error) bool) {
		for i := range int64(3 * tableRows) {
			if i == 2*tableRows && out.writes == 0 {
				t.Error("nothing is written after two parts")
			}
			if !yield(finding(i, "A", "B"), nil) {
				return
			}
		}
	}
	if _, _, err := Findings.Write(out, Table, entries, 0); err != nil {
		t.Fatal(err)
	}
	if want := 3*tableRows + 1; out.lines != want {
		t.Errorf("%d lines, want %d", out.lines, want)
	}
}

type countingWriter struct{ writes, lines int }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.writes++
	w.lines += bytes.Count(b, []byte("\n"))
	return len(b), nil
}

func TestCleanLines(t *testing.T) {
	for text, want := range map[string]string{
		"one":                         "one",
		"failed:\n\thost a\n\thost b": "failed:\n    host a\n    host b",
		"a\nb\n\nc\n":                 "a\n  b\n\n  c",
		"red\x1b[31m\r\nnext\tcell":   "red\\x1b[31m\\r\n  next\\tcell",
	} {
		if got := CleanLines(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestParseEnum(t *testing.T) {
	got, err := ParseEnum[tallymanv1.JobState]("state", "JOB_STATE_", tallymanv1.JobState_value,
		[]string{"running", "Completed-With-Errors"})
	want := []tallymanv1.JobState{tallymanv1.JobState_JOB_STATE_RUNNING, tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v, error %v; want %v", got, err, want)
	}
	for _, wrong := range []string{"", "unspecified", "walking"} {
		if _, err := ParseEnum[tallymanv1.JobState]("state", "JOB_STATE_", tallymanv1.JobState_value, []string{wrong}); err == nil {
			t.Errorf("%q is taken for a state", wrong)
		} else if !strings.Contains(err.Error(), "running, cancelling, succeeded") {
			t.Errorf("the error %q does not say what there is", err)
		}
	}
}

func TestText(t *testing.T) {
	for want, got := range map[string]string{
		"0":         Number(0),
		"999":       Number(999),
		"1,000":     Number(1000),
		"-12,345":   Number(-12345),
		"1 batch":   Plural(1, "batch"),
		"2 batches": Plural(2, "batch"),
		"0 items":   Plural(0, "item"),
		"1.5s":      Duration(1512 * time.Millisecond),
		"1m2s":      Duration(62300 * time.Millisecond),
		"7ms":       Duration(7300 * time.Microsecond),
		"33.3 %":    Percent(1, 3),
		"-":         Percent(0, 0),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// job is half done, unless it has ended.
func job(state tallymanv1.JobState, done bool) *tallymanv1.Job {
	p := &tallymanv1.Progress{
		ItemsTotal: 1000, ItemsEnded: 500, ItemsOpen: 500, Annotations: 12345, BytesRead: 400, BytesTotal: 1000,
		Errors: 1, Warnings: 2, ItemsPerSecond: 250, Eta: durationpb.New(2 * time.Second),
		ItemsByOutcome: []*tallymanv1.OutcomeCount{{Outcome: tallymanv1.Outcome_OUTCOME_STORED, Items: 499}, {Outcome: tallymanv1.Outcome_OUTCOME_REJECTED, Items: 1}},
		BatchesByState: []*tallymanv1.BatchStateCount{{State: tallymanv1.BatchState_BATCH_STATE_COMPLETED, Batches: 3}},
	}
	return &tallymanv1.Job{
		JobId: 7, State: state, IngestDone: done, FileName: "a.jsonl", Project: "corpus", Progress: p,
		SubmittedAt: timestamppb.New(begin), EndedAt: timestamppb.New(begin.Add(90 * time.Second)),
	}
}

func TestLinesAreFew(t *testing.T) {
	var out bytes.Buffer
	clock := begin
	l := &lines{w: &out, jobs: make(map[int64]*lineState), now: func() time.Time { return clock }}
	const running, succeeded = tallymanv1.JobState_JOB_STATE_RUNNING, tallymanv1.JobState_JOB_STATE_SUCCEEDED
	l.Update(&tallymanv1.Job{JobId: 7, State: running}) // nothing is known
	for range 100 {
		l.Update(job(running, false))
		clock = clock.Add(100 * time.Millisecond)
	}
	next := job(running, false)
	next.Progress.ItemsEnded = 600
	l.Update(next)
	l.Update(job(running, true))
	l.Update(job(succeeded, true))
	l.Close()
	want := "" +
		"job 7 a.jsonl: reading, 40 % read, 500 of 1,000 items, 1 error, 2 warnings, 250 items/s, 2s left\n" +
		"job 7 a.jsonl: reading, 40 % read, 600 of 1,000 items, 1 error, 2 warnings, 250 items/s, 2s left\n" +
		"job 7 a.jsonl: running, 500 of 1,000 items, 1 error, 2 warnings, 250 items/s, 2s left\n" +
		"job 7 a.jsonl: succeeded, 500 of 1,000 items, 1 error, 2 warnings\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestFraction(t *testing.T) {
	const running, succeeded = tallymanv1.JobState_JOB_STATE_RUNNING, tallymanv1.JobState_JOB_STATE_SUCCEEDED
	for want, j := range map[float64]*tallymanv1.Job{
		0.2: job(running, false), // half of the 40 % that were read
		0.5: job(running, true),
		1:   job(succeeded, true),
		0:   {State: running},
	} {
		if got := fraction(j); got != want {
			t.Errorf("fraction %v, want %v", got, want)
		}
	}
}

// TestBars draws on something that counts as a terminal of 200 columns.
func TestBars(t *testing.T) {
	var out lockedBuffer
	b := &bars{w: &out, options: []mpb.ContainerOption{mpb.WithWidth(200)}}
	if _, err := b.Write([]byte("before\n")); err != nil {
		t.Fatal(err)
	}
	b.Update(job(tallymanv1.JobState_JOB_STATE_RUNNING, true))
	if _, err := b.Write([]byte("a line above\n")); err != nil {
		t.Fatal(err)
	}
	b.Update(job(tallymanv1.JobState_JOB_STATE_SUCCEEDED, true))
	b.Close()
	b.Close()
	if _, err := b.Write([]byte("after\n")); err != nil {
		t.Fatal(err)
	}
	b.Update(job(tallymanv1.JobState_JOB_STATE_RUNNING, true)) // left as it is
	b.Close()
	text := out.String()
	for _, part := range []string{"before\n", "a line above\n", "job 7 a.jsonl", "100 %", "succeeded, 500 of 1,000 items", "50 %"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
	if strings.Index(text, "100 %") > strings.Index(text, "after\n") {
		t.Errorf("the bar is drawn after it was closed:\n%s", text)
	}
}

// Every frame begins at the margin, wherever the echo of what somebody typed left the cursor.
func TestFramesBeginAtTheMargin(t *testing.T) {
	var out bytes.Buffer
	s := screen(&out)
	for _, frame := range []string{"one\n", "\x1b[1A\x1b[Jtwo\n"} {
		if _, err := s.Write([]byte(frame)); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(0); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff("\rone\n\r\x1b[1A\x1b[Jtwo\n", out.String()); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
}

func TestGroupFindings(t *testing.T) {
	warning := finding(9, "C", "")
	warning.Severity = tallymanv1.Severity_SEVERITY_WARNING
	first := finding(2, "B", "")
	groups, err := GroupFindings(each([]*tallymanv1.Finding{warning, finding(1, "A", ""), first, finding(3, "B", "")}))
	if err != nil || groups.More || groups.Read != 4 {
		t.Errorf("read %d, more %v, error %v", groups.Read, groups.More, err)
	}
	ofFile, err := GroupFindings(each([]*tallymanv1.Finding{first, finding(3, "B", ""), finding(0, "Z", "")}))
	if err != nil || ofFile.Groups[0].Code != "Z" {
		t.Errorf("groups %+v, error %v; want that of the file first", ofFile.Groups, err)
	}
	var got []string
	for _, g := range groups.Groups {
		got = append(got, g.Code)
	}
	if diff := cmp.Diff([]string{"B", "A", "C"}, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if b := groups.Groups[0]; b.Count != 2 || b.Example != first {
		t.Errorf("group B has %d with example %v", b.Count, b.Example)
	}
	broken := errors.New("the line is broken")
	if _, err := GroupFindings(func(yield func(*tallymanv1.Finding, error) bool) { yield(nil, broken) }); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the findings", err)
	}
}

func TestGroupingIsBounded(t *testing.T) {
	endless := func(yield func(*tallymanv1.Finding, error) bool) {
		f := finding(1, "A", "")
		for yield(f, nil) {
		}
	}
	groups, err := GroupFindings(endless)
	if err != nil || !groups.More || groups.Groups[0].Count != maxGrouped {
		t.Errorf("groups %+v, error %v", groups, err)
	}
}

func TestSummary(t *testing.T) {
	j := job(tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS, true)
	j.Reason = "because"
	groups, err := GroupFindings(each([]*tallymanv1.Finding{finding(1234, "SPAN_EMPTY", "The span is empty.")}))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = Summary(&out, j, groups, []*tallymanv1.FailureGroup{{
		Message: "disk full", End: tallymanv1.AttemptEnd_ATTEMPT_END_FAILED, Attempts: 3, ExampleBatchId: 5,
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `job 7 completed with errors after 1m30s: a.jsonl into project corpus
  because
  items        1,000
    stored     499
    rejected   1
    open       500
  batches      3
    completed  3
  annotations  12,345
  findings     1 error, 2 warnings
    3 attempts failed, as in batch 5:
        disk full
    1 × error SPAN_EMPTY, as in a.jsonl:1234 (item 1,234, byte 12340, PubMed:1) at denotations[0].span.end:
        The span is empty.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestDetailsNameEverything(t *testing.T) {
	var out bytes.Buffer
	j := job(tallymanv1.JobState_JOB_STATE_RUNNING, true)
	j.Labels = map[string]string{"b": "2", "a": "1"}
	j.LastCrashes = []*tallymanv1.Attempt{{BatchId: 5, Attempt: 2, End: tallymanv1.AttemptEnd_ATTEMPT_END_DIED, Message: "gone"}}
	if err := Job(&out, j); err != nil {
		t.Fatal(err)
	}
	batch := &tallymanv1.GetBatchResponse{Batch: &tallymanv1.Batch{
		BatchId: 5, JobId: 7, ItemCount: 24, DoneItems: 20, Documents: []string{"PMC:1", "PMC:2"}, DocumentCount: 5,
		State: tallymanv1.BatchState_BATCH_STATE_CRASHED, Error: "killed by signal 9",
		Outcomes: []*tallymanv1.OutcomeRun{{Count: 20, Outcome: tallymanv1.Outcome_OUTCOME_STORED}},
	}, Attempts: j.GetLastCrashes()}
	if err := Batch(&out, batch, nil); err != nil {
		t.Fatal(err)
	}
	err := Statistics(&out, time.Hour, &tallymanv1.GetStatisticsResponse{
		Batches: 4, BatchesCrashed: 1, DurationMean: durationpb.New(time.Second),
		BatchesByState: []*tallymanv1.BatchStateCount{{State: tallymanv1.BatchState_BATCH_STATE_CRASHED, Batches: 1}},
		Slowest:        []*tallymanv1.Batch{batch.GetBatch()},
		Failures:       []*tallymanv1.FailureGroup{{Message: "boom", Attempts: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"a=1 b=2", "last crashes", "gone", "PMC:1, PMC:2 +3", "killed by signal 9", "20 items stored", "25.0 %",
		"mean 1s", "PMC:1,PMC:2 +3", "20/24", "boom",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in:\n%s", part, out.String())
		}
	}
}

// Whatever the width of the terminal, the bar is seen, and what stands beside it is whole.
func TestLayout(t *testing.T) {
	j := job(tallymanv1.JobState_JOB_STATE_RUNNING, true)
	j.FileName = "my-collection-of-2026.jsonl"
	j.Progress.Eta = durationpb.New(90 * time.Second)
	for width, want := range map[int][2]string{
		20:  {"job 7", ""},
		34:  {"job 7", " 500/1,000"},
		40:  {"job 7", " 500/1,000"},
		42:  {"job 7", " 500 of 1,000 items"},
		51:  {"job 7", " 500 of 1,000 items, 1 error"},
		63:  {"job 7", " 500 of 1,000 items, 1 error, 1m30s left"},
		80:  {"job 7 my-coll…26.jsonl", " 500 of 1,000 items, 1 error, 1m30s left"},
		98:  {"job 7 my-collection-of-2026.jsonl", " 500 of 1,000 items, 1 error, 1m30s left"},
		120: {"job 7 my-coll…26.jsonl", " running, 500 of 1,000 items, 1 error, 2 warnings, 250 items/s, 1m30s left"},
		140: {"job 7 my-collection-of-2026.jsonl", " running, 500 of 1,000 items, 1 error, 2 warnings, 250 items/s, 1m30s left"},
	} {
		name, text := layout(j, width)
		if diff := cmp.Diff(want, [2]string{name, text}); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", width, diff)
		}
	}
	j.State = tallymanv1.JobState_JOB_STATE_CANCELLING
	if _, text := layout(j, 63); text != " cancelling, 500 of 1,000 items, 1 error" {
		t.Errorf("cancelling: %q", text)
	}
}
