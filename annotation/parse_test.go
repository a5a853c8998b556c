package annotation_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation"
)

func TestParseFinds(t *testing.T) {
	t.Parallel()
	for _, c := range parseCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			item, findings := c.options.Parse([]byte(c.raw))
			if diff := cmp.Diff(c.want, spell(findings)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if (item == nil) != annotation.HasError(findings) {
				t.Errorf("item is %v beside findings %v", item, findings)
			}
			checkFindings(t, findings)
			checkScanAgrees(t, c.options, []byte(c.raw))
		})
	}
}

func TestEveryCodeIsFound(t *testing.T) {
	t.Parallel()
	found := make(map[annotation.Code]bool)
	for _, c := range parseCases() {
		_, findings := c.options.Parse([]byte(c.raw))
		for _, f := range findings {
			found[f.Code] = true
		}
	}
	listed := make(map[annotation.Code]bool)
	for _, info := range annotation.Codes() {
		if listed[info.Code] {
			t.Errorf("%s is listed twice", info.Code)
		}
		listed[info.Code] = true
		if !found[info.Code] {
			t.Errorf("no case finds %s", info.Code)
		}
		if info.Group != info.Code.Group() || info.Group == 0 || !strings.HasSuffix(info.Description, ".") {
			t.Errorf("%s is described badly: %+v", info.Code, info)
		}
		if want := info.Group == annotation.GroupWarning; want != (info.Code.Severity() == annotation.Warning) {
			t.Errorf("%s of group %d has severity %v", info.Code, info.Group, info.Code.Severity())
		}
	}
	for code := range found {
		if !listed[code] {
			t.Errorf("%s is not listed", code)
		}
	}
}

func TestParseNormalizes(t *testing.T) {
	t.Parallel()
	raw := `{"tracks":[],"attributes":[
		{"subj":1,"pred":"negated"},
		{"id":"A1","subj":"R1","pred":"score","obj":1.50},
		{"subj":"T3","pred":"negated","obj":null},
		{"id":"","subj":"R1","pred":"note","obj":"a\u00e9"},
		{"subj":"1","pred":"negated","obj":true},
		{"subj":"R1","pred":"sure","obj":false}],
	"relations":[{"subj":"T3","pred":"is","obj":1},{"id":"R1","subj":"B2","pred":"next","obj":"B2"},{"id":"T1","subj":"T3","pred":"is","obj":1}],
	"blocks":[{"span":{"begin":0,"end":4},"obj":"S"},{"id":"B2","span":{"begin":"0","end":3},"obj":"S"}],
	"denotations":[{"span":{"end":1,"begin":0},"obj":" A "},{"id":1,"begin":1,"end":2,"obj":"A"},{"id":"T3","span":{"begin":2.0,"end":4},"obj":"A"},
		{"id":null,"span":{"begin":3,"end":4},"obj":"A"}],
	"text":"\ud83d\ude00 ab","sourceid":" pmc0123 ","sourcedb":" pMc"}`
	number, err := annotation.NumberValue("1.50")
	if err != nil {
		t.Fatal(err)
	}
	want := &annotation.Item{
		Key:    annotation.Key{SourceDB: "PMC", SourceID: "0123"},
		Text:   "😀 ab",
		Length: 4,
		Denotations: []annotation.Span{
			{ID: "T2", Begin: 0, End: 1, Obj: " A ", Unnamed: true}, // T1 is a relation
			{ID: "1", Begin: 1, End: 2, Obj: "A"},
			{ID: "T3", Begin: 2, End: 4, Obj: "A"},
			{ID: "T4", Begin: 3, End: 4, Obj: "A", Unnamed: true},
		},
		Blocks: []annotation.Span{{ID: "B1", Begin: 0, End: 4, Obj: "S", Unnamed: true}, {ID: "B2", Begin: 0, End: 3, Obj: "S"}},
		Relations: []annotation.Relation{
			{ID: "R2", Subj: "T3", Pred: "is", Obj: "1", Unnamed: true},
			{ID: "R1", Subj: "B2", Pred: "next", Obj: "B2"},
			{ID: "T1", Subj: "T3", Pred: "is", Obj: "1"},
		},
		Attributes: []annotation.Attribute{
			{ID: "A2", Subj: "1", Pred: "negated", Value: annotation.BoolValue(true), Unnamed: true},
			{ID: "A1", Subj: "R1", Pred: "score", Value: number},
			{ID: "A3", Subj: "T3", Pred: "negated", Value: annotation.BoolValue(true), Unnamed: true},
			{ID: "A4", Subj: "R1", Pred: "note", Value: annotation.StringValue("aé"), Unnamed: true},
			{ID: "A5", Subj: "R1", Pred: "sure", Value: annotation.BoolValue(false), Unnamed: true},
		},
	}
	got, findings := annotation.Options{}.Parse([]byte(raw))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("item (-want +got):\n%s", diff)
	}
	wantFindings := []string{"COERCED_NUMBER denotations[2].span.begin", "COERCED_NUMBER blocks[1].span.begin", "DUPLICATE_ATTRIBUTE attributes[4]"}
	if diff := cmp.Diff(wantFindings, spell(findings)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	summary, _ := annotation.Options{}.Scan([]byte(raw))
	if diff := cmp.Diff(annotation.Summary{Key: want.Key, Annotations: 15, Weight: 15}, summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestMessagesNameByteAndNumbers(t *testing.T) {
	t.Parallel()
	tests := []struct{ raw, code, want string }{
		{`{"a":1 x}`, "INVALID_JSON", "at byte 7: invalid character 'x'"},
		{"\ufeff" + `{"a":1 x}`, "INVALID_JSON", "at byte 10: invalid character 'x'"},
		{`{"a":"x`, "INVALID_JSON", "ends at byte 7"},
		{"{\"a\":\"x\xffy\"}", "INVALID_UTF8", "The byte 0xff at byte 7"},
		{`{"a":"x\u0000"}`, "NUL_CHARACTER", "at byte 7"},
		{`{"a":"x\ud800"}`, "LONE_SURROGATE", `\ud800, half of a surrogate pair without the other half, at byte 7`},
		{`{"a":1,"a":2}`, "DUPLICATE_KEY", `The key "a" stands twice in one object, again at byte 7`},
		{`{} {}`, "TRAILING_DATA", `at byte 3 with "{}"`},
		{doc(`"denotations":[{"begin":0,"end":11,"obj":"A"}]`), "SPAN_OUT_OF_RANGE", "11, but the text has 10 code points"},
	}
	for _, test := range tests {
		_, findings := annotation.Options{}.Parse([]byte(test.raw))
		if len(findings) == 0 || string(findings[0].Code) != test.code || !strings.Contains(findings[0].Message, test.want) {
			t.Errorf("Parse(%q) finds %v, want %s with %q", test.raw, findings, test.code, test.want)
		}
	}
}

// spell returns findings as parseCase has them.
func spell(findings []annotation.Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, strings.TrimSpace(string(f.Code)+" "+f.Path))
	}
	return all
}

// maxMessageBytes and maxPathBytes are more than any finding needs, whatever is in the item.
const (
	maxMessageBytes = 1200
	maxPathBytes    = 100 * 4 * 80
)

// checkFindings checks what holds for the findings of every item.
func checkFindings(t testing.TB, findings []annotation.Finding) {
	t.Helper()
	if len(findings) > annotation.DefaultMaxFindings+1 {
		t.Errorf("%d findings", len(findings))
	}
	for _, f := range findings {
		if f.Code.Group() == 0 {
			t.Errorf("finding %v has an unknown code", f)
		}
		if f.Severity != f.Code.Severity() && f.Code != annotation.MoreFindings {
			t.Errorf("finding %v is no %v", f, f.Code.Severity())
		}
		if !utf8.ValidString(f.Path + f.Message) {
			t.Errorf("finding %v is not valid UTF-8", f)
		}
		if strings.ContainsFunc(f.Message, func(r rune) bool { return !unicode.IsPrint(r) }) || len(f.Message) > maxMessageBytes {
			t.Errorf("message %q of %s is not printable or too long", f.Message, f.Code)
		}
		if len(f.Path) > maxPathBytes {
			t.Errorf("path %q is too long", f.Path)
		}
	}
}

// checkScanAgrees checks that Scan and Parse judge the text and the identity of an item alike.
func checkScanAgrees(t testing.TB, options annotation.Options, raw []byte) {
	t.Helper()
	summary, scanned := options.Scan(raw)
	item, parsed := options.Parse(raw)
	options.MaxFindings = 1 << 30 // the limit cuts the two lists at different places
	_, allScanned := options.Scan(raw)
	_, allParsed := options.Parse(raw)
	if want, got := early(allParsed), early(allScanned); !cmp.Equal(want, got) || len(got) != len(allScanned) {
		t.Errorf("of %q Scan finds %v, Parse %v", raw, allScanned, allParsed)
	}
	if len(scanned) > 0 && !annotation.HasError(scanned) || annotation.HasError(scanned) && item != nil {
		t.Errorf("of %q Scan finds %v, Parse %v", raw, scanned, parsed)
	}
	if item != nil && (summary.Key != item.Key || summary.Weight < max(1, item.Annotations()-added(item))) {
		t.Errorf("summary %+v of item %+v", summary, item)
	}
	if summary.Weight < 1 {
		t.Errorf("weight %d of %q", summary.Weight, raw)
	}
}

// added returns how many annotations of an item are none of its entries: each part of a span array but the last is one,
// and so is what ties it.
func added(item *annotation.Item) int {
	n := 0
	for _, r := range item.Relations {
		if r.Unnamed && r.Pred == annotation.LexicallyChained {
			n += 2
		}
	}
	return n
}

// early returns the findings that are Scan's.
func early(findings []annotation.Finding) []annotation.Finding {
	var all []annotation.Finding
	for _, f := range findings {
		if group := f.Code.Group(); group == annotation.GroupText || group == annotation.GroupIdentity {
			all = append(all, f)
		}
	}
	return all
}
