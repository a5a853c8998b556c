package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// given is a text as a source gives it.
func given(text string) *store.Given {
	return &store.Given{Text: text, Length: utf8.RuneCountInString(text)}
}

// missing is the lack of one.
func missing(message string) *store.Given {
	return &store.Given{Missing: annotation.Finding{Code: store.DocumentMissing, Severity: annotation.Error, Message: message}}
}

// giving returns entries to whose documents a source gives texts, by sourceid.
func giving(entries []store.Entry, texts map[string]*store.Given) []store.Entry {
	for i := range entries {
		entries[i].Given = texts[entries[i].Item.Key.SourceID]
	}
	return entries
}

// A document that is unknown has the text that its source gives, whatever its items say.
func testGivenBySource(f *fixture) {
	t := f.T
	texts := map[string]*store.Given{"1": given("é one two one 𝄞")}
	lines := word("two", "T1") + word("one", "T2") + word("1 + 1", "T3") + word("é one two one 𝄞", "T4") +
		`{"sourcedb":"P","sourceid":"2","text":"of its own","denotations":[{"id":"T1","span":{"begin":0,"end":2},"obj":"Word"}]}`
	results := f.put(job(1, "given"), giving(parse(t, lines), texts))
	f.wantOutcomes(results, annotation.Stored, annotation.Stored, annotation.Rejected, annotation.Stored, annotation.Stored)
	want := `{"sourcedb":"P","sourceid":"1","text":"é one two one 𝄞","denotations":[{"id":"T1","span":{"begin":6,"end":9},"obj":"Word"},{"id":"T2","span":{"begin":10,"end":13},"obj":"Word"},{"id":"T4","span":{"begin":0,"end":15},"obj":"Word"}]}
{"sourcedb":"P","sourceid":"2","text":"of its own","denotations":[{"id":"T1","span":{"begin":0,"end":2},"obj":"Word"}]}`
	f.wantExport("given", want)

	// From then on it is known: nobody composes it, and what a source says now does not count.
	f.wantOutcomes(f.put(job(1, "given"), []store.Entry{{Number: 6, Item: parse(t, word("1 + 2", "T5"))[0].Item}}), annotation.Rejected)
	changed := giving(parse(t, word("one two", "T1")), map[string]*store.Given{"1": given("one two")})
	f.wantOutcomes(f.put(job(2, "later"), changed), annotation.Stored)
	f.wantExport("later", `{"sourcedb":"P","sourceid":"1","text":"é one two one 𝄞","denotations":[{"id":"T1","span":{"begin":2,"end":9},"obj":"Word"}]}`)
	gone := giving(parse(t, word("two one", "T1")), map[string]*store.Given{"1": missing("It is gone.")})
	f.wantOutcomes(f.put(job(3, "gone"), gone), annotation.Stored)
	f.wantExport("given", want)

	// That jobs are forgotten changes no text.
	f.forget(1, 1, 2, 3)
	f.wantExport("given", want)
}

// The source lacks a document: its items have an outcome of their own, and nothing else notices.
func testMissingAtSource(f *fixture) {
	t := f.T
	f.put(job(1, "missing"), parse(t, `{"sourcedb":"P","sourceid":"3","text":"there"}`))
	texts := map[string]*store.Given{"1": given("a b"), "2": missing("It says: no.")}
	lines := strings.ReplaceAll(word("a", "T1")+word("b", "T2")+word("c", "T3")+word("b", "T4"), `"1"`, `"%s"`)
	lines = fmt.Sprintf(lines, "1", "2", "2", "1")
	for i, mode := range store.Modes() {
		j := job(int64(i+2), "missing")
		j.Mode = mode
		results := f.put(j, giving(parse(t, lines), texts))
		others := annotation.Stored
		switch mode {
		case store.ModeSkip:
			others = annotation.Skipped
		case store.ModeAdd:
			others = annotation.StoredWarnings // their ids are taken
		}
		f.wantOutcomes(results, others, annotation.DocumentMissing, annotation.DocumentMissing, others)
		for _, r := range results[1:3] {
			if diff := gocmp.Diff([]annotation.Finding{texts["2"].Missing}, r.Findings); diff != "" {
				t.Errorf("mode %s: findings (-want +got):\n%s", mode, diff)
			}
		}
		// The answer is final: another attempt gives it again, whatever the source says then.
		again := giving(parse(t, lines), map[string]*store.Given{"1": given("a b"), "2": given("b c")})
		if diff := gocmp.Diff(results, f.put(j, again)); diff != "" {
			t.Errorf("mode %s: results (-first +again):\n%s", mode, diff)
		}
	}
	if n := len(f.export("missing")); n != 2 {
		t.Errorf("the project has %d documents, want 2", n)
	}
	// Nothing is left of it in the way of who knows better.
	f.wantOutcomes(f.put(job(9, "later"), giving(parse(t, fmt.Sprintf(strings.ReplaceAll(word("c", "T1"), `"1"`, `"%s"`), "2")),
		map[string]*store.Given{"2": given("b c")})), annotation.Stored)
	f.wantExport("later", `{"sourcedb":"P","sourceid":"2","text":"b c","denotations":[{"id":"T1","span":{"begin":2,"end":3},"obj":"Word"}]}`)

	// Warnings of the validation stay, behind the reason.
	warned := giving(parse(t, `{"sourcedb":"P","sourceid":"4","text":"x","tracks":[1]}`), map[string]*store.Given{"4": missing("No.")})
	f.wantCodes(f.put(job(10, "later"), warned)[0], "DOCUMENT_MISSING", "IGNORED_KEY tracks")
}

func testUnknown(f *fixture) {
	t := f.T
	f.put(job(1, "known"), parse(t, `{"sourcedb":"P","sourceid":"a","text":"x"}
{"sourcedb":"P","sourceid":"é","text":"x"}
{"sourcedb":"Q","sourceid":"b","text":"x"}`))
	// An item that is rejected leaves no document behind.
	f.wantOutcomes(f.put(job(2, "known"), giving(parse(t, word("y", "T1")), map[string]*store.Given{"1": given("é")})), annotation.Rejected)
	key := func(db, id string) annotation.Key { return annotation.Key{SourceDB: db, SourceID: id} }
	got, err := f.writer.Unknown(t.Context(), []annotation.Key{
		key("P", "b"), key("P", "a"), key("P", "A"), key("Q", "b"), key("P", "é"), key("P", "1"), key("P", "b"),
	})
	if diff := gocmp.Diff([]annotation.Key{key("P", "b"), key("P", "A"), key("P", "1"), key("P", "b")}, got); diff != "" || err != nil {
		t.Errorf("unknown (-want +got):\n%s\n%v", diff, err)
	}
	if got, err := f.writer.Unknown(t.Context(), nil); len(got) != 0 || err != nil {
		t.Errorf("of no keys: %v, %v", got, err)
	}
}

// What a source gives is checked like all else.
func testGivenMisuse(f *fixture) {
	t := f.T
	for name, g := range map[string]*store.Given{
		"nothing":           {},
		"both":              {Text: "x", Length: 1, Missing: missing("No.").Missing},
		"a length too many": {Length: 1, Missing: missing("No.").Missing},
		"no length":         {Text: "x"},
		"a warning":         {Missing: annotation.Finding{Code: "X", Severity: annotation.Warning}},
		"too much":          given(strings.Repeat("x", store.MaxDocumentBytes+1)),
	} {
		entries := giving(parse(t, word("x", "T1")), map[string]*store.Given{"1": g})
		if results, err := putBy(t.Context(), f.writer, newLease(), job(1, "misuse"), entries); err == nil {
			t.Errorf("%s is taken: %v", name, results)
		}
	}
}

// testGivenInAnyOrder compares what concurrent writers leave of items whose documents have given texts, or none, with what
// one batch in order leaves, and what becomes of each item.
func testGivenInAnyOrder(f *fixture) {
	t := f.T
	writers := []store.Writer{f.writer, f.newWriter(f.again()), f.newWriter(f.again())}
	texts := map[string]*store.Given{"1": given("a é𝄞 ab\nb a"), "2": missing("No."), "3": given("b")}
	jobs := int64(0)
	rapid.Check(t, func(t *rapid.T) {
		jobs += 2
		inOrder, atOnce := job(jobs, fmt.Sprintf("in-order-%d", jobs)), job(jobs+1, fmt.Sprintf("at-once-%d", jobs))
		var entries, others []store.Entry
		for number := range rapid.Int64Range(1, 10).Draw(t, "items") {
			id := strconv.Itoa(rapid.IntRange(1, 4).Draw(t, "document"))
			item := drawItem(t, annotation.Key{SourceDB: inOrder.Project, SourceID: id})
			entries = append(entries, store.Entry{Number: number + 1, Item: item})
			other := *item
			other.Key.SourceDB = atOnce.Project
			others = append(others, store.Entry{Number: number + 1, Item: &other})
		}
		results, err := putBy(f.Context(), f.writer, newLease(), inOrder, giving(entries, texts))
		if err != nil {
			t.Fatal(err)
		}
		var lock sync.Mutex
		got := map[int64]string{}
		var group errgroup.Group
		others = rapid.Permutation(giving(others, texts)).Draw(t, "order")
		for i := 0; len(others) > 0; i++ {
			n := rapid.IntRange(1, min(4, len(others))).Draw(t, "batch")
			batch := byNumber(others[:n])
			others = others[n:]
			group.Go(func() error {
				results, err := putBy(f.Context(), writers[i%len(writers)], newLease(), atOnce, batch)
				lock.Lock()
				defer lock.Unlock()
				for k, r := range results {
					got[batch[k].Number] = ending(r)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		want := map[int64]string{}
		for k, r := range results {
			want[entries[k].Number] = ending(r)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("outcomes (-in order +at once):\n%s", diff)
		}
		wantItems, err := exportOf(f.Context(), f.store, inOrder.Project)
		if err != nil {
			t.Fatal(err)
		}
		gotItems, err := exportOf(f.Context(), f.store, atOnce.Project)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range wantItems {
			item.Key.SourceDB = atOnce.Project
		}
		if diff := diffItems(wantItems, gotItems); diff != "" {
			t.Fatalf("(-in order +at once):\n%s", diff)
		}
	})
}

// ending tells whether an item was stored, and if not why. Who is told that an id has changed depends on the order.
func ending(r store.Result) string {
	switch r.Outcome {
	case annotation.Stored, annotation.StoredWarnings:
		return "stored"
	default:
		return fmt.Sprintf("outcome %d: %s", r.Outcome, r.Findings[0].Code)
	}
}
