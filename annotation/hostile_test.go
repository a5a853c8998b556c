package annotation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/annotation"
)

// TestHostileItems reads items made to be expensive. A quadratic step would not end within the time limit of the tests.
func TestHostileItems(t *testing.T) {
	t.Parallel()
	const (
		million = 1_000_000
		lots    = 200_000
	)
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	tests := []struct {
		name, raw string
		want      annotation.Code
	}{
		{"empty denotations", item(`"text":"a","denotations":[` + strings.Repeat("{},", million) + `{}]`), annotation.MissingObj},
		{"10,000 deep", strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), annotation.TooDeep},
		{"a million deep, open", strings.Repeat("[", million), annotation.TooDeep},
		{"a million objects deep, open", strings.Repeat(`{"":`, million), annotation.TooDeep},
		{"the same key over and over", "{" + strings.Repeat(`"a":1,`, lots) + `"a":1}`, annotation.DuplicateKey},
		{"different keys", item(many(lots, `"k%d":1`)), annotation.MissingText},
		{"NULs", item(`"text":"` + strings.Repeat(`\u0000`, lots) + `"`), annotation.NULCharacter},
		{"strings of NUL", item(`"x":[` + strings.Repeat(`"\u0000",`, lots) + `1]`), annotation.NULCharacter},
		{"backslashes", item(`"text":"` + strings.Repeat(`\\`, lots) + `"`), ""},
		{"escaped quotes", item(`"text":"` + strings.Repeat(`\"`, lots) + `"`), ""},
		{"a long key, twice", `{"` + strings.Repeat("k", lots) + `":1,"` + strings.Repeat("k", lots) + `":1}`, annotation.DuplicateKey},
		{"long keys above many errors", `{"` + strings.Repeat("é", lots) + `":{` + strings.Repeat(`"a":1,`, lots) + `"b":1}}`, annotation.DuplicateKey},
		{"invalid bytes", item(`"text":"` + strings.Repeat("\xff", lots) + `"`), annotation.InvalidUTF8},
		{"a number of many digits", doc(`"denotations":[{"begin":0,"end":` + strings.Repeat("9", lots) + `,"obj":"A"}]`), annotation.SpanOutOfRange},
		{"a string of many digits", doc(`"denotations":[{"begin":0,"end":"` + strings.Repeat("9", lots) + `","obj":"A"}]`), annotation.SpanOutOfRange},
		{"a fraction of many zeros", doc(`"denotations":[{"begin":0,"end":2.` + strings.Repeat("0", lots) + `,"obj":"A"}]`), annotation.CoercedNumber},
		{"a sourceid of many digits", `{"sourcedb":"PMC","sourceid":` + strings.Repeat("9", lots) + `}`, annotation.InvalidSourceID},
		{"crossing denotations", item(`"text":"`+strings.Repeat("x", million)+`"`,
			`"denotations":[`+many(100_000, `{"begin":%[1]d,"end":1%05[1]d,"obj":"A"}`)+`]`), annotation.CrossingSpans},
		{"nested denotations", item(`"text":"`+strings.Repeat("x", million)+`"`,
			`"denotations":[`+many(100_000, `{"begin":%[1]d,"end":999999,"obj":"A"}`)+`]`), ""},
		{"ids that are all in use", doc(`"denotations":[` + many(100_000, `{"id":"T%d","begin":0,"end":1,"obj":"A"}`) + "," +
			strings.TrimSuffix(strings.Repeat(`{"begin":0,"end":1,"obj":"A"},`, 100_000), ",") + `]`), ""},
		{"the same block", doc(`"blocks":[` + many(100_000, `{"id":%d,"begin":0,"end":1,"obj":"A"}`) + `]`), annotation.SameRangeBlocks},
		{"the same attribute", doc(twoDenotations, `"attributes":[`+many(100_000, `{"id":%d,"subj":"T1","pred":"p"}`)+`]`), annotation.DuplicateAttribute},
		{"a span of many parts", item(`"text":"`+strings.Repeat("x", 2*million)+`"`,
			`"denotations":[{"id":"T1","span":[`+many(100_000, `{"begin":1%05[1]d0,"end":1%05[1]d1}`)+`],"obj":"A"}]`), ""},
		{"ids of parts that are all in use", item(`"text":"`+strings.Repeat("x", 2*million)+`"`,
			`"denotations":[`+many(100_000, `{"id":"T1-%d","begin":0,"end":1,"obj":"A"}`)+
				`,{"id":"T1","span":[`+many(100_000, `{"begin":1%05[1]d0,"end":1%05[1]d1}`)+`],"obj":"A"}]`), ""},
		{"bytes for code points", item(`"text":"`+strings.Repeat("é ", million/2)+`"`,
			`"denotations":[`+many(100_000, `{"begin":%[1]d,"end":1%05[1]d0,"obj":"A"}`)+`]`), annotation.SpanOutOfRange},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			raw := []byte(test.raw)
			_, scanned := annotation.Options{}.Scan(raw)
			checkFindings(t, scanned)
			parsed, findings := annotation.Options{}.Parse(raw)
			checkFindings(t, findings)
			if parsed != nil {
				parsed.AppendBaggedJSON(nil)
			}
			switch {
			case test.want == "" && (parsed == nil || len(findings) > 0):
				t.Errorf("findings %v", findings[:min(3, len(findings))])
			case test.want != "" && (len(findings) == 0 || findings[0].Code != test.want):
				t.Errorf("findings %v, want %s", findings[:min(3, len(findings))], test.want)
			}
			if wellFormed := test.want.Group() != annotation.GroupText; wellFormed && test.want.Group() != annotation.GroupIdentity && len(scanned) > 0 {
				t.Errorf("Scan finds %v", scanned)
			}
		})
	}
}
