package storetest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// labeled is a document with one denotation.
func labeled(id, obj string) string {
	return fmt.Sprintf(`{"sourcedb":"D","sourceid":%q,"text":"word","denotations":[{"id":"T1","span":{"begin":0,"end":4},"obj":%q}]}`+"\n", id, obj)
}

func testReplace(f *fixture) {
	t := f.T
	f.put(job(1, "mine"), parse(t, labeled("1", "old")+labeled("2", "old")+strings.ReplaceAll(everything, "PubMed", "D3")))
	f.put(job(2, "other"), parse(t, labeled("1", "other")))
	entries := parse(t, labeled("1", "new")+labeled("1", "newer")+`{"sourcedb":"D3","sourceid":"1","text":"Aspirin"}`)
	// In two batches, the further item first: what goes, goes once.
	f.put(job(3, "mine"), entries[1:])
	f.wantExport("mine", labeled("1", "newer")+labeled("2", "old")+`{"sourcedb":"D3","sourceid":"1","text":"Aspirin 𝄞 helps a lot."}`)
	f.put(job(3, "mine"), entries[:1])
	f.wantExport("mine", `{"sourcedb":"D","sourceid":"1","text":"word","denotations":[{"id":"T1","span":{"begin":0,"end":4},"obj":"new"},{"id":"T1.2","span":{"begin":0,"end":4},"obj":"newer"}]}
`+labeled("2", "old")+`{"sourcedb":"D3","sourceid":"1","text":"Aspirin 𝄞 helps a lot."}`)
	f.wantExport("other", labeled("1", "other"))
	counts, err := f.store.Count(t.Context(), "mine")
	if err != nil || counts.Annotations() != 3 {
		t.Errorf("%v, %v", counts, err)
	}
}

func testOlderJob(f *fixture) {
	t := f.T
	older := parse(t, labeled("1", "older")+labeled("2", "older")+labeled("3", "older"))
	f.wantOutcomes(f.put(job(1, "order"), older[:1]), annotation.Stored)
	f.put(job(2, "order"), parse(t, labeled("1", "younger")+labeled("2", "younger")))
	results := f.put(job(1, "order"), older)
	f.wantOutcomes(results, annotation.Stored, annotation.StoredWarnings, annotation.Stored)
	f.wantCodes(results[1], "SUPERSEDED")
	f.wantExport("order", labeled("1", "younger")+labeled("2", "younger")+labeled("3", "older"))
	if diff := gocmp.Diff(results, f.put(job(1, "order"), older)); diff != "" {
		t.Errorf("results (-first +again):\n%s", diff)
	}
	// In another project it is not older than anything.
	f.wantOutcomes(f.put(store.Job{ID: 1, Project: "elsewhere", Mode: store.ModeReplace},
		[]store.Entry{{Number: 9, Item: older[0].Item}}), annotation.Stored)
	f.wantExport("elsewhere", labeled("1", "older"))
	// Its text does not matter any more.
	other := *older[1].Item
	other.Text, other.Length = "another text", 12
	superseded := f.put(job(1, "order"), []store.Entry{{Number: 10, Item: &other}})
	f.wantOutcomes(superseded, annotation.StoredWarnings)
	f.wantCodes(superseded[0], "SUPERSEDED")

	// The text that the older job composes does not depend on what came in between.
	passages := parse(t, word("a", "T1")+word("b", "T2"))
	f.put(job(3, "order"), passages[:1])
	f.put(job(4, "order"), parse(t, word("a", "T9")))
	f.wantOutcomes(f.put(job(3, "order"), passages[1:]), annotation.StoredWarnings)
	got := f.export("order")
	want := `{"sourcedb":"P","sourceid":"1","text":"a\nb","denotations":[{"id":"T9","span":{"begin":0,"end":1},"obj":"Word"}]}`
	if diff := diffItems([]*annotation.Item{parse(t, want)[0].Item}, got[len(got)-1:]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func testClear(f *fixture) {
	t := f.T
	f.put(job(1, "clear"), parse(t, labeled("1", "old")+labeled("2", "old")))
	f.wantOutcomes(f.put(job(2, "clear"), parse(t, `{"sourcedb":"D","sourceid":"1","text":"word","denotations":[]}`)), annotation.Stored)
	f.wantExport("clear", `{"sourcedb":"D","sourceid":"1","text":"word"}
`+labeled("2", "old"))
}

func testViews(f *fixture) {
	t := f.T
	f.put(job(1, "myproject"), parse(t, everything))
	f.put(job(2, "myproject"), parse(t, word("first", "T1")+`{"sourcedb":"P","sourceid":"1","text":"second","blocks":[{"id":"T1","span":{"begin":2,"end":6},"obj":"Rest"}]}`))
	for _, example := range Examples() {
		got, err := f.engine.Query(t.Context(), f.store, example.Query)
		if err != nil {
			t.Errorf("%s: %v", example.Name, err)
			continue
		}
		if diff := gocmp.Diff(example.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", example.Name, diff)
		}
	}
}

func testExportPages(f *fixture) {
	t := f.T
	const documents = 2300
	entries := numbered(t, documents)
	f.put(job(1, "pages"), entries)
	var keys []string
	for _, item := range f.export("pages") {
		keys = append(keys, item.Key.SourceID)
	}
	if len(keys) != documents || !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != documents {
		t.Errorf("%d documents, sorted %v", len(keys), slices.IsSorted(keys))
	}
}

func testExportEnds(f *fixture) {
	t := f.T
	f.put(job(1, "ends"), numbered(t, 10))
	enough := fmt.Errorf("enough")
	seen := 0
	err := f.store.Export(t.Context(), "ends", func(*annotation.Item) error {
		if seen++; seen == 3 {
			return enough
		}
		return nil
	})
	if err != enough || seen != 3 { //nolint:errorlint // it must come back as it is
		t.Errorf("%v after %d documents", err, seen)
	}
	// Reading while another export is under way, and writing.
	err = f.store.Export(t.Context(), "ends", func(*annotation.Item) error {
		if _, err := f.store.Count(t.Context(), "ends"); err != nil {
			return err
		}
		seen++
		f.put(job(int64(seen), "ends"), numbered(t, 1))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// realData returns a file of the data that lies beside the repository, and skips the test where it is absent.
func realData(t *testing.T, name string) []byte {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		t.Fatal("the root of the repository is not above the test")
	}
	data, err := os.ReadFile(filepath.Join(dir, "..", "shared", "data", filepath.FromSlash(name)))
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED: the real data %s is not beside the repository", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func testRealDocuments(f *fixture) {
	t := f.T
	entries := parse(t, string(realData(t, "annotations/bc5cdr.jsonl")))
	for _, id := range []int64{1, 2} { // the second replaces the first by the same
		var group errgroup.Group
		for batch := range slices.Chunk(entries, 70) {
			group.Go(func() error {
				_, err := putBy(t.Context(), f.writer, newLease(), job(id, "bc5cdr"), batch)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		var want []*annotation.Item
		for _, e := range entries {
			want = append(want, e.Item)
		}
		slices.SortFunc(want, func(a, b *annotation.Item) int { return strings.Compare(a.Key.SourceID, b.Key.SourceID) })
		if diff := diffItems(want, f.export("bc5cdr")); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		counts, err := f.store.Count(t.Context(), "bc5cdr")
		if err != nil || counts.Documents != 600 || counts.Annotations() != 11789 {
			t.Errorf("%+v, %v", counts, err)
		}
	}
}

func testRealPassages(f *fixture) {
	t := f.T
	data := string(realData(t, "annotations/PMC-7646410.array.json"))
	entries := parse(t, arrayLines(t, data))
	// Every third batch at first, so that passages come between those that are there.
	batches := slices.Collect(slices.Chunk(entries, 9))
	for offset := range 3 {
		for i := offset; i < len(batches); i += 3 {
			f.put(job(1, "passages"), batches[i])
		}
	}
	f.put(job(2, "in-order"), nil)
	got := f.export("passages")
	if len(got) != 1 || got[0].Annotations() != 4217 || strings.Count(got[0].Text, "\n")+1 < 113 {
		t.Fatalf("%d documents", len(got))
	}
	runes := []rune(got[0].Text)
	surfaces := func(list map[string]int, text []rune, spans []annotation.Span) {
		for _, s := range spans {
			list[s.Obj+" "+string(text[s.Begin:s.End])]++
		}
	}
	want, have := map[string]int{}, map[string]int{}
	for _, e := range entries {
		surfaces(want, []rune(e.Item.Text), e.Item.Denotations)
	}
	surfaces(have, runes, got[0].Denotations)
	if diff := gocmp.Diff(want, have); diff != "" {
		t.Errorf("surfaces (-want +got):\n%s", diff)
	}
	// The same file again, in order and as a younger job, comes to the same.
	f.put(job(3, "passages"), entries)
	if diff := diffItems(got, f.export("passages")); diff != "" {
		t.Errorf("(-in pieces +in order):\n%s", diff)
	}
}
