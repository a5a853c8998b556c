package annotation_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
)

func TestSpanArraysBecomeChains(t *testing.T) {
	t.Parallel()
	raw := doc(`"denotations":[
		{"id":"T1","span":[{"begin":0,"end":1},{"begin":2,"end":3},{"begin":"5","end":6}],"obj":"A"},
		{"id":"T1-2","span":[{"begin":7,"end":8}],"obj":"B"},
		{"span":[{"begin":3,"end":4},{"begin":4,"end":5}],"obj":"C"}]`,
		`"blocks":[{"id":"B","span":[{"begin":0,"end":4},{"begin":5,"end":6}],"obj":"S"},{"id":"B3","span":{"begin":8,"end":9},"obj":"S"}]`,
		`"relations":[{"id":"T1-1","subj":"T1","pred":"p","obj":"T1-2"},{"subj":"B","pred":"p","obj":"B"}]`,
		`"attributes":[{"subj":"T1","pred":"q"},{"subj":"T1-1","pred":"q"}]`)
	want := &annotation.Item{
		Key: annotation.Key{SourceDB: "PubMed", SourceID: "1"}, Text: "0123456789", Length: 10,
		Denotations: []annotation.Span{
			{ID: "T1", Begin: 5, End: 6, Obj: "A"},
			{ID: "T1-2", Begin: 7, End: 8, Obj: "B"},
			{ID: "T2", Begin: 4, End: 5, Obj: "C", Unnamed: true},
			{ID: "T1-3", Begin: 0, End: 1, Obj: "_FRAGMENT", Unnamed: true}, // T1-1 and T1-2 are others
			{ID: "T1-4", Begin: 2, End: 3, Obj: "_FRAGMENT", Unnamed: true},
			{ID: "T2-1", Begin: 3, End: 4, Obj: "_FRAGMENT", Unnamed: true},
		},
		Blocks: []annotation.Span{
			{ID: "B", Begin: 5, End: 6, Obj: "S"},
			{ID: "B3", Begin: 8, End: 9, Obj: "S"},
			{ID: "B-1", Begin: 0, End: 4, Obj: "_FRAGMENT", Unnamed: true},
		},
		Relations: []annotation.Relation{
			{ID: "T1-1", Subj: "T1", Pred: "p", Obj: "T1-2"},
			{ID: "R1", Subj: "B", Pred: "p", Obj: "B", Unnamed: true},
			{ID: "R2", Subj: "T1-4", Pred: "_lexicallyChainedTo", Obj: "T1-3", Unnamed: true},
			{ID: "R3", Subj: "T1", Pred: "_lexicallyChainedTo", Obj: "T1-4", Unnamed: true},
			{ID: "R4", Subj: "T2", Pred: "_lexicallyChainedTo", Obj: "T2-1", Unnamed: true},
			{ID: "R5", Subj: "B", Pred: "_lexicallyChainedTo", Obj: "B-1", Unnamed: true},
		},
		Attributes: []annotation.Attribute{
			{ID: "A1", Subj: "T1", Pred: "q", Value: annotation.BoolValue(true), Unnamed: true},
			{ID: "A2", Subj: "T1-1", Pred: "q", Value: annotation.BoolValue(true), Unnamed: true}, // of the relation
		},
	}
	got, findings := annotation.Options{}.Parse([]byte(raw))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("item (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"COERCED_NUMBER denotations[0].span[2].begin"}, spell(findings)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	summary, _ := annotation.Options{}.Scan([]byte(raw))
	if diff := cmp.Diff(annotation.Summary{Key: want.Key, Annotations: 9, Weight: 9}, summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	checkItem(t, got)
	checkBag(t, got)
	parts := map[string]string{
		"T1-3": "denotations[0].span[0]", "T1-4": "denotations[0].span[1]", "T2-1": "denotations[2].span[0]", "B-1": "blocks[0].span[0]",
	}
	if diff := cmp.Diff(parts, got.Parts()); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

// Ids are not made longer than they may be, and parts of annotations whose ids begin alike are told apart.
func TestPartsOfLongIDs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", annotation.MaxIDBytes/2-1)
	item, findings := annotation.Options{}.Parse([]byte(doc(fmt.Sprintf(`"denotations":[
		{"id":"%[1]sx","span":[{"begin":0,"end":1},{"begin":2,"end":3}],"obj":"A"},
		{"id":"%[1]sy","span":[{"begin":0,"end":1},{"begin":2,"end":3}],"obj":"A"}]`, long))))
	if item == nil {
		t.Fatal(findings)
	}
	checkItem(t, item)
	for _, d := range item.Denotations {
		if len(d.ID) > annotation.MaxIDBytes || !utf8.ValidString(d.ID) {
			t.Errorf("the id %q has %d bytes", d.ID, len(d.ID))
		}
	}
	again, findings := annotation.Options{}.Parse(item.AppendJSON(nil))
	if diff := cmp.Diff(item, again, written); diff != "" {
		t.Errorf("written and read (-want +got):\n%s\n%v", diff, findings)
	}
	if got := annotation.DeriveID("T1", "-1"); got != "T1-1" {
		t.Errorf("the id of a part is %q", got)
	}
}

// TestBags folds what is a chain exactly, and nothing else.
func TestBags(t *testing.T) {
	t.Parallel()
	const (
		chained   = `{"id":"x","begin":0,"end":1,"obj":"_FRAGMENT"},{"id":"T","begin":2,"end":3,"obj":"A"},{"id":"O","begin":4,"end":5,"obj":"_FRAGMENT"}`
		tied      = `{"id":"R","subj":"T","pred":"_lexicallyChainedTo","obj":"x"}`
		unchained = `"denotations":[` + chained + `],"relations":[` + tied
	)
	tests := []struct {
		name    string
		members string
		folded  bool
	}{
		{"a chain", unchained + `]`, true},
		{"with a relation to the last part", unchained + `,{"id":"S","subj":"T","pred":"p","obj":"O"}]`, true},
		{"with an attribute of the last part", unchained + `],"attributes":[{"id":"A","subj":"T","pred":"p"}]`, true},
		{"with an attribute of another part", unchained + `],"attributes":[{"id":"A","subj":"x","pred":"p"}]`, false},
		{"with an attribute of the tie", unchained + `],"attributes":[{"id":"A","subj":"R","pred":"p"}]`, false},
		{"with another relation to a part", unchained + `,{"id":"S","subj":"O","pred":"p","obj":"x"}]`, false},
		{"with another relation of a part", unchained + `,{"id":"S","subj":"x","pred":"p","obj":"O"}]`, false},
		{"tied twice", unchained + `,{"id":"S","subj":"T","pred":"_lexicallyChainedTo","obj":"x"}]`, false},
		{"tied to two", unchained + `,{"id":"S","subj":"T","pred":"_lexicallyChainedTo","obj":"O"}]`, false},
		{"two tied to one", unchained + `,{"id":"S","subj":"O","pred":"_lexicallyChainedTo","obj":"x"}]`, false},
		{"the wrong way round", `"denotations":[` + chained + `],"relations":[{"id":"R","subj":"x","pred":"_lexicallyChainedTo","obj":"T"}]`, false},
		{"a ring", unchained + `,{"id":"S","subj":"x","pred":"_lexicallyChainedTo","obj":"T"}]`, false},
		{"to itself", `"denotations":[` + chained + `],"relations":[{"id":"R","subj":"x","pred":"_lexicallyChainedTo","obj":"x"}]`, false},
		{"another pred", `"denotations":[` + chained + `],"relations":[{"id":"R","subj":"T","pred":"chainedTo","obj":"x"}]`, false},
		{"a part with another label", `"denotations":[{"id":"x","begin":0,"end":1,"obj":"A"},{"id":"T","begin":2,"end":3,"obj":"A"}],"relations":[` + tied + `]`, false},
		{"overlapping parts", `"denotations":[{"id":"x","begin":0,"end":3,"obj":"_FRAGMENT"},{"id":"T","begin":2,"end":4,"obj":"A"}],"relations":[` + tied + `]`, false},
		{"parts that touch", `"denotations":[{"id":"x","begin":0,"end":2,"obj":"_FRAGMENT"},{"id":"T","begin":2,"end":4,"obj":"A"}],"relations":[` + tied + `]`, true},
		{"the last a fragment too", `"denotations":[{"id":"x","begin":0,"end":2,"obj":"_FRAGMENT"},{"id":"T","begin":2,"end":4,"obj":"_FRAGMENT"}],"relations":[` + tied + `]`, true},
		{"blocks", `"blocks":[` + chained + `],"relations":[` + tied + `]`, true},
		{"three parts, one of them in use", `"denotations":[` + chained + `,{"id":"U","begin":6,"end":7,"obj":"A"}],"relations":[` +
			strings.ReplaceAll(tied, `"T"`, `"O"`) + `,{"id":"S","subj":"U","pred":"_lexicallyChainedTo","obj":"O"}],"attributes":[{"id":"A","subj":"x","pred":"p"}]`, false},
		{"three parts", `"denotations":[` + chained + `,{"id":"U","begin":6,"end":7,"obj":"A"}],"relations":[` +
			strings.ReplaceAll(tied, `"T"`, `"O"`) + `,{"id":"S","subj":"U","pred":"_lexicallyChainedTo","obj":"O"}]`, true},
	}
	for _, test := range tests {
		item, findings := annotation.Options{}.Parse([]byte(doc(test.members)))
		if item == nil {
			t.Fatalf("%s: %v", test.name, findings)
		}
		bagged := item.AppendBaggedJSON([]byte("> "))
		if folded := bytes.Contains(bagged, []byte(`"span":[{`)); folded != test.folded {
			t.Errorf("%s: folded is %t: %s", test.name, folded, bagged)
		}
		if plain := item.AppendJSON([]byte("> ")); !test.folded && !bytes.Equal(bagged, plain) {
			t.Errorf("%s: %s became %s", test.name, plain, bagged)
		}
		checkBag(t, item)
	}
}

// TestBagsAreWhatWasWritten writes annotations of several parts, and finds them again as they were.
func TestBagsAreWhatWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawItem(t)
		for _, list := range []*[]annotation.Span{&want.Denotations, &want.Blocks} {
			*list = slices.DeleteFunc(*list, func(s annotation.Span) bool { return s.Obj == annotation.Fragment })
		}
		raw := want.AppendJSON(nil)
		arrays := 0
		for _, s := range slices.Concat(want.Denotations, want.Blocks) {
			cuts := rapid.SliceOfNDistinct(rapid.IntRange(s.Begin, s.End), 0, 6, rapid.ID).Draw(t, "cuts")
			slices.Sort(cuts)
			var parts []string
			for i := 0; i+1 < len(cuts); i += 2 {
				parts = append(parts, fmt.Sprintf(`{"begin":%d,"end":%d}`, cuts[i], cuts[i+1]))
			}
			if len(parts) < 2 {
				continue
			}
			arrays++
			id := appendQuoted(s.ID)
			raw = bytes.Replace(raw, fmt.Appendf(nil, `{"id":%s,"span":{"begin":%d,"end":%d}`, id, s.Begin, s.End),
				fmt.Appendf(nil, `{"id":%s,"span":[%s]`, id, strings.Join(parts, ",")), 1)
		}
		item, findings := annotation.Options{}.Parse(raw)
		if item == nil {
			t.Fatalf("%s: %v", raw, findings)
		}
		checkItem(t, item)
		got := item.AppendBaggedJSON(nil)
		if diff := cmp.Diff(string(raw), string(got)); diff != "" {
			t.Errorf("%d span arrays (-want +got):\n%s", arrays, diff)
		}
		checkBag(t, item)
	})
}

// appendQuoted spells an id of drawItem in JSON.
func appendQuoted(id string) string { return `"` + strings.ReplaceAll(id, `"`, `\"`) + `"` }

// checkBag checks that what is folded can be read, has everything that was not folded, and folds to the same again.
func checkBag(t failing, item *annotation.Item) {
	t.Helper()
	bagged := item.AppendBaggedJSON(nil)
	again, findings := annotation.Options{}.Parse(bagged)
	if again == nil {
		t.Errorf("%s is rejected: %v", bagged, findings)
		return
	}
	if diff := cmp.Diff(string(bagged), string(again.AppendBaggedJSON(nil))); diff != "" {
		t.Errorf("folded twice (-want +got):\n%s", diff)
	}
	sorted := func(item *annotation.Item) []annotation.Span {
		all := slices.Concat(item.Denotations, item.Blocks)
		for i := range all {
			if all[i].Obj == annotation.Fragment {
				all[i].ID = ""
			}
		}
		slices.SortFunc(all, func(a, b annotation.Span) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		return all
	}
	ids := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(annotation.Span{}, "Unnamed")}
	if diff := cmp.Diff(sorted(item), sorted(again), ids); diff != "" {
		t.Errorf("folded and read (-want +got):\n%s", diff)
	}
	if item.Annotations() != again.Annotations() {
		t.Errorf("%d annotations became %d", item.Annotations(), again.Annotations())
	}
}
