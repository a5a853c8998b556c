package annotations_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/sqlite"
	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a handler on a new store.
func open(t *testing.T) (*annotations.Handler, store.Store) {
	t.Helper()
	return openWith(t, nil)
}

// openWith returns a handler with sources on a new store.
func openWith(t *testing.T, sources annotations.Sources) (*annotations.Handler, store.Store) {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "annotations.db"))
	if err != nil {
		t.Fatal(err)
	}
	h := annotations.New(st, sources)
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), st.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h, st
}

// batchOf returns the first attempt at a batch of these items.
func batchOf(items ...string) worker.Batch {
	b := worker.Batch{ID: 1, Attempt: 1, JobID: 1, Kind: "annotations", Project: "genes", Mode: "replace", ClusterID: "here"}
	for i, data := range items {
		b.Items = append(b.Items, payload.Item{
			Number: int64(i + 1), File: "up.jsonl", Line: int64(i + 1), Data: []byte(data), Length: int64(len(data))})
	}
	return b
}

// item is a valid one with n denotations.
func item(id string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"sourcedb":"PubMed","sourceid":"%s","text":"Aspirin helps in case %s.","denotations":[`, id, id)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"span":{"begin":%d,"end":%d},"obj":"Chemical"}`, i, i+1)
	}
	b.WriteString("]}")
	return b.String()
}

const (
	broken  = `{"sourcedb":"PubMed","sourceid":"9","text":"Short.","denotations":[{"span":{"begin":3,"end":30},"obj":"X"}]}`
	warning = `{"sourcedb":"PubMed","sourceid":"8","text":"Short.","denotations":[{"span":{"begin":"3","end":4},"obj":"X"}]}`
	sourced = `{"sourceid":"7","text":"Short."}`
)

// summarize puts results into a form that is easily compared.
func summarize(results []worker.Result) []string {
	var out []string
	for _, r := range results {
		parts := []string{r.Outcome.String()}
		for _, f := range r.Findings {
			parts = append(parts, fmt.Sprintf("%d %s %s", f.Severity, f.Code, f.Path))
		}
		out = append(out, strings.Join(parts, ", "))
	}
	return out
}

func count(t *testing.T, st store.Store) store.Counts {
	t.Helper()
	n, err := st.Count(t.Context(), "genes")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func export(t *testing.T, st store.Store, project string) []*annotation.Item {
	t.Helper()
	var items []*annotation.Item
	err := st.Export(t.Context(), project, func(item *annotation.Item) error {
		items = append(items, item)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func TestHandle(t *testing.T) {
	h, st := open(t)
	b := batchOf(broken, item("1", 3), "{", warning, item("2", 1), broken, sourced)
	got, err := worker.Try(t.Context(), h, b)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"rejected, 2 SPAN_OUT_OF_RANGE denotations[0].span.end",
		"stored",
		"rejected, 2 INVALID_JSON ",
		"stored with warnings, 1 COERCED_NUMBER denotations[0].span.begin",
		"stored",
		"rejected, 2 SPAN_OUT_OF_RANGE denotations[0].span.end",
		"rejected, 2 MISSING_SOURCEDB sourcedb",
	}
	if d := cmp.Diff(want, summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	if n := count(t, st); n.Documents != 3 || n.Denotations != 5 {
		t.Errorf("stored %+v, want 3 documents with 5 denotations", n)
	}

	// Another attempt at what was not recorded: same answers, nothing more in the store.
	b.Attempt, b.Done = 2, 2
	again, err := worker.Try(t.Context(), h, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want[2:], summarize(again)); d != "" {
		t.Errorf("results of another attempt (-want +got)\n%s", d)
	}
	if n := count(t, st); n.Documents != 3 || n.Denotations != 5 {
		t.Errorf("stored %+v, want 3 documents with 5 denotations still", n)
	}
}

func TestDefaultSourceDB(t *testing.T) {
	h, _ := open(t)
	b := batchOf(sourced)
	b.DefaultSourceDB = "PubMed"
	got, err := worker.Try(t.Context(), h, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"stored"}, summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
}

func TestSourceIDFromName(t *testing.T) {
	h, st := open(t)
	b := batchOf(`{"sourcedb":"PubMed","text":"no sourceid"}`)
	b.SourceIDFromName = true
	got, err := worker.Try(t.Context(), h, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"stored"}, summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	if n := count(t, st); n.Documents != 1 {
		t.Errorf("stored %+v, want 1 document", n)
	}
}

func TestEarlierAttemptIsFenced(t *testing.T) {
	h, st := open(t)
	late := batchOf(item("1", 3))
	next := late
	next.Attempt = 2
	if _, err := worker.Try(t.Context(), h, next); err != nil {
		t.Fatal(err)
	}
	got, err := worker.Try(t.Context(), h, late)
	if !errors.Is(err, worker.ErrLeaseLost) || !errors.Is(err, store.ErrFenced) || len(got) != 0 {
		t.Errorf("the earlier attempt returned %v and reported %v", err, got)
	}
	if n := count(t, st); n.Denotations != 3 {
		t.Errorf("stored %+v, want 3 denotations", n)
	}
}

func TestLeaseThatHasRunOut(t *testing.T) {
	h, st := open(t)
	ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now().Add(-time.Second), worker.ErrLeaseLost)
	defer cancel()
	got, err := worker.Try(ctx, h, batchOf(item("1", 3)))
	if !errors.Is(err, worker.ErrLeaseLost) || len(got) != 0 {
		t.Errorf("returned %v and reported %v", err, got)
	}
	if n := count(t, st); n.Documents != 0 {
		t.Errorf("stored %+v", n)
	}
}

func TestInterruption(t *testing.T) {
	h, _ := open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(worker.ErrDraining)
	got, err := worker.Try(ctx, h, batchOf(item("1", 3)))
	if !errors.Is(err, worker.ErrDraining) || len(got) != 0 {
		t.Errorf("returned %v and reported %v", err, got)
	}
}

func TestJobsThatCannotBeServed(t *testing.T) {
	h, _ := open(t)
	for name, change := range map[string]func(*worker.Batch){
		`mode "upsert"`:     func(b *worker.Batch) { b.Mode = "upsert" },
		"job's settings":    func(b *worker.Batch) { b.DefaultSourceDB = "a\x01b" },
		"another coordinat": func(b *worker.Batch) { b.ClusterID = "there" },
	} {
		good, b := batchOf(item("1", 1)), batchOf(item("1", 1))
		if _, err := worker.Try(t.Context(), h, good); err != nil {
			t.Fatal(err)
		}
		change(&b)
		if got, err := worker.Try(t.Context(), h, b); err == nil || !strings.Contains(err.Error(), name) || len(got) != 0 {
			t.Errorf("%s: returned %v and reported %v", name, err, got)
		}
	}
}

func TestPrepareRefusesAForeignStore(t *testing.T) {
	first, st := open(t)
	if err := first.Prepare(t.Context(), "here"); err != nil {
		t.Fatal(err)
	}
	other := annotations.New(st, nil)
	if err := other.Prepare(t.Context(), "there"); !errors.Is(err, store.ErrOwner) {
		t.Errorf("returned %v, want %v", err, store.ErrOwner)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

func TestLargeBatchGoesInStretches(t *testing.T) {
	h, st := open(t)
	var items []string
	var want []string
	for i := range 5 {
		long := fmt.Sprintf(`{"sourcedb":"PMC","sourceid":"%d","text":"%s","denotations":[{"span":{"begin":0,"end":9},"obj":"X"}]}`,
			i, strings.Repeat("word ", 400_000))
		items = append(items, long, broken)
		want = append(want, "stored", "rejected, 2 SPAN_OUT_OF_RANGE denotations[0].span.end")
	}
	got, err := worker.Try(t.Context(), h, batchOf(items...))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	if n := count(t, st); n.Documents != 5 || n.Denotations != 5 {
		t.Errorf("stored %+v", n)
	}
}

// realCollection returns the 600 items of BC5CDR, and skips the test where they are absent.
func realCollection(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../../../shared/data/annotations/bc5cdr.jsonl")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("SKIPPED: the real collections are not beside this repository, ../shared/data")
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRealCollection(t *testing.T) {
	data := realCollection(t)
	var items []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		items = append(items, lines.Text())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(items) != 600 {
		t.Fatalf("%d items, want 600", len(items))
	}
	h, st := open(t)
	for round, n := range []int{600, 60} { // again what is there, or a part of it, changes nothing
		b := batchOf(items[:n]...)
		b.ID, b.JobID = int64(round+1), int64(round+1)
		results, err := worker.Try(t.Context(), h, b)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Outcome != worker.Stored && r.Outcome != worker.StoredWithWarnings {
				t.Errorf("item %d: %v", i+1, summarize(results[i:i+1]))
			}
		}
		if total := count(t, st); len(results) != n || total.Annotations() != 11_789 {
			t.Errorf("round %d: %d items, %+v; want %d items and 11789 annotations", round+1, len(results), total, n)
		}
	}
}
