package storetest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// word is a passage of one word, annotated as a whole under an id.
func word(text, id string) string {
	return fmt.Sprintf(`{"sourcedb":"P","sourceid":"1","text":%q,"denotations":[{"id":%q,"span":{"begin":0,"end":%d},"obj":"Word"}]}`+"\n",
		text, id, len([]rune(text)))
}

func testPassages(f *fixture) {
	t := f.T
	for i, test := range []struct {
		name   string
		words  []string
		order  []int // item numbers, a transaction each
		text   string
		begins []int // by item number
	}{
		{"in order", []string{"a", "bb", "ccc"}, []int{1, 2, 3}, "a\nbb\nccc", []int{0, 2, 5}},
		{"reversed", []string{"a", "bb", "ccc"}, []int{3, 2, 1}, "a\nbb\nccc", []int{0, 2, 5}},
		{"middle last", []string{"a", "é𝄞", "ccc"}, []int{1, 3, 2}, "a\né𝄞\nccc", []int{0, 2, 5}},
		{"same as predecessor", []string{"a", "a", "b"}, []int{1, 2, 3}, "a\nb", []int{0, 0, 2}},
		{"same as successor", []string{"a", "a", "b"}, []int{3, 2, 1}, "a\nb", []int{0, 0, 2}},
		{"again later", []string{"a", "b", "a"}, []int{1, 2, 3}, "a\nb\na", []int{0, 2, 4}},
		{"between two equal ones", []string{"a", "b", "a"}, []int{1, 3, 2}, "a\nb\na", []int{0, 2, 4}},
		{"between four equal ones", []string{"a", "a", "b", "a", "a"}, []int{5, 1, 2, 4, 3}, "a\nb\na", []int{0, 0, 2, 4, 4}},
		{"part of another", []string{"ab", "b", "a"}, []int{1, 2, 3}, "ab\nb\na", []int{0, 3, 5}},
	} {
		project := fmt.Sprintf("passages-%d", i)
		var lines strings.Builder
		for n, w := range test.words {
			lines.WriteString(word(w, fmt.Sprintf("T%d", n+1)))
		}
		entries := parse(t, lines.String())
		for _, e := range entries {
			e.Item.Key.SourceID = project
		}
		for _, number := range test.order {
			f.wantOutcomes(f.put(job(1+int64(i), project), entries[number-1:number]), annotation.Stored)
		}
		want := &annotation.Item{Key: entries[0].Item.Key, Text: test.text, Length: len([]rune(test.text))}
		for n, begin := range test.begins {
			want.Denotations = append(want.Denotations, annotation.Span{
				ID: fmt.Sprintf("T%d", n+1), Begin: begin, End: begin + len([]rune(test.words[n])), Obj: "Word",
			})
		}
		if diff := diffItems([]*annotation.Item{want}, f.export(project)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

var (
	drawText = rapid.SampledFrom([]string{"a", "ab", "b", "ab\nb", "é𝄞", "é𝄞 ab", "long enough for a word or two"})
	drawID   = rapid.SampledFrom([]string{"T1", "T2", "T3", "T1.2", "T1.3", "T2.3"})
)

// drawItem makes an item whose annotations refer to each other.
func drawItem(t *rapid.T, key annotation.Key) *annotation.Item {
	item := &annotation.Item{Key: key, Text: drawText.Draw(t, "text")}
	item.Length = len([]rune(item.Text))
	spans := rapid.SliceOfNDistinct(drawID, 0, 4, rapid.ID).Draw(t, "spans")
	for i, id := range spans {
		begin := rapid.IntRange(0, item.Length-1).Draw(t, "begin")
		span := annotation.Span{ID: id, Begin: begin, End: rapid.IntRange(begin+1, item.Length).Draw(t, "end"), Obj: "O"}
		if i%3 == 2 {
			item.Blocks = append(item.Blocks, span)
		} else {
			item.Denotations = append(item.Denotations, span)
		}
	}
	if len(item.Denotations) > 1 {
		subj, obj := item.Denotations[0].ID, item.Denotations[1].ID
		for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"R1", "R2", "T1"}), 0, 2, rapid.ID).Draw(t, "relations") {
			item.Relations = append(item.Relations, annotation.Relation{ID: id, Subj: subj, Pred: "p", Obj: obj})
		}
	}
	for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"A1", "A2"}), 0, 2, rapid.ID).Draw(t, "attributes") {
		switch {
		case len(item.Relations) > 0 && id == "A2":
			item.Attributes = append(item.Attributes, annotation.Attribute{ID: id, Subj: item.Relations[0].ID, Pred: "q", Value: annotation.BoolValue(false)})
		case len(spans) > 0:
			item.Attributes = append(item.Attributes, annotation.Attribute{ID: id, Subj: spans[0], Pred: "q", Value: annotation.StringValue("v")})
		}
	}
	return item
}

// testPassagesInAnyOrder compares what concurrent writers leave of a job's items, cut into batches at random, stored in
// any order and more than once, with what one batch in order leaves.
func testPassagesInAnyOrder(f *fixture) {
	t := f.T
	writers := []store.Writer{f.writer, f.newWriter(f.again()), f.newWriter(f.again())}
	jobs := int64(0)
	rapid.Check(t, func(t *rapid.T) {
		jobs += 2
		inOrder, atOnce := job(jobs, fmt.Sprintf("in-order-%d", jobs)), job(jobs+1, fmt.Sprintf("at-once-%d", jobs))
		var entries, others []store.Entry
		for number := range rapid.Int64Range(1, 10).Draw(t, "items") {
			id := strconv.Itoa(rapid.IntRange(1, 2).Draw(t, "document"))
			item := drawItem(t, annotation.Key{SourceDB: inOrder.Project, SourceID: id})
			entries = append(entries, store.Entry{Number: number + 1, Item: item})
			other := *item
			other.Key.SourceDB = atOnce.Project
			others = append(others, store.Entry{Number: number + 1, Item: &other})
		}
		if _, err := putBy(f.Context(), f.writer, newLease(), inOrder, entries); err != nil {
			t.Fatal(err)
		}

		others = append(rapid.Permutation(others).Draw(t, "order"), rapid.SliceOfN(rapid.SampledFrom(others), 0, 3).Draw(t, "repeated")...)
		var group errgroup.Group
		group.SetLimit(rapid.IntRange(1, len(writers)).Draw(t, "writers"))
		for i := 0; len(others) > 0; i++ {
			n := rapid.IntRange(1, min(4, len(others))).Draw(t, "batch")
			batch := distinct(byNumber(others[:n]))
			others = others[n:]
			group.Go(func() error {
				_, err := putBy(f.Context(), writers[i%len(writers)], newLease(), atOnce, batch)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}

		want, err := exportOf(f.Context(), f.store, inOrder.Project)
		if err != nil {
			t.Fatal(err)
		}
		got, err := exportOf(f.Context(), f.store, atOnce.Project)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range want {
			item.Key.SourceDB = atOnce.Project
		}
		if diff := diffItems(want, got); diff != "" {
			t.Fatalf("(-in order +at once):\n%s", diff)
		}
	})
}

// distinct leaves out repetitions of a number.
func distinct(entries []store.Entry) []store.Entry {
	var list []store.Entry
	for _, e := range entries {
		if len(list) == 0 || list[len(list)-1].Number != e.Number {
			list = append(list, e)
		}
	}
	return list
}

func testGivenText(f *fixture) {
	t := f.T
	f.put(job(1, "first"), parse(t, `{"sourcedb":"P","sourceid":"1","text":"é one two one 𝄞"}`))
	results := f.put(job(2, "second"), parse(t, word("é one two one 𝄞", "T1")+word("one", "T2")+word("one ", "T3")+word("1 + 1", "T4")+
		word("one", "T5")+word("é one two one 𝄞 ", "T6")+word("𝄞", "T7")))
	f.wantOutcomes(results, annotation.Stored, annotation.Stored, annotation.Stored, annotation.Rejected,
		annotation.Stored, annotation.Stored, annotation.Stored)
	f.wantCodes(results[3], "TEXT_MISMATCH text")
	if !strings.Contains(results[3].Findings[0].Message, "P:1") {
		t.Errorf("the finding does not name the document: %v", results[3].Findings[0])
	}
	f.wantExport("second", `{"sourcedb":"P","sourceid":"1","text":"é one two one 𝄞","denotations":[{"id":"T1","span":{"begin":0,"end":15},"obj":"Word"},{"id":"T2","span":{"begin":2,"end":5},"obj":"Word"},{"id":"T3","span":{"begin":10,"end":14},"obj":"Word"},{"id":"T5","span":{"begin":10,"end":13},"obj":"Word"},{"id":"T6","span":{"begin":0,"end":15},"obj":"Word"},{"id":"T7","span":{"begin":14,"end":15},"obj":"Word"}]}`)
	f.wantExport("first", `{"sourcedb":"P","sourceid":"1","text":"é one two one 𝄞"}`)
	// A rejected item leaves no trace of its job.
	f.wantOutcomes(f.put(job(3, "third"), parse(t, word("xyzzy", "T1"))), annotation.Rejected)
	f.wantExport("third", "")
	f.wantOutcomes(f.put(job(4, "second"), parse(t, word("xyzzy", "T1"))), annotation.Rejected)
	if n := len(f.export("second")[0].Denotations); n != 6 {
		t.Errorf("a rejected item replaces: %d denotations are left", n)
	}
}

// The same passages once more come to lie in the same places, in whatever order.
func testSecondJobOnPassages(f *fixture) {
	t := f.T
	lines := word("ab", "T1") + word("b", "T2") + word("b", "T3") + word("a", "T4") + word("b", "T5") + word("a b", "T6")
	f.put(job(1, "one"), parse(t, lines))
	want := f.export("one")
	for i, project := range []string{"two", "one"} {
		entries := parse(t, lines)
		rand.New(rand.NewPCG(uint64(i), 1)).Shuffle(len(entries), func(a, b int) { entries[a], entries[b] = entries[b], entries[a] })
		for _, e := range entries {
			f.wantOutcomes(f.put(job(int64(2+i), project), []store.Entry{e}), annotation.Stored)
		}
		if diff := diffItems(want, f.export(project)); diff != "" {
			t.Errorf("project %s (-want +got):\n%s", project, diff)
		}
	}
}

// What other jobs said of a document whose passages still arrive moves along with the words it is about.
func testOtherJobsFollow(f *fixture) {
	t := f.T
	composing := job(1, "composing")
	passages := parse(t, word("first", "T1")+word("second", "T2")+word("third", "T3")+word("fourth", "T4"))
	f.put(composing, []store.Entry{passages[1], passages[3]})
	f.put(job(2, "before"), parse(t, word("second", "T1")))
	f.put(job(3, "behind"), parse(t, word("four", "T1")))
	f.put(job(4, "across"), parse(t, `{"sourcedb":"P","sourceid":"1","text":"second\nfourth","denotations":[{"id":"T1","span":{"begin":0,"end":6},"obj":"Word"},{"id":"T2","span":{"begin":0,"end":13},"obj":"All"},{"id":"T3","span":{"begin":7,"end":13},"obj":"Word"}]}`))
	f.put(composing, passages[2:3])
	f.put(composing, passages[:1])
	// Nothing holds the words of "across" together any more, so they are a passage of their own.
	text := `{"sourcedb":"P","sourceid":"1","text":"first\nsecond\nthird\nfourth\nsecond\nfourth","denotations":`
	f.wantExport("before", text+`[{"id":"T1","span":{"begin":6,"end":12},"obj":"Word"}]}`)
	f.wantExport("behind", text+`[{"id":"T1","span":{"begin":19,"end":23},"obj":"Word"}]}`)
	f.wantExport("across", text+`[{"id":"T1","span":{"begin":26,"end":32},"obj":"Word"},{"id":"T2","span":{"begin":26,"end":39},"obj":"All"},{"id":"T3","span":{"begin":33,"end":39},"obj":"Word"}]}`)
	f.wantExport("composing", text+`[{"id":"T1","span":{"begin":0,"end":5},"obj":"Word"},{"id":"T2","span":{"begin":6,"end":12},"obj":"Word"},{"id":"T3","span":{"begin":13,"end":18},"obj":"Word"},{"id":"T4","span":{"begin":19,"end":25},"obj":"Word"}]}`)
}

func testClashingIDs(f *fixture) {
	t := f.T
	results := f.put(job(1, "clash"), parse(t, clashing))
	f.wantOutcomes(results, annotation.Stored, annotation.StoredWarnings, annotation.StoredWarnings)
	f.wantCodes(results[1], "ID_CHANGED attributes[0].id", "ID_CHANGED blocks[0].id", "ID_CHANGED denotations[0].id", "ID_CHANGED relations[0].id")
	f.wantCodes(results[2], "ID_CHANGED denotations[1].id")
	f.wantExport("clash", clashed)
}

const (
	clashing = `{"sourcedb":"P","sourceid":"1","text":"ab","denotations":[{"id":"T1","span":{"begin":0,"end":1},"obj":"N"},{"id":"T2","span":{"begin":1,"end":2},"obj":"N"}],"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T2"}],"attributes":[{"id":"A1","subj":"R1","pred":"q"}]}
{"sourcedb":"P","sourceid":"1","text":"cd","denotations":[{"id":"T1","span":{"begin":0,"end":1},"obj":"N"},{"id":"T3","span":{"begin":1,"end":2},"obj":"N"}],"blocks":[{"id":"T2","span":{"begin":0,"end":2},"obj":"S"}],"relations":[{"id":"R1","subj":"T3","pred":"p","obj":"T1"}],"attributes":[{"id":"A1","subj":"R1","pred":"q"},{"id":"A2","subj":"T2","pred":"q"}]}
{"sourcedb":"P","sourceid":"1","text":"ef","denotations":[{"id":"T1.2","span":{"begin":0,"end":1},"obj":"N"},{"id":"T3","span":{"begin":1,"end":2},"obj":"N"}]}`

	clashed = `{"sourcedb":"P","sourceid":"1","text":"ab\ncd\nef","denotations":[{"id":"T1","span":{"begin":0,"end":1},"obj":"N"},{"id":"T2","span":{"begin":1,"end":2},"obj":"N"},{"id":"T1.2.2","span":{"begin":3,"end":4},"obj":"N"},{"id":"T3","span":{"begin":4,"end":5},"obj":"N"},{"id":"T1.2","span":{"begin":6,"end":7},"obj":"N"},{"id":"T3.3","span":{"begin":7,"end":8},"obj":"N"}],"blocks":[{"id":"T2.2","span":{"begin":3,"end":5},"obj":"S"}],"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T2"},{"id":"R1.2","subj":"T3","pred":"p","obj":"T1.2.2"}],"attributes":[{"id":"A1","subj":"R1","pred":"q"},{"id":"A1.2","subj":"R1.2","pred":"q"},{"id":"A2","subj":"T2.2","pred":"q"}]}`
)

// An item that comes late takes its ids from those behind it, and says so.
func testClashingIDsReversed(f *fixture) {
	t := f.T
	entries := parse(t, clashing)
	last := f.put(job(1, "clash"), entries[2:])
	f.wantOutcomes(last, annotation.Stored)
	middle := f.put(job(1, "clash"), entries[1:2])
	f.wantCodes(middle[0], "ID_CHANGED denotations[1].id")
	first := f.put(job(1, "clash"), entries[:1])
	f.wantCodes(first[0], "ID_CHANGED attributes[0].id", "ID_CHANGED denotations[0].id", "ID_CHANGED denotations[1].id", "ID_CHANGED relations[0].id")
	f.wantExport("clash", clashed)
	// The first answers are final.
	if diff := gocmp.Diff([]store.Result{first[0], middle[0], last[0]}, f.put(job(1, "clash"), entries)); diff != "" {
		t.Errorf("results (-first +again):\n%s", diff)
	}
}

// Two annotations of an item are renamed at once, one to the id that the other gives up; references tell them apart.
func testClashInsideItem(f *fixture) {
	t := f.T
	entries := parse(t, `{"sourcedb":"P","sourceid":"1","text":"ab","denotations":[{"id":"T2","span":{"begin":0,"end":1},"obj":"N"},{"id":"T2.3.2","span":{"begin":1,"end":2},"obj":"N"}]}
{"sourcedb":"P","sourceid":"1","text":"cd","denotations":[{"id":"T2.3","span":{"begin":0,"end":1},"obj":"N"}]}
{"sourcedb":"P","sourceid":"1","text":"ef","denotations":[{"id":"T2","span":{"begin":0,"end":1},"obj":"N"},{"id":"T2.3","span":{"begin":1,"end":2},"obj":"N"}],"relations":[{"id":"R1","subj":"T2","pred":"p","obj":"T2.3"}],"attributes":[{"id":"A1","subj":"T2","pred":"q"},{"id":"A2","subj":"T2.3","pred":"q"}]}`)
	for i := range entries {
		f.put(job(1, "inside"), entries[len(entries)-1-i:][:1])
	}
	f.wantExport("inside", `{"sourcedb":"P","sourceid":"1","text":"ab\ncd\nef","denotations":[{"id":"T2","span":{"begin":0,"end":1},"obj":"N"},{"id":"T2.3.2","span":{"begin":1,"end":2},"obj":"N"},{"id":"T2.3","span":{"begin":3,"end":4},"obj":"N"},{"id":"T2.3.3","span":{"begin":6,"end":7},"obj":"N"},{"id":"T2.3.3.2","span":{"begin":7,"end":8},"obj":"N"}],"relations":[{"id":"R1","subj":"T2.3.3","pred":"p","obj":"T2.3.3.2"}],"attributes":[{"id":"A1","subj":"T2.3.3","pred":"q"},{"id":"A2","subj":"T2.3.3.2","pred":"q"}]}`)
}

// Where nobody gave an id, nobody is told that it is another one; an id that was given goes before those made up.
func testAbsentIDs(f *fixture) {
	t := f.T
	const unnamed = `"denotations":[{"span":{"begin":0,"end":1},"obj":"N"}],"blocks":[{"span":{"begin":0,"end":2},"obj":"S"}],"relations":[{"subj":"x","pred":"p","obj":"x"}],"attributes":[{"subj":"x","pred":"p"}]`
	lines := strings.ReplaceAll(`{"sourcedb":"P","sourceid":"1","text":"ab",`+unnamed+`}
{"sourcedb":"P","sourceid":"1","text":"cd",`+unnamed+`}
`, `"denotations":[`, `"denotations":[{"id":"x","span":{"begin":1,"end":2},"obj":"X"},`)
	lines = strings.Replace(lines, `"x"`, `"y"`, 4) // of the first item
	want := `{"sourcedb":"P","sourceid":"1","text":"ab\ncd\nef","denotations":[{"id":"y","span":{"begin":1,"end":2},"obj":"X"},{"id":"T1.1","span":{"begin":0,"end":1},"obj":"N"},{"id":"x","span":{"begin":4,"end":5},"obj":"X"},{"id":"T1.2","span":{"begin":3,"end":4},"obj":"N"},{"id":"T1","span":{"begin":6,"end":8},"obj":"G"}],"blocks":[{"id":"B1","span":{"begin":0,"end":2},"obj":"S"},{"id":"B1.2","span":{"begin":3,"end":5},"obj":"S"}],"relations":[{"id":"R1","subj":"y","pred":"p","obj":"y"},{"id":"R1.2","subj":"x","pred":"p","obj":"x"}],"attributes":[{"id":"A1","subj":"y","pred":"p"},{"id":"A1.2","subj":"x","pred":"p"}]}`
	entries := parse(t, lines+`{"sourcedb":"P","sourceid":"1","text":"ef","denotations":[{"id":"T1","span":{"begin":0,"end":2},"obj":"G"}]}`)
	for i, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		project := fmt.Sprintf("absent-%d", i)
		for _, at := range order {
			f.wantOutcomes(f.put(job(int64(i+1), project), entries[at:][:1]), annotation.Stored)
		}
		f.wantExport(project, want)
	}
}
