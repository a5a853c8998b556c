package storetest

import (
	"fmt"
	"slices"
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

// fox is a document; nearFox says nearly the same.
const (
	fox     = `{"sourcedb":"F","sourceid":"1","text":"The quick brown fox – TNF‑α – jumps over the lazy dog."}`
	nearFox = `{"sourcedb":"F","sourceid":"1","text":"The quick brown fox - TNF-alpha - suddenly jumps over a lazy dog .",` +
		`"denotations":[{"id":"T1","span":{"begin":16,"end":19},"obj":"Animal"},{"id":"T2","span":{"begin":22,"end":31},"obj":"Protein"},` +
		`{"id":"T3","span":{"begin":34,"end":42},"obj":"Manner"},{"id":"T4","span":{"begin":54,"end":64},"obj":"Animal"}],` +
		`"blocks":[{"id":"B1","span":{"begin":0,"end":66},"obj":"Sentence"},{"id":"B2","span":{"begin":34,"end":42},"obj":"Word"}],` +
		`"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T4"},{"id":"R2","subj":"T3","pred":"of","obj":"T1"},{"id":"R3","subj":"B1","pred":"has","obj":"B2"}],` +
		`"attributes":[{"id":"A1","subj":"T3","pred":"q"},{"id":"A2","subj":"T1","pred":"q","obj":1},{"id":"A3","subj":"R2","pred":"q"},{"id":"A4","subj":"R1","pred":"q"}]}`
)

// A document that is known does not hold an item's text: it is aligned, and what is lost of it is told.
func testAlignment(f *fixture) {
	t := f.T
	f.put(job(1, "first"), parse(t, fox))
	lost := []string{
		"REFERENCE_LOST attributes[0]", "REFERENCE_LOST attributes[2]", "REFERENCE_LOST relations[1]", "REFERENCE_LOST relations[2]",
		"SPAN_LOST blocks[1].span", "SPAN_LOST denotations[2].span", "SURFACE_CHANGED blocks[0].span", "SURFACE_CHANGED denotations[3].span",
	}
	const kept = `{"sourcedb":"F","sourceid":"1","text":"The quick brown fox – TNF‑α – jumps over the lazy dog.",` +
		`"denotations":[{"id":"T1","span":{"begin":16,"end":19},"obj":"Animal"},{"id":"T2","span":{"begin":22,"end":27},"obj":"Protein"},` +
		`{"id":"T4","span":{"begin":41,"end":53},"obj":"Animal"}],"blocks":[{"id":"B1","span":{"begin":0,"end":54},"obj":"Sentence"}],` +
		`"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T4"}],` +
		`"attributes":[{"id":"A2","subj":"T1","pred":"q","obj":1},{"id":"A4","subj":"R1","pred":"q","obj":true}]}`
	for i, mode := range store.Modes() {
		project := "aligned-" + mode
		first := f.put(in(mode, int64(2+i), project), parse(t, nearFox))
		f.wantOutcomes(first, annotation.StoredWarnings)
		f.wantCodes(first[0], lost...)
		for _, finding := range first[0].Findings {
			want := annotation.Error
			if finding.Code == store.SurfaceChanged {
				want = annotation.Warning
			}
			if finding.Severity != want {
				t.Errorf("%v", finding)
			}
		}
		if got := first[0].Findings[0].Message; !strings.Contains(got, `T3 (34 to 42, "suddenly")`) {
			t.Errorf("the message is %q", got)
		}
		f.wantExport(project, kept)
		// The first answer is kept, whatever is needed now.
		again := in(mode, int64(2+i), project)
		again.MinAlignment = 1
		if diff := gocmp.Diff(first, f.put(again, parse(t, nearFox))); diff != "" {
			t.Errorf("mode %s: results (-first +again):\n%s", mode, diff)
		}
	}
	// Merged into itself it is there once.
	f.wantOutcomes(f.put(in(store.ModeMerge, 10, "aligned-merge"), parse(t, nearFox)), annotation.StoredWarnings)
	f.wantExport("aligned-merge", kept)

	// Too little is rejected, and how much is needed is told.
	strict := job(11, "strict")
	strict.MinAlignment = 0.99
	results := f.put(strict, parse(t, nearFox))
	f.wantOutcomes(results, annotation.Rejected)
	f.wantCodes(results[0], "TEXT_MISMATCH text")
	if got := results[0].Findings[0].Message; !strings.Contains(got, "at least 99 %") || !strings.Contains(got, "F:1") {
		t.Errorf("the message is %q", got)
	}
	for _, share := range []float64{-0.1, 1.1} {
		strict.MinAlignment = share
		if _, err := putBy(t.Context(), f.writer, newLease(), strict, parse(t, nearFox)); err == nil {
			t.Errorf("a share of %v is taken", share)
		}
	}
	f.wantExport("strict", "")
	// A later job has replaced it: nothing is stored, so nothing is lost.
	f.put(job(20, "late"), parse(t, fox))
	results = f.put(job(12, "late"), parse(t, nearFox))
	f.wantOutcomes(results, annotation.StoredWarnings)
	f.wantCodes(results[0], "SUPERSEDED")
}

// Of many that are lost a hundred are listed, and come before warnings.
func testManyLost(f *fixture) {
	t := f.T
	f.put(job(1, "first"), parse(t, fox))
	item := parse(t, nearFox)[0].Item
	for range 150 {
		s := item.Denotations[2]
		s.ID = "X" + strconv.Itoa(len(item.Denotations))
		item.Denotations = append(item.Denotations, s)
	}
	entry := store.Entry{Number: 1, Item: item}
	for range 100 {
		entry.Warnings = append(entry.Warnings, annotation.Finding{Code: "W", Severity: annotation.Warning, Path: "text", Message: "w"})
	}
	results := f.put(job(2, "many"), []store.Entry{entry})
	f.wantOutcomes(results, annotation.StoredWarnings)
	list := results[0].Findings
	if n := len(list); n != annotation.DefaultMaxFindings+1 || list[0].Code != store.SpanLost || list[n-2].Code != store.SpanLost {
		t.Errorf("%d findings: %v, …, %v", n, list[0], list[n-1])
	}
	if got := list[len(list)-1].Message; !strings.Contains(got, "158 more") {
		t.Errorf("the last one is %q", got)
	}
	if n := len(f.export("many")[0].Denotations); n != 3 {
		t.Errorf("%d denotations are stored, want 3", n)
	}
}

// Items that are the same after mapping characters take successive places, in whatever order they come.
func testAlignedSuccessively(f *fixture) {
	t := f.T
	f.put(job(1, "first"), parse(t, `{"sourcedb":"P","sourceid":"1","text":"IL–2 and, IL–2 or, il‐2"}`))
	entries := parse(t, word("IL-2", "T1")+word("and", "T2")+word("IL-2", "T3")+word("or", "T4")+word("IL-2", "T5")+word("and", "T6")+word("IL-2", "T7"))
	for i, order := range [][]int{{0, 1, 2, 3, 4, 5, 6}, {6, 4, 2, 0, 1, 3, 5}, {2, 6, 0, 5, 4, 3, 1}} {
		j := job(int64(i+2), fmt.Sprintf("successive-%d", i))
		for _, n := range order {
			f.wantOutcomes(f.put(j, entries[n:n+1]), annotation.Stored)
		}
		var got [][2]int
		for _, d := range f.export(j.Project)[0].Denotations {
			got = append(got, [2]int{d.Begin, d.End})
		}
		if diff := gocmp.Diff([][2]int{{0, 4}, {5, 8}, {10, 14}, {15, 17}, {19, 23}, {5, 8}, {19, 23}}, got); diff != "" {
			t.Errorf("order %v (-want +got):\n%s", order, diff)
		}
	}
}

// A document's text changes when items were aligned to it: a job that composes it is tried again by hand. They stay where
// their text is.
func testAlignedAndComposed(f *fixture) {
	t := f.T
	composing := parse(t, word("The first passage.", "T1")+word("The second passage.", "T2")+word("The third passage.", "T3"))
	f.put(job(1, "composing"), []store.Entry{composing[0], composing[2]})
	near := parse(t, word("THE FIRST PASSAGE.", "T1")+word("The third passages", "T2")+word("THE THIRD PASSAGE.", "T3"))
	f.wantOutcomes(f.put(job(2, "aligned"), near), annotation.Stored, annotation.StoredWarnings, annotation.Stored)
	want := func(text string, at ...[2]int) {
		t.Helper()
		item := f.export("aligned")[0]
		var got [][2]int
		for _, d := range item.Denotations {
			got = append(got, [2]int{d.Begin, d.End})
		}
		if diff := gocmp.Diff(at, got); diff != "" || item.Text != text {
			t.Errorf("in %q, want %q (-want +got):\n%s", item.Text, text, diff)
		}
	}
	want("The first passage.\nThe third passage.", [2]int{0, 18}, [2]int{19, 36}, [2]int{19, 37})
	f.put(job(1, "composing"), composing[1:2])
	want("The first passage.\nThe second passage.\nThe third passage.", [2]int{0, 18}, [2]int{39, 56}, [2]int{39, 57})
	f.put(job(2, "aligned"), []store.Entry{{Number: 4, Item: parse(t, word("the SECOND passage.", "T4"))[0].Item}})
	want("The first passage.\nThe second passage.\nThe third passage.", [2]int{0, 18}, [2]int{39, 56}, [2]int{39, 57}, [2]int{19, 38})
	// The composing job is forgotten, and what is aligned stays.
	f.forget(10, 1)
	f.wantOutcomes(f.put(job(3, "others"), parse(t, word("the SECOND passage.", "T4"))), annotation.Stored)
	want("The first passage.\nThe second passage.\nThe third passage.", [2]int{0, 18}, [2]int{39, 56}, [2]int{39, 57}, [2]int{19, 38})
	f.forget(10, 2)
	want("The first passage.\nThe second passage.\nThe third passage.", [2]int{0, 18}, [2]int{39, 56}, [2]int{39, 57}, [2]int{19, 38})
}

// nearTexts are texts that align with each other, some of them not well.
var nearTexts = rapid.SampledFrom([]string{
	"IL-2", "IL–2", "il‐2", "TNF-α", "TNF-alpha", "TNF‑ALPHA", "a b", "a  b", "A\u00a0B",
	"The quick brown fox jumps over the lazy dog.", "The quick brown fox suddenly jumps over a dog .", "It jumps over the lazy dogs!", "Résumé 𝄞", "re\u0301sume\u0301 𝄞", "xyz",
})

func drawNear(t *rapid.T, key annotation.Key) *annotation.Item {
	text := nearTexts.Draw(t, "text")
	item := &annotation.Item{Key: key, Text: text, Length: utf8.RuneCountInString(text)}
	for i := range rapid.IntRange(0, 3).Draw(t, "denotations") {
		begin := rapid.IntRange(0, item.Length-1).Draw(t, "begin")
		item.Denotations = append(item.Denotations, annotation.Span{
			ID: "T" + strconv.Itoa(i+1), Begin: begin, End: rapid.IntRange(begin+1, item.Length).Draw(t, "end"), Obj: "O",
			Unnamed: rapid.Bool().Draw(t, "unnamed"),
		})
	}
	if len(item.Denotations) > 1 {
		item.Relations = []annotation.Relation{{ID: "R1", Subj: "T1", Pred: "p", Obj: "T2"}}
		item.Attributes = []annotation.Attribute{{ID: "A1", Subj: "R1", Pred: "q", Value: annotation.BoolValue(true)}}
	}
	return item
}

// testAlignedInAnyOrder compares what concurrent writers, whose attempts may die, leave of items that are aligned with what
// one batch in order leaves, and what is told of each item.
func testAlignedInAnyOrder(f *fixture) {
	t := f.T
	writers := []store.Writer{f.writer, f.newWriter(f.again())}
	base := int64(0)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		if runs++; underRace && runs > racedInterleavings {
			return
		}
		base += 4
		text := strings.Join(rapid.SliceOfN(nearTexts, 1, 6).Draw(t, "document"), "\n")
		mode := rapid.SampledFrom([]string{store.ModeReplace, store.ModeAdd, store.ModeMerge}).Draw(t, "mode")
		w := whole{job: in(mode, 0, "/a")}
		for number := range rapid.Int64Range(1, 10).Draw(t, "items") {
			w.entries = append(w.entries, store.Entry{Number: number + 1, Item: drawNear(t, annotation.Key{SourceID: "1"})})
		}
		var told [2]map[int64]string
		var exports [2][]*annotation.Item
		for i, order := range []string{"in-order", "at-once"} {
			db := fmt.Sprintf("near-%s-%d", order, base)
			key := annotation.Key{SourceDB: db, SourceID: "1"}
			document := &annotation.Item{Key: key, Text: text, Length: utf8.RuneCountInString(text)}
			if _, err := putBy(f.Context(), f.writer, newLease(), job(base+int64(i), db), []store.Entry{{Number: 1, Item: document}}); err != nil {
				t.Fatal(err)
			}
			told[i] = make(map[int64]string)
			w := w.into(db, base+2+int64(i))
			portions := []portion{{whole: w}}
			if i == 1 {
				portions = drawPortions(t, []whole{w})
			}
			var mu sync.Mutex
			var group errgroup.Group
			group.SetLimit(rapid.IntRange(1, len(writers)).Draw(t, "writers"))
			for n, p := range portions {
				group.Go(func() error {
					results, err := p.put(f.Context(), writers[n%len(writers)])
					mu.Lock()
					defer mu.Unlock()
					for k, r := range results {
						told[i][p.entries[k].Number] = tale(r)
					}
					return err
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			items, err := exportOf(f.Context(), f.store, w.job.Project)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range items {
				item.Key.SourceDB = ""
			}
			exports[i] = items
		}
		for _, item := range exports[0] {
			stored := *item
			stored.Key.SourceDB = "F"
			if _, findings := (annotation.Options{}).Parse(stored.AppendJSON(nil)); annotation.HasError(findings) {
				t.Errorf("what is stored of it is not valid: %v", findings)
			}
		}
		if diff := gocmp.Diff(told[0], told[1]); diff != "" {
			t.Errorf("in %q (-in order +at once):\n%s", text, strings.ReplaceAll(diff, "in-order", "at-once"))
		}
		if diff := diffItems(exports[0], exports[1]); diff != "" {
			t.Fatalf("in %q (-in order +at once):\n%s", text, diff)
		}
	})
}

// tale is what is told of an item, but for the ids that have changed: who is told that depends on the order.
func tale(r store.Result) string {
	outcome := "not stored: "
	if r.Outcome == annotation.Stored || r.Outcome == annotation.StoredWarnings {
		outcome = "stored: "
	}
	findings := slices.DeleteFunc(slices.Clone(r.Findings), func(f annotation.Finding) bool { return f.Code == store.IDChanged })
	for i := range findings {
		if findings[i].Code == store.TextMismatch {
			findings[i].Message = "" // it names the document
		}
	}
	return outcome + fmt.Sprint(findings)
}

// The part of a span array that is lost is told by its place in the item, and so are its ties.
func testLostPart(f *fixture) {
	f.put(job(1, "first"), parse(f, fox))
	results := f.put(job(2, "parts"), parse(f, `{"sourcedb":"F","sourceid":"1","text":"The quick brown fox - TNF-alpha - suddenly jumps over a lazy dog .",`+
		`"denotations":[{"id":"T0","begin":4,"end":9,"obj":"Quality"},`+
		`{"id":"T1","span":[{"begin":16,"end":19},{"begin":34,"end":42},{"begin":43,"end":48}],"obj":"Event"}]}`))
	f.wantOutcomes(results, annotation.StoredWarnings)
	f.wantCodes(results[0], "SPAN_LOST denotations[1].span[1]", "REFERENCE_LOST denotations[1].span[0]", "REFERENCE_LOST denotations[1].span[1]")
	f.wantExport("parts", `{"sourcedb":"F","sourceid":"1","text":"The quick brown fox – TNF‑α – jumps over the lazy dog.","denotations":[`+
		`{"id":"T0","span":{"begin":4,"end":9},"obj":"Quality"},{"id":"T1","span":{"begin":30,"end":35},"obj":"Event"},`+
		`{"id":"T1-1","span":{"begin":16,"end":19},"obj":"_FRAGMENT"}]}`)
}
