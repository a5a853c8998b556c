package annotation_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
)

func TestAppendJSONKeepsTheOrder(t *testing.T) {
	t.Parallel()
	raw := `{"sourcedb":"PubMed","sourceid":"1","text":"a\"\n😀","denotations":[{"id":"T1","span":{"begin":0,"end":4},"obj":"A"}],` +
		`"blocks":[{"id":"B1","span":{"begin":1,"end":2},"obj":"S"}],"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T1"}],` +
		`"attributes":[{"id":"A1","subj":"T1","pred":"p","obj":true},{"id":"A2","subj":"T1","pred":"q","obj":1.50},{"id":"A3","subj":"R1","pred":"r","obj":"x"}]}`
	for _, want := range []string{raw, `{"sourcedb":"PubMed","sourceid":"1","text":"a"}`} {
		item, findings := annotation.Options{}.Parse([]byte(want))
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		if got := string(item.AppendJSON([]byte("> "))); got != "> "+want {
			t.Errorf("got  %s\nwant > %s", got, want)
		}
	}
}

func TestParseReadsWhatAppendJSONWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawItem(t)
		raw := want.AppendJSON(nil)
		got, findings := annotation.Options{}.Parse(raw)
		if annotation.HasError(findings) {
			t.Fatalf("%s is rejected: %v", raw, findings)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
		summary, findings := annotation.Options{}.Scan(raw)
		if len(findings) > 0 || summary != (annotation.Summary{Key: want.Key, Annotations: want.Annotations(), Weight: max(1, want.Annotations())}) {
			t.Errorf("of %s Scan makes %+v, %v", raw, summary, findings)
		}
	})
}

// TestAbsentIDs leaves out ids at random: those that are written stay, the others are given and unique.
func TestAbsentIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"T1", "T2", "T3", "B1", "B2", "R1", "x"}), 0, 4, rapid.ID).Draw(t, "ids")
		n := rapid.IntRange(len(ids), 8).Draw(t, "entries")
		at := rapid.Permutation(append(ids, make([]string, n-len(ids))...)).Draw(t, "places")
		var entries []string
		for _, id := range at {
			entries = append(entries, fmt.Sprintf(`{"id":%q,"begin":0,"end":1,"obj":"A"}`, id))
		}
		cut := rapid.IntRange(0, n).Draw(t, "cut")
		item, findings := annotation.Options{}.Parse([]byte(doc(
			`"denotations":[`+strings.Join(entries[:cut], ",")+`]`, `"blocks":[`+strings.Join(entries[cut:], ",")+`]`)))
		if item == nil {
			t.Fatal(findings)
		}
		used := make(map[string]bool)
		for i, span := range slices.Concat(item.Denotations, item.Blocks) {
			if used[span.ID] || span.ID == "" || at[i] != "" && at[i] != span.ID {
				t.Errorf("id %d of %q became %q", i, at, span.ID)
			}
			used[span.ID] = true
		}
	})
}

// drawItem draws any item in normal form.
func drawItem(t *rapid.T) *annotation.Item {
	text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("ab 漢😀é\"\\\n"))).Filter(func(r rune) bool { return r != 0 }))
	filled := func(name string) string {
		return text.Filter(func(s string) bool { return strings.TrimSpace(s) != "" }).Draw(t, name)
	}
	key, err := annotation.NewKey(rapid.SampledFrom([]string{"PubMed", "PMC", "X y"}).Draw(t, "sourcedb"), rapid.StringMatching(`[a-z0-9/]{1,20}`).Draw(t, "sourceid"))
	if err != nil {
		t.Fatal(err)
	}
	item := &annotation.Item{Key: key, Text: filled("text")}
	item.Length = utf8.RuneCountInString(item.Text)
	spans := func(name, prefix string) (list []annotation.Span) {
		for i := range rapid.IntRange(0, 5).Draw(t, name) {
			begin := rapid.IntRange(0, item.Length-1).Draw(t, "begin")
			end := rapid.IntRange(begin+1, item.Length).Draw(t, "end")
			list = append(list, annotation.Span{ID: fmt.Sprint(prefix, i), Begin: begin, End: end, Obj: filled("obj")})
		}
		return list
	}
	item.Denotations, item.Blocks = spans("denotations", "T"), spans("blocks", "é\"")
	for _, ends := range [][]annotation.Span{item.Denotations, item.Blocks} {
		if len(ends) == 0 {
			continue
		}
		for range rapid.IntRange(0, 3).Draw(t, "relations") {
			item.Relations = append(item.Relations, annotation.Relation{
				ID: fmt.Sprint("T", len(item.Relations)), Pred: filled("pred"), // a relation may have the id of a denotation
				Subj: rapid.SampledFrom(ends).Draw(t, "subj").ID, Obj: rapid.SampledFrom(ends).Draw(t, "obj").ID,
			})
		}
	}
	var subjects []string
	for _, s := range slices.Concat(item.Denotations, item.Blocks) {
		subjects = append(subjects, s.ID)
	}
	for _, r := range item.Relations {
		subjects = append(subjects, r.ID)
	}
	for i := range rapid.IntRange(0, min(len(subjects), 4)).Draw(t, "attributes") {
		var value annotation.Value
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			value = annotation.BoolValue(rapid.Bool().Draw(t, "value"))
		case 1:
			value = annotation.StringValue(text.Draw(t, "value"))
		default:
			value, err = annotation.NumberValue(rapid.StringMatching(`-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "value"))
			if err != nil {
				t.Fatal(err)
			}
		}
		item.Attributes = append(item.Attributes, annotation.Attribute{
			ID: strconv.Itoa(i), Subj: rapid.SampledFrom(subjects).Draw(t, "subj"), Pred: fmt.Sprint(i, filled("pred")), Value: value,
		})
	}
	return item
}
