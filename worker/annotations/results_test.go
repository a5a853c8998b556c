package annotations_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/sqlite"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
)

// maker is a handler that makes a result of each item, or of all together, and then ends with an error or without.
type maker struct {
	make func(number int64) worker.Result
	rest *worker.Result
	err  error
}

func (m maker) Handle(_ context.Context, b *worker.Batch) error {
	if m.rest != nil {
		b.ReportRest(*m.rest)
		return m.err
	}
	for _, it := range b.Open() {
		r := m.make(it.Number)
		if r.Outcome == 0 {
			return m.err
		}
		b.Report(r)
	}
	return m.err
}

// made is a result that is stored, with this value.
func made(value string) worker.Result {
	return worker.Result{Outcome: worker.Stored, Value: json.RawMessage(value)}
}

// each makes of the items, in order, these.
func each(results ...worker.Result) maker {
	return maker{make: func(number int64) worker.Result {
		if int(number) > len(results) {
			return worker.Result{}
		}
		return results[number-1]
	}}
}

const found = `{"annotations":{"denotations":[{"span":{"begin":0,"end":5},"obj":"X"}]}}`

// texts are items that a handler makes annotations of.
func texts(n int) []string {
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf(`{"sourcedb":"PubMed","sourceid":%d,"text":"Short %[1]d.","more":1}`, i+1))
	}
	return items
}

// values are those of results.
func values(results []worker.Result) []string {
	var out []string
	for _, r := range results {
		out = append(out, string(r.Value))
	}
	return out
}

// documents are what a project says, in a line each.
func documents(t *testing.T, st store.Store) []string {
	t.Helper()
	var out []string
	for _, it := range export(t, st, "genes") {
		line := []string{it.Key.String(), it.Text}
		for _, d := range it.Denotations {
			line = append(line, fmt.Sprintf("%d-%d %s", d.Begin, d.End, d.Obj))
		}
		out = append(out, strings.Join(line, " "))
	}
	return out
}

func TestResultsThatAreAnnotations(t *testing.T) {
	h, st := open(t)
	warned := worker.Finding{Severity: worker.SeverityWarning, Code: "GUESSED", Path: "text", Message: "It was guessed."}
	b := batchOf(texts(11)...)
	got, err := worker.Try(t.Context(), annotations.NewResults(each(
		made(found),
		made(`{"score":0.5}`),
		made(`{"annotations":{"sourcedb":"PMC","sourceid":"7","text":"Other.","blocks":[{"span":{"begin":0,"end":6},"obj":"Title"}]}}`),
		made(`{"annotations":{"sourcedb":null,"sourceid":null,"text":"Mine.","denotations":[{"span":{"begin":"0","end":4},"obj":"Y"}]}}`),
		made(`{"annotations":{"denotations":[{"span":{"begin":0,"end":50},"obj":"X"}]}}`),
		worker.Result{Outcome: worker.StoredWithWarnings, Findings: []worker.Finding{warned}, Value: json.RawMessage(found)},
		worker.Result{Outcome: worker.Rejected, Findings: []worker.Finding{warned}, Value: json.RawMessage(found)},
		made(`{"annotations":[]}`),
		made(`{"annotations":{"sourceid":"7","denotations":[]}}`),
		made(`{"annotations":{"denotations":[]},"score":0.5}`),
		worker.Result{Outcome: worker.Stored},
	), h), b)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"stored",
		"stored",
		"stored",
		"stored with warnings, 1 COERCED_NUMBER annotations.denotations[0].span.begin",
		"rejected, 2 SPAN_OUT_OF_RANGE annotations.denotations[0].span.end",
		"stored with warnings, 1 GUESSED text",
		"rejected, 1 GUESSED text",
		"rejected, 2 NOT_AN_OBJECT annotations",
		"rejected, 2 MISSING_SOURCEDB annotations.sourcedb, 2 MISSING_TEXT annotations.text",
		"stored",
		"stored",
	}
	if d := cmp.Diff(want, summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	kept := []string{"", `{"score":0.5}`, "", "", "", "", found, "", "", `{"annotations":{"denotations":[]},"score":0.5}`, ""}
	if d := cmp.Diff(kept, values(got)); d != "" {
		t.Errorf("values (-want +got)\n%s", d)
	}
	stored := []string{"PMC:7 Other.", "PubMed:1 Short 1. 0-5 X", "PubMed:4 Mine. 0-4 Y", "PubMed:6 Short 6. 0-5 X"}
	if d := cmp.Diff(stored, documents(t, st)); d != "" {
		t.Errorf("store (-want +got)\n%s", d)
	}

	// Another attempt, which makes something else of what is stored already, changes nothing.
	b.Attempt = 2
	got, err = worker.Try(t.Context(), annotations.NewResults(maker{make: func(int64) worker.Result {
		return made(`{"annotations":{"denotations":[{"span":{"begin":0,"end":1},"obj":"Z"}]}}`)
	}}, h), b)
	if err != nil || got[3].Outcome != worker.StoredWithWarnings {
		t.Errorf("%v, %v", summarize(got), err)
	}
	again := documents(t, st)
	for _, line := range stored {
		if !strings.Contains(strings.Join(again, "\n"), line) {
			t.Errorf("%q is not in the store after another attempt: %q", line, again)
		}
	}
	// And the first one may not go on.
	b.Attempt = 1
	if got, err := worker.Try(t.Context(), annotations.NewResults(each(made(found)), h), b); !errors.Is(err, worker.ErrLeaseLost) || len(got) > 0 {
		t.Errorf("the first attempt reported %v and returned %v", got, err)
	}
}

func TestResultsOfAllTogether(t *testing.T) {
	object := strings.TrimSuffix(strings.TrimPrefix(found, `{"annotations":`), "}")
	warned := worker.Finding{Severity: worker.SeverityWarning, Code: "GUESSED", Message: "It was guessed."}
	for name, test := range map[string]struct {
		value  string
		done   int
		want   []string
		stored []string
		err    string
	}{
		"one each": {value: `{"annotations":[` + object + `,null,3]}`, want: []string{
			"stored with warnings, 1 GUESSED ", "stored with warnings", "rejected, 2 NOT_AN_OBJECT annotations"},
			stored: []string{"PubMed:1 Short 1. 0-5 X"}},
		"what is not done":   {value: `{"annotations":[` + object + `]}`, done: 2, want: []string{"stored with warnings, 1 GUESSED "}, stored: []string{"PubMed:3 Short 3. 0-5 X"}},
		"one for the last":   {value: found, done: 2, want: []string{"stored with warnings, 1 GUESSED "}, stored: []string{"PubMed:3 Short 3. 0-5 X"}},
		"too few":            {value: `{"annotations":[null]}`, err: "of 3 items together, which are to be an array of 3"},
		"one for several":    {value: found, err: "of 3 items together, which are to be an array of 3"},
		"another result":     {value: `{"n":3}`, want: []string{"stored with warnings, 1 GUESSED ", "stored with warnings", "stored with warnings"}},
		"no result whatever": {want: []string{"stored with warnings, 1 GUESSED ", "stored with warnings", "stored with warnings"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, st := open(t)
			b := batchOf(texts(3)...)
			b.Done = test.done
			r := worker.Result{Outcome: worker.StoredWithWarnings, Findings: []worker.Finding{warned}, Value: json.RawMessage(test.value)}
			got, err := worker.Try(t.Context(), annotations.NewResults(maker{rest: &r}, h), b)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, summarize(got)); d != "" {
				t.Errorf("results (-want +got)\n%s", d)
			}
			if d := cmp.Diff(test.stored, documents(t, st)); d != "" {
				t.Errorf("store (-want +got)\n%s", d)
			}
		})
	}
}

func TestResultsThatNobodyCanStore(t *testing.T) {
	h, st := open(t)
	homeless := batchOf(texts(3)...)
	homeless.Project = ""
	results := each(made(`{"score":1}`), made(found), made(`{"score":3}`))
	for name, test := range map[string]struct {
		batch     worker.Batch
		store     *annotations.Handler
		want      string
		permanent bool
	}{
		"no store":   {batchOf(texts(3)...), nil, "item 2 (up.jsonl:2): the result is annotations, and this worker has no store", false},
		"no project": {homeless, h, "item 2 (up.jsonl:2): the result is annotations, and the job has no project", true},
		"neither":    {homeless, nil, "item 2 (up.jsonl:2): the result is annotations, and the job has no project", true},
	} {
		got, err := worker.Try(t.Context(), annotations.NewResults(results, test.store), test.batch)
		if err == nil || !strings.Contains(err.Error(), test.want) || worker.IsPermanent(err) != test.permanent {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff([]string{`{"score":1}`}, values(got)); d != "" {
			t.Errorf("%s: values (-want +got)\n%s", name, d)
		}
		// What only looks like it is a result as any other.
		lists := each(made(`{"annotations":["a"]}`), made(`{"annotations":{},"n":1}`), made(`{"annotations":7}`))
		if got, err := worker.Try(t.Context(), annotations.NewResults(lists, test.store), test.batch); err != nil || len(got) != 3 {
			t.Errorf("%s: %v, %v", name, values(got), err)
		}
	}
	if got := documents(t, st); len(got) > 0 {
		t.Errorf("stored %q", got)
	}
}

// troubled is a store whose writers store only when they may.
type troubled struct {
	store.Store
	before func(ctx context.Context, n int64) error // the n-th call
}

func (s troubled) Writer(ctx context.Context, cluster string) (store.Writer, error) {
	w, err := s.Store.Writer(ctx, cluster)
	return &troubledWriter{Writer: w, before: s.before}, err
}

type troubledWriter struct {
	store.Writer
	before func(ctx context.Context, n int64) error
	calls  atomic.Int64
}

func (w *troubledWriter) Store(ctx context.Context, l store.Lease, j store.Job, entries []store.Entry, durable func([]store.Result)) error {
	if err := w.before(ctx, w.calls.Add(1)); err != nil {
		return err
	}
	return w.Writer.Store(ctx, l, j, entries, durable)
}

// openTroubled returns a handler on a new store of this kind.
func openTroubled(t *testing.T, before func(ctx context.Context, n int64) error) (*annotations.Handler, store.Store) {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "annotations.db"))
	if err != nil {
		t.Fatal(err)
	}
	h := annotations.New(troubled{st, before}, nil)
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), st.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h, st
}

func TestResultsBeforeACrashAreStored(t *testing.T) {
	died := &worker.Crash{Suspect: 2, Signal: "SIGSEGV"}
	makes := each(made(found), made(found))
	makes.err = died
	t.Run("with its store", func(t *testing.T) {
		h, st := open(t)
		got, err := worker.Try(t.Context(), annotations.NewResults(makes, h), batchOf(texts(4)...))
		if crash, ok := errors.AsType[*worker.Crash](err); !ok || crash != died {
			t.Errorf("returned %v, want the crash", err)
		}
		if d := cmp.Diff([]string{"stored", "stored"}, summarize(got)); d != "" {
			t.Errorf("results (-want +got)\n%s", d)
		}
		if n := count(t, st); n.Documents != 2 {
			t.Errorf("stored %+v", n)
		}
	})
	t.Run("while the store is away", func(t *testing.T) {
		// Whose fault it is is seen when the store is there again.
		h, st := openTroubled(t, func(context.Context, int64) error { return store.ErrUnavailable })
		got, err := worker.Try(t.Context(), annotations.NewResults(makes, h), batchOf(texts(4)...))
		if crash, ok := errors.AsType[*worker.Crash](err); ok || !worker.IsUnavailable(err) || len(got) > 0 {
			t.Errorf("reported %v, returned %v with the crash %v", got, err, crash)
		}
		if n := count(t, st); n.Documents != 0 {
			t.Errorf("stored %+v", n)
		}
	})
}

// TestResultsWaitForTheStore checks that what waits to be stored is bounded, and that nothing counts before it is stored.
func TestResultsWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		h, st := openTroubled(t, func(context.Context, int64) error {
			<-goOn
			return nil
		})
		const all = 200
		large := fmt.Sprintf(`{"annotations":{"sourcedb":"PubMed","sourceid":"1","text":"%s"}}`, strings.Repeat("word ", 40_000))
		var handled atomic.Int64
		r := annotations.NewResults(worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			for range b.Open() {
				handled.Add(1)
				b.Report(made(large))
			}
			return nil
		}), h)
		go func() {
			synctest.Wait()
			if n := handled.Load(); n < 20 || n > 100 {
				t.Errorf("the handler made %d results of 200 kB while the store took none", n)
			}
			close(goOn)
		}()
		got, err := worker.Try(t.Context(), r, batchOf(texts(all)...))
		if err != nil || len(got) != all {
			t.Errorf("%d results, %v", len(got), err)
		}
		if n := count(t, st); n.Documents != 1 {
			t.Errorf("stored %+v", n)
		}
	})
}

func TestResultsOfAHandlerThatPanics(t *testing.T) {
	h, _ := open(t)
	makes := maker{make: func(number int64) worker.Result {
		if number > 1 {
			panic("argh")
		}
		return made(found)
	}}
	got, err := worker.Try(t.Context(), annotations.NewResults(makes, h), batchOf(texts(3)...))
	if err == nil || !strings.Contains(err.Error(), "argh") || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestMistakesOfAHandler(t *testing.T) {
	h, _ := open(t)
	for want, makes := range map[string]worker.HandlerFunc{
		"without an outcome": func(_ context.Context, b *worker.Batch) error {
			b.Report(worker.Result{})
			return nil
		},
		"without reporting items 2 to 2": func(_ context.Context, b *worker.Batch) error {
			b.Report(made(found))
			return nil
		},
		"reported 1 items where 0": func(_ context.Context, b *worker.Batch) error {
			b.Report(made(found), made(found), made(found))
			return nil
		},
		"not for a handler to decide": func(_ context.Context, b *worker.Batch) error {
			b.Report(made(found), worker.Result{Outcome: 99})
			return nil
		},
	} {
		if got, err := worker.Try(t.Context(), annotations.NewResults(makes, h), batchOf(texts(2)...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reported %v, returned %v, want %q", got, err, want)
		}
	}
}
