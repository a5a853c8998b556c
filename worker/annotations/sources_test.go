package annotations_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

// library is a document source.
type library struct {
	texts map[string]string

	mu    sync.Mutex
	calls [][]string
	down  func(r *http.Request) bool // whether it does not answer a call; nil: it always does
}

func (l *library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ids []string
	if err := json.NewDecoder(r.Body).Decode(&ids); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	l.calls = append(l.calls, ids)
	down := l.down
	l.mu.Unlock()
	if down != nil && down(r) {
		http.Error(w, "closed today", http.StatusServiceUnavailable)
		return
	}
	answer := map[string]any{"docs": []any{}, "messages": []string{}}
	for _, id := range ids {
		if text, ok := l.texts[id]; ok {
			answer["docs"] = append(answer["docs"].([]any), map[string]string{"sourcedb": "PubMed", "sourceid": id, "text": text})
		} else {
			answer["messages"] = append(answer["messages"].([]string), "There is no "+id+".")
		}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// called returns the calls since it was called last.
func (l *library) called() [][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return calls
}

// sources returns sources with the library as that of PubMed.
func (l *library) sources(t *testing.T, config source.Config) annotations.Sources {
	t.Helper()
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	config.SourceDB, config.URL, config.Rate = "PubMed", server.URL, -1
	s, err := source.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return annotations.Sources{"PubMed": s}
}

// passage is an item with one denotation, of all of its text.
func passage(db, id, text string) string {
	return fmt.Sprintf(`{"sourcedb":%q,"sourceid":%q,"text":%q,"denotations":[{"span":{"begin":0,"end":%d},"obj":"X"}]}`,
		db, id, text, len([]rune(text)))
}

func TestDocumentsComeFromTheirSource(t *testing.T) {
	l := &library{texts: map[string]string{"1": "é one two", "2": "another"}}
	h, st := openWith(t, l.sources(t, source.Config{}))
	b := batchOf(passage("PubMed", "1", "two"), broken, passage("PMC", "1", "of its own"), passage("PubMed", "3", "lost"),
		passage("pubmed", "PMID:1", "one"), passage("PubMed", "2", "another"), passage("PubMed", "3", "also lost"))
	got, err := worker.Try(t.Context(), h, b)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"stored",
		"rejected, 2 SPAN_OUT_OF_RANGE denotations[0].span.end",
		"stored",
		"document missing, 2 DOCUMENT_MISSING sourceid",
		"stored",
		"stored",
		"document missing, 2 DOCUMENT_MISSING sourceid",
	}
	if d := cmp.Diff(want, summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	if m := got[3].Findings[0].Message; !strings.Contains(m, `does not have document PubMed:3. It says: "There is no 3.". Check`) {
		t.Errorf("finding %q", m)
	}
	wantTexts := map[string]string{"PMC:1": "of its own 0", "PubMed:1": "é one two 6 2", "PubMed:2": "another 0"}
	texts := func() map[string]string {
		all := map[string]string{}
		for _, it := range export(t, st, "genes") {
			all[it.Key.String()] = it.Text
			for _, d := range it.Denotations {
				all[it.Key.String()] += fmt.Sprint(" ", d.Begin)
			}
		}
		return all
	}
	if d := cmp.Diff(wantTexts, texts()); d != "" {
		t.Errorf("documents (-want +got)\n%s", d)
	}
	if d := cmp.Diff([][]string{{"1", "3", "2"}}, l.called()); d != "" {
		t.Errorf("calls (-want +got)\n%s", d)
	}

	// Another attempt, in another process, asks only for what is not known, and gives the first answers.
	l.texts["3"] = "not lost, also lost"
	other := annotations.New(st, l.sources(t, source.Config{}))
	b.Attempt = 2
	again, err := worker.Try(t.Context(), other, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, again); d != "" {
		t.Errorf("results of another attempt (-want +got)\n%s", d)
	}
	// In another job they are stored.
	next := batchOf(passage("PubMed", "3", "lost"), passage("PubMed", "1", "two"))
	next.ID, next.JobID = 2, 2
	results, err := worker.Try(t.Context(), other, next)
	if d := cmp.Diff([]string{"stored", "stored"}, summarize(results)); d != "" || err != nil {
		t.Errorf("results of another job (-want +got)\n%s\n%v", d, err)
	}
	if d := cmp.Diff([][]string{{"3"}}, l.called()); d != "" {
		t.Errorf("calls (-want +got)\n%s", d)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

// A source that is down has batches wait, and costs them no attempt; what is stored by then counts.
func TestSourceIsDown(t *testing.T) {
	l := &library{texts: map[string]string{}}
	var items []string
	for i := range 10 {
		l.texts[strconv.Itoa(i)] = fmt.Sprintf("Text of %d.", i)
		items = append(items, passage("PubMed", strconv.Itoa(i), "Text of"))
	}
	calls := 0
	l.down = func(*http.Request) bool { calls++; return calls > 2 }
	h, st := openWith(t, l.sources(t, source.Config{Batch: 3, Patience: time.Millisecond}))
	b := batchOf(items...)
	got, err := worker.Try(t.Context(), h, b)
	if !worker.IsUnavailable(err) || !strings.Contains(err.Error(), `503 Service Unavailable, "closed today"`) {
		t.Errorf("returned %v", err)
	}
	if d := cmp.Diff(slices.Repeat([]string{"stored"}, 6), summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	// What the store has needs no source.
	b.Attempt = 2
	if got, err = worker.Try(t.Context(), h, b); !worker.IsUnavailable(err) || len(got) != 0 {
		t.Errorf("returned %v, %v", got, err)
	}
	known := batchOf(items[:6]...)
	known.ID = 2
	if got, err = worker.Try(t.Context(), h, known); err != nil || len(got) != 6 {
		t.Errorf("returned %v, %v", got, err)
	}
	l.mu.Lock()
	l.down = nil
	l.mu.Unlock()
	b.Attempt, b.Done = 3, 6
	if got, err = worker.Try(t.Context(), h, b); err != nil || len(got) != 4 {
		t.Errorf("returned %v, %v", got, err)
	}
	if n := count(t, st); n.Documents != 10 || n.Denotations != 10 {
		t.Errorf("stored %+v", n)
	}
}

// Whoever ends a batch ends its questions.
func TestQuestionsEndWithTheBatch(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	l := &library{down: func(r *http.Request) bool {
		cancel(worker.ErrDraining)
		<-r.Context().Done()
		return true
	}}
	h, _ := openWith(t, l.sources(t, source.Config{}))
	got, err := worker.Try(ctx, h, batchOf(passage("PubMed", "1", "x")))
	if !errors.Is(err, worker.ErrDraining) || len(got) != 0 {
		t.Errorf("returned %v, %v", got, err)
	}
}

// Large documents do not gather in memory: they are asked for and stored a few at a time.
func TestLargeDocuments(t *testing.T) {
	l := &library{texts: map[string]string{}}
	var items []string
	for i := range 12 {
		id := strconv.Itoa(i)
		l.texts[id] = "Text of " + id + strings.Repeat(" and so on", 1000)
		items = append(items, passage("PubMed", id, "Text of "+id))
	}
	items = append(items, passage("PubMed", "gone", "x"), passage("PubMed", "0", "and so on"))
	h, st := openWith(t, l.sources(t, source.Config{Batch: 8, MaxBytes: 25_000, CacheBytes: 1}))
	got, err := worker.Try(t.Context(), h, batchOf(items...))
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Repeat([]string{"stored"}, 12), "document missing, 2 DOCUMENT_MISSING sourceid", "stored")
	if d := cmp.Diff(want, summarize(got)); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	if n := count(t, st); n.Documents != 12 || n.Denotations != 13 {
		t.Errorf("stored %+v", n)
	}
	asked := map[string]int{}
	for _, ids := range l.called() {
		if len(ids) <= 2 {
			for _, id := range ids {
				asked[id]++
			}
		}
	}
	if asked["0"] != 1 || asked["gone"] != 1 {
		t.Errorf("ids that were asked for in lists that can be answered: %v", asked)
	}
}

// What an item says is looked for in its source's text as in every other.
func TestItemsAreAlignedToTheirSource(t *testing.T) {
	l := &library{texts: map[string]string{"1": "We saw the effect of  TNF-alpha here."}}
	h, st := openWith(t, l.sources(t, source.Config{}))
	got, err := worker.Try(t.Context(), h, batchOf(passage("PubMed", "1", "the effect of TNF-α")))
	if err != nil || len(got) != 1 || got[0].Outcome != worker.Stored {
		t.Fatalf("returned %v, %v", summarize(got), err)
	}
	item := export(t, st, "genes")[0]
	if d := item.Denotations[0]; item.Text[d.Begin:d.End] != "the effect of  TNF-alpha" {
		t.Errorf("the annotation is about %q", item.Text[d.Begin:d.End])
	}
}
