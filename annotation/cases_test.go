package annotation_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tallyman-dev/tallyman/annotation"
)

// parseCase is an item and what is to be found in it, as "CODE path" or "CODE" for the item itself.
type parseCase struct {
	name    string
	options annotation.Options
	raw     string
	want    []string
}

// doc is an item of the text "0123456789" with more members.
func doc(members ...string) string {
	return item(append([]string{`"text":"0123456789"`}, members...)...)
}

// item is an item with an identity and more members.
func item(members ...string) string {
	return "{" + strings.Join(append([]string{`"sourcedb":"PubMed","sourceid":"1"`}, members...), ",") + "}"
}

func nested(depth int) string {
	return `{"x":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "}"
}

const twoDenotations = `"denotations":[{"id":"T1","span":{"begin":0,"end":1},"obj":"A"},{"id":"T2","span":{"begin":1,"end":2},"obj":"A"}]`

// parseCases has at least one item for every code.
func parseCases() []parseCase {
	return slices.Concat(textCases, identityCases, shapeCases, spanArrayCases, referenceCases, warningCases)
}

var textCases = []parseCase{
	{name: "minimal", raw: doc()},
	{name: "byte order mark", raw: "\ufeff" + doc()},
	{name: "two byte order marks", raw: "\ufeff\ufeff" + doc(), want: []string{"INVALID_JSON"}},
	{name: "white space around", raw: " \r\n\t" + doc() + "\r\n"},
	{name: "empty", raw: "", want: []string{"INVALID_JSON"}},
	{name: "blank", raw: " \r", want: []string{"INVALID_JSON"}},
	{name: "only a byte order mark", raw: "\ufeff", want: []string{"INVALID_JSON"}},
	{name: "too large", options: annotation.Options{MaxItemBytes: 20}, raw: doc(), want: []string{"ITEM_TOO_LARGE"}},
	{name: "as large as allowed", options: annotation.Options{MaxItemBytes: len(doc())}, raw: doc()},
	{name: "invalid UTF-8 in the text", raw: item("\"text\":\"a\xffb\""), want: []string{"INVALID_UTF8 text"}},
	{name: "invalid UTF-8 twice", raw: item("\"a\":\"\xff\",\"text\":\"\xc3\""), want: []string{"INVALID_UTF8 a", "INVALID_UTF8 text"}},
	{name: "invalid UTF-8 between values", raw: "{\xff}", want: []string{"INVALID_UTF8"}},
	{name: "encoded surrogate", raw: item("\"text\":\"\xed\xa0\x80\""), want: []string{"INVALID_UTF8 text"}},
	{name: "Latin-1 keys are not taken for duplicates", raw: "{\"\xe4\":1,\"\xf6\":1}",
		want: []string{`INVALID_UTF8 ["` + "\ufffd" + `"]`, `INVALID_UTF8 ["` + "\ufffd" + `"]`}},
	{name: "cut off", raw: `{"sourcedb":"PubMed","text":"abc`, want: []string{"INVALID_JSON text"}},
	{name: "not JSON", raw: "hello", want: []string{"INVALID_JSON"}},
	{name: "NaN", raw: doc(`"x":NaN`), want: []string{"INVALID_JSON x"}},
	{name: "comma at the end", raw: `{"x":[1,]}`, want: []string{"INVALID_JSON x[0]"}},
	{name: "control character in a string", raw: item("\"text\":\"a\x00b\""), want: []string{"INVALID_JSON text"}},
	{name: "bad escape", raw: item(`"text":"\x"`), want: []string{"INVALID_JSON text"}},
	{name: "brackets that do not match", raw: `{"x":[}`, want: []string{"INVALID_JSON x"}},
	{name: "key without value", raw: `{"x"}`, want: []string{"INVALID_JSON x"}},
	{name: "two objects on one line", raw: doc() + " " + doc(), want: []string{"TRAILING_DATA"}},
	{name: "comma after the object", raw: doc() + ",", want: []string{"TRAILING_DATA"}},
	{name: "trailing garbage", raw: doc() + "\xff", want: []string{"TRAILING_DATA"}},
	{name: "trailing NUL", raw: doc() + "\x00", want: []string{"TRAILING_DATA"}},
	{name: "an array", raw: "[" + doc() + "]", want: []string{"NOT_AN_OBJECT"}},
	{name: "a string", raw: `"text"`, want: []string{"NOT_AN_OBJECT"}},
	{name: "a number", raw: `1`, want: []string{"NOT_AN_OBJECT"}},
	{name: "null", raw: `null`, want: []string{"NOT_AN_OBJECT"}},
	{name: "depth 100", raw: item(`"text":"a","x":` + nested(99))},
	{name: "depth 101", raw: item(`"x":` + nested(100)), want: []string{"TOO_DEEP x.x" + strings.Repeat("[0]", 98)}},
	{name: "depth by option", options: annotation.Options{MaxDepth: 1}, raw: item(`"x":[]`), want: []string{"TOO_DEEP x"}},
	{name: "brackets in strings are no nesting", raw: item(`"text":"` + strings.Repeat(`[{\"`, 200) + `"`)},
	{name: "NUL", raw: item(`"text":"a\u0000b"`), want: []string{"NUL_CHARACTER text"}},
	{name: "NUL in a key", raw: `{"a\u0000":{}}`, want: []string{`NUL_CHARACTER ["a\x00"]`}},
	{name: "an escaped backslash before u0000", raw: item(`"text":"a\\u0000b"`)},
	{name: "high surrogate alone", raw: item(`"text":"\ud83d"`), want: []string{"LONE_SURROGATE text"}},
	{name: "low surrogate alone", raw: item(`"text":"\udE00 "`), want: []string{"LONE_SURROGATE text"}},
	{name: "surrogates in the wrong order", raw: item(`"text":"\ude00\ud83d"`), want: []string{"LONE_SURROGATE text"}},
	{name: "surrogate pair", raw: item(`"text":"\ud83d\ude00"`)},
	{name: "duplicate key", raw: doc(`"text":"x"`), want: []string{"DUPLICATE_KEY text"}},
	{name: "duplicate key inside", raw: doc(`"x":{"a b":[{"y":1,"\u0079":2}]}`), want: []string{`DUPLICATE_KEY x["a b"][0].y`}},
	{name: "several", raw: doc(`"a":1,"a":2,"b":"\u0000","c":{"d":1,"d":1,"d":1}`),
		want: []string{"DUPLICATE_KEY a", "NUL_CHARACTER b", "DUPLICATE_KEY c.d", "DUPLICATE_KEY c.d"}},
	{name: "found before the JSON breaks", raw: `{"a":1,"a":2,"b":}`, want: []string{"DUPLICATE_KEY a", "INVALID_JSON b"}},
	{name: "escaped keys of the format", raw: `{"\u0073ourcedb":"PMC","sourceid":"1","te\u0078t":"a"}`},
}

var identityCases = []parseCase{
	{name: "no identity, and more", raw: `{"text":" "}`, want: []string{"MISSING_SOURCEDB sourcedb", "MISSING_SOURCEID sourceid", "MISSING_TEXT text"}},
	{name: "null identity", raw: `{"sourcedb":null,"sourceid":null,"text":"a"}`,
		want: []string{"MISSING_SOURCEDB sourcedb", "MISSING_SOURCEID sourceid"}},
	{name: "blank identity", options: annotation.Options{DefaultSourceDB: "PMC"}, raw: `{"sourcedb":"","sourceid":" \t","text":"a"}`,
		want: []string{"MISSING_SOURCEDB sourcedb", "MISSING_SOURCEID sourceid"}},
	{name: "default for an absent sourcedb", options: annotation.Options{DefaultSourceDB: "pubmed"}, raw: `{"sourceid":1,"text":"a"}`},
	{name: "default for a null sourcedb", options: annotation.Options{DefaultSourceDB: "pubmed"}, raw: `{"sourcedb":null,"sourceid":1,"text":"a"}`},
	{name: "wrong types", raw: `{"sourcedb":[],"sourceid":{},"text":"a"}`, want: []string{"INVALID_SOURCEDB sourcedb", "INVALID_SOURCEID sourceid"}},
	{name: "booleans", raw: `{"sourcedb":true,"sourceid":false,"text":"a"}`, want: []string{"INVALID_SOURCEDB sourcedb", "INVALID_SOURCEID sourceid"}},
	{name: "too long", raw: `{"sourcedb":"` + strings.Repeat("x", 256) + `","sourceid":"` + strings.Repeat("é", 128) + `","text":"a"}`,
		want: []string{"INVALID_SOURCEDB sourcedb", "INVALID_SOURCEID sourceid"}},
	{name: "as long as allowed", raw: `{"sourcedb":"` + strings.Repeat("x", 255) + `","sourceid":" ` + strings.Repeat("x", 255) + ` ","text":"a"}`},
	{name: "control characters", raw: `{"sourcedb":"a\u0007","sourceid":"a\u009fb","text":"a"}`,
		want: []string{"INVALID_SOURCEDB sourcedb", "INVALID_SOURCEID sourceid"}},
	{name: "huge number", raw: `{"sourcedb":"PMC","sourceid":1e400,"text":"a"}`, want: []string{"INVALID_SOURCEID sourceid"}},
	{name: "huge exponent", raw: `{"sourcedb":"PMC","sourceid":1e99999999999999999999,"text":"a"}`, want: []string{"INVALID_SOURCEID sourceid"}},
}

var shapeCases = []parseCase{
	{name: "no text", raw: item(), want: []string{"MISSING_TEXT text"}},
	{name: "blank text", raw: item(`"text":" \u3000\n"`), want: []string{"MISSING_TEXT text"}},
	{name: "text of the wrong type", raw: item(`"text":["a"]`), want: []string{"INVALID_TEXT text"}},
	{name: "spans are checked without text", raw: item(`"denotations":[{"span":{"begin":-1,"end":1000},"obj":"A"}]`),
		want: []string{"MISSING_TEXT text", "SPAN_OUT_OF_RANGE denotations[0].span.begin"}},
	{name: "null and empty collections", raw: doc(`"denotations":null,"blocks":[],"relations":null,"attributes":[]`)},
	{name: "collections of the wrong type", raw: doc(`"denotations":{},"blocks":"x","relations":1,"attributes":false`),
		want: []string{"INVALID_COLLECTION denotations", "INVALID_COLLECTION blocks", "INVALID_COLLECTION relations", "INVALID_COLLECTION attributes"}},
	{name: "entries of the wrong type", raw: doc(`"denotations":[null],"blocks":[[]],"relations":["x"],"attributes":[1,true]`),
		want: []string{"INVALID_ENTRY denotations[0]", "INVALID_ENTRY blocks[0]", "INVALID_ENTRY relations[0]",
			"INVALID_ENTRY attributes[0]", "INVALID_ENTRY attributes[1]"}},
	{name: "empty entries", raw: doc(`"denotations":[{}],"blocks":[{}],"relations":[{}],"attributes":[{}]`),
		want: []string{"MISSING_OBJ denotations[0].obj", "MISSING_SPAN denotations[0].span", "MISSING_OBJ blocks[0].obj", "MISSING_SPAN blocks[0].span",
			"MISSING_SUBJ relations[0].subj", "MISSING_PRED relations[0].pred", "MISSING_OBJ relations[0].obj",
			"MISSING_SUBJ attributes[0].subj", "MISSING_PRED attributes[0].pred"}},
	{name: "null members", raw: doc(`"denotations":[{"id":null,"span":null,"begin":null,"obj":null}]`),
		want: []string{"MISSING_OBJ denotations[0].obj", "MISSING_SPAN denotations[0].span"}},
	{name: "obj of the wrong type", raw: doc(`"denotations":[{"span":{"begin":0,"end":1},"obj":1}]`), want: []string{"INVALID_OBJ denotations[0].obj"}},
	{name: "blank obj", raw: doc(`"blocks":[{"span":{"begin":0,"end":1},"obj":"\u00a0"}]`), want: []string{"MISSING_OBJ blocks[0].obj"}},
	{name: "span of the wrong type", raw: doc(`"denotations":[{"span":"0-1","obj":"A"}]`), want: []string{"INVALID_SPAN denotations[0].span"}},
	{name: "missing offsets", raw: doc(`"denotations":[{"span":{},"obj":"A"},{"span":{"begin":0},"obj":"A"},{"end":1,"obj":"A"}]`),
		want: []string{"MISSING_OFFSET denotations[0].span.begin", "MISSING_OFFSET denotations[0].span.end",
			"MISSING_OFFSET denotations[1].span.end", "MISSING_OFFSET denotations[2].begin"}},
	{name: "offsets beside the entry", raw: doc(`"denotations":[{"begin":0,"end":10,"obj":"A"}],"blocks":[{"begin":3,"end":11,"obj":"A"}]`),
		want: []string{"SPAN_OUT_OF_RANGE blocks[0].end"}},
	{name: "offsets beside the entry that are empty", raw: doc(`"denotations":[{"begin":3,"end":3,"obj":"A"}]`), want: []string{"SPAN_EMPTY denotations[0]"}},
	{name: "offsets that are no integers", raw: doc(`"denotations":[{"span":{"begin":4.5,"end":"x"},"obj":"A"},{"span":{"begin":"","end":[]},"obj":"A"},` +
		`{"span":{"begin":"0x1","end":"4.5"},"obj":"A"},{"span":{"begin":false,"end":1e-1},"obj":"A"},{"span":{"begin":"1 2","end":"+3"},"obj":"A"}]`),
		want: []string{"INVALID_OFFSET denotations[0].span.begin", "INVALID_OFFSET denotations[0].span.end",
			"INVALID_OFFSET denotations[1].span.begin", "INVALID_OFFSET denotations[1].span.end",
			"INVALID_OFFSET denotations[2].span.begin", "INVALID_OFFSET denotations[2].span.end",
			"INVALID_OFFSET denotations[3].span.begin", "INVALID_OFFSET denotations[3].span.end",
			"INVALID_OFFSET denotations[4].span.begin", "INVALID_OFFSET denotations[4].span.end"}},
	{name: "huge offsets", raw: doc(`"denotations":[{"span":{"begin":1e400,"end":99999999999999999999},"obj":"A"},` +
		`{"span":{"begin":-1e99999999999999999999,"end":1e-99999999999999999999},"obj":"A"}]`),
		want: []string{"SPAN_OUT_OF_RANGE denotations[0].span.begin", "SPAN_OUT_OF_RANGE denotations[0].span.end",
			"SPAN_OUT_OF_RANGE denotations[1].span.begin", "INVALID_OFFSET denotations[1].span.end"}},
	{name: "span out of range", raw: doc(`"denotations":[{"span":{"begin":-1,"end":11},"obj":"A"},{"span":{"begin":10,"end":-2},"obj":"A"}]`),
		want: []string{"SPAN_OUT_OF_RANGE denotations[0].span.begin", "SPAN_OUT_OF_RANGE denotations[0].span.end",
			"SPAN_OUT_OF_RANGE denotations[1].span.end"}},
	{name: "empty and reversed spans", raw: doc(`"denotations":[{"span":{"begin":1,"end":1},"obj":"A"},{"span":{"begin":2,"end":1},"obj":"A"}]`),
		want: []string{"SPAN_EMPTY denotations[0].span", "SPAN_EMPTY denotations[1].span"}},
	{name: "code points, not bytes or UTF-16 units", raw: item(`"text":"\ud83d\ude00é漢"`, `"denotations":[{"span":{"begin":2,"end":3},"obj":"A"},{"span":{"begin":2,"end":4},"obj":"A"}]`),
		want: []string{"SPAN_OUT_OF_RANGE denotations[1].span.end"}},
	{name: "attribute values of the wrong type", raw: doc(twoDenotations, `"attributes":[{"subj":"T1","pred":"p","obj":{}},{"subj":"T1","pred":"p","obj":[1]}]`),
		want: []string{"INVALID_OBJ attributes[0].obj", "INVALID_OBJ attributes[1].obj"}},
}

var spanArrayCases = []parseCase{
	{name: "span array", raw: doc(`"denotations":[{"span":[{"begin":0,"end":1},{"begin":2,"end":3}],"obj":"A"}]`)},
	{name: "span array of one part", raw: doc(`"denotations":[{"span":[{"begin":0,"end":1}],"obj":"A"}]`)},
	{name: "span array with parts that touch", raw: doc(`"blocks":[{"span":[{"begin":0,"end":1},{"begin":1,"end":3}],"obj":"A"}]`)},
	{name: "empty span array", raw: doc(`"denotations":[{"span":[],"obj":"A"}]`), want: []string{"MISSING_SPAN denotations[0].span"}},
	{name: "parts of the wrong type", raw: doc(`"denotations":[{"span":[null,{"begin":0,"end":1},"2-3",[],[{"begin":2,"end":3}]],"obj":"A"}]`),
		want: []string{"INVALID_SPAN denotations[0].span[0]", "INVALID_SPAN denotations[0].span[2]", "INVALID_SPAN denotations[0].span[3]",
			"INVALID_SPAN denotations[0].span[4]"}},
	{name: "wrong parts", raw: doc(twoDenotations, `"blocks":[{"span":[{"end":2},{"begin":3,"end":11},{"begin":4,"end":4},{"begin":4.5,"end":"5"}],"obj":"A"}]`),
		want: []string{"MISSING_OFFSET blocks[0].span[0].begin", "SPAN_OUT_OF_RANGE blocks[0].span[1].end", "SPAN_EMPTY blocks[0].span[2]",
			"INVALID_OFFSET blocks[0].span[3].begin", "COERCED_NUMBER blocks[0].span[3].end"}},
	{name: "parts out of order", raw: doc(`"denotations":[{"span":[{"begin":5,"end":6},{"begin":2,"end":3},{"begin":7,"end":9},{"begin":8,"end":10}],"obj":"A"}]`),
		want: []string{"SPAN_PARTS_OUT_OF_ORDER denotations[0].span[1].begin", "SPAN_PARTS_OUT_OF_ORDER denotations[0].span[3].begin"}},
	{name: "a part twice", raw: doc(`"denotations":[{"span":[{"begin":5,"end":6},{"begin":5,"end":6}],"obj":"A"}]`),
		want: []string{"SPAN_PARTS_OUT_OF_ORDER denotations[0].span[1].begin"}},
	{name: "a part that crosses", raw: doc(`"denotations":[{"span":[{"begin":0,"end":3},{"begin":6,"end":8}],"obj":"A"},{"begin":2,"end":7,"obj":"A"}]`),
		want: []string{"CROSSING_DENOTATIONS denotations[0].span[1]", "CROSSING_DENOTATIONS denotations[1].span"}},
	{name: "blocks with a part on the same range", raw: doc(`"blocks":[{"begin":0,"end":3,"obj":"A"},{"span":[{"begin":0,"end":3},{"begin":6,"end":8}],"obj":"A"}]`),
		want: []string{"SAME_RANGE_BLOCKS blocks[1].span[0]"}},
	{name: "a part is no target", raw: doc(`"denotations":[{"id":"T1","span":[{"begin":0,"end":1},{"begin":2,"end":3}],"obj":"A"}]`,
		`"attributes":[{"subj":"T1-1","pred":"p"}]`), want: []string{"UNKNOWN_REFERENCE attributes[0].subj"}},
	{name: "more parts than there is room for ids", raw: manyParts(), want: []string{"TOO_MANY_SPAN_PARTS denotations[0].span"}},
}

// manyParts returns an item in which many parts would be given long ids.
func manyParts() string {
	const parts = 70_000
	var b strings.Builder
	b.WriteString(`{"sourcedb":"P","sourceid":"1","text":"` + strings.Repeat("a", parts) + `","denotations":[{"obj":"A","id":"` +
		strings.Repeat("i", 1000) + `","span":[`)
	for i := range parts {
		fmt.Fprintf(&b, `{"begin":%d,"end":%d},`, i, i+1)
	}
	return strings.TrimSuffix(b.String(), ",") + "]}]}"
}

var referenceCases = []parseCase{
	{name: "ids of the wrong type", raw: doc(`"denotations":[{"id":1.5,"span":{"begin":0,"end":1},"obj":"A"},{"id":{},"span":{"begin":0,"end":1},"obj":"A"}]`),
		want: []string{"INVALID_ID denotations[0].id", "INVALID_ID denotations[1].id"}},
	{name: "id too long", raw: doc(`"denotations":[{"id":"` + strings.Repeat("x", 1025) + `","span":{"begin":0,"end":1},"obj":"A"}]`),
		want: []string{"INVALID_ID denotations[0].id"}},
	{name: "duplicate ids", raw: doc(twoDenotations, `"blocks":[{"id":"T1","span":{"begin":0,"end":1},"obj":"A"}]`,
		`"relations":[{"id":"T1","subj":"T2","pred":"p","obj":"T2"},{"id":1,"subj":"T2","pred":"p","obj":"T2"},{"id":"1","subj":"T2","pred":"p","obj":"T2"}]`,
		`"attributes":[{"id":"T1","subj":"T2","pred":"p"},{"id":"T1","subj":"T2","pred":"q"}]`),
		want: []string{"DUPLICATE_ID blocks[0].id", "DUPLICATE_ID relations[2].id", "DUPLICATE_ID attributes[1].id"}},
	{name: "relation members of the wrong type", raw: doc(twoDenotations, `"relations":[{"subj":[],"pred":1,"obj":{}}]`),
		want: []string{"INVALID_SUBJ relations[0].subj", "INVALID_PRED relations[0].pred", "INVALID_OBJ relations[0].obj"}},
	{name: "empty references", raw: doc(twoDenotations, `"relations":[{"subj":"","pred":" ","obj":null}]`, `"attributes":[{"subj":"","pred":""}]`),
		want: []string{"MISSING_SUBJ relations[0].subj", "MISSING_PRED relations[0].pred", "MISSING_OBJ relations[0].obj",
			"MISSING_SUBJ attributes[0].subj", "MISSING_PRED attributes[0].pred"}},
	{name: "unknown references", raw: doc(twoDenotations, `"relations":[{"id":"R1","subj":"T3","pred":"p","obj":"T1"},{"subj":"T1","pred":"p","obj":"R1"}]`,
		`"attributes":[{"id":"A1","subj":"R1","pred":"p"},{"subj":"A1","pred":"p"}]`),
		want: []string{"UNKNOWN_REFERENCE relations[0].subj", "UNKNOWN_REFERENCE relations[1].obj", "UNKNOWN_REFERENCE attributes[1].subj"}},
	{name: "a given id is no target", raw: doc(`"denotations":[{"span":{"begin":0,"end":1},"obj":"A"}]`, `"attributes":[{"subj":"T1","pred":"p"}]`),
		want: []string{"UNKNOWN_REFERENCE attributes[0].subj"}},
	{name: "references to wrong entries are not wrong", raw: doc(`"denotations":[{"id":"T1","span":{"begin":0,"end":99},"obj":"A"}]`,
		`"relations":[{"id":"R1","subj":"T1","pred":"","obj":"T1"}]`, `"attributes":[{"subj":"T1","pred":"p"},{"subj":"R1","pred":"p"}]`),
		want: []string{"SPAN_OUT_OF_RANGE denotations[0].span.end", "MISSING_PRED relations[0].pred"}},
	{name: "mixed relation", raw: doc(twoDenotations, `"blocks":[{"id":"B1","span":{"begin":0,"end":1},"obj":"A"}]`,
		`"relations":[{"subj":"T1","pred":"p","obj":"B1"},{"subj":"B1","pred":"p","obj":"T1"},{"subj":"B1","pred":"p","obj":"B1"}]`),
		want: []string{"MIXED_RELATION relations[0]", "MIXED_RELATION relations[1]"}},
	{name: "a relation to an id that is twice in use is not mixed", raw: doc(twoDenotations, `"blocks":[{"id":"T1","span":{"begin":0,"end":1},"obj":"A"},`+
		`{"id":"B1","span":{"begin":1,"end":2},"obj":"A"}]`, `"relations":[{"subj":"T1","pred":"p","obj":"B1"}]`),
		want: []string{"DUPLICATE_ID blocks[0].id"}},
	{name: "integer ids", raw: doc(`"denotations":[{"id":7,"span":{"begin":0,"end":1},"obj":"A"}]`, `"attributes":[{"subj":"7","pred":"p"},{"subj":7,"pred":"q"}]`)},
}

var warningCases = []parseCase{
	{name: "coerced numbers", raw: doc(`"denotations":[{"span":{"begin":"4","end":6.0},"obj":"A"},{"begin":" 4 ","end":"60e-1","obj":"B"}]`),
		want: []string{"COERCED_NUMBER denotations[0].span.begin", "COERCED_NUMBER denotations[0].span.end",
			"COERCED_NUMBER denotations[1].begin", "COERCED_NUMBER denotations[1].end"}},
	{name: "duplicate attribute", raw: doc(twoDenotations, `"attributes":[{"subj":"T1","pred":"p"},{"subj":"T1","pred":"p","obj":true},`+
		`{"subj":"T1","pred":"p","obj":"true"},{"subj":"T2","pred":"p","obj":1},{"subj":"T2","pred":"p","obj":1.0},{"id":"X","subj":"T2","pred":"p","obj":1}]`),
		want: []string{"DUPLICATE_ATTRIBUTE attributes[1]", "DUPLICATE_ATTRIBUTE attributes[5]"}},
	{name: "blocks on the same range", raw: doc(`"blocks":[{"begin":0,"end":1,"obj":"A"},{"begin":0,"end":2,"obj":"A"},{"begin":0,"end":1,"obj":"B"}]`),
		want: []string{"SAME_RANGE_BLOCKS blocks[2]"}},
	{name: "crossing denotations", raw: doc(`"denotations":[{"begin":2,"end":6,"obj":"A"},{"begin":0,"end":4,"obj":"A"},{"begin":4,"end":6,"obj":"A"},{"begin":2,"end":4,"obj":"A"}]`,
		`"blocks":[{"begin":0,"end":4,"obj":"A"},{"begin":2,"end":6,"obj":"A"}]`),
		want: []string{"CROSSING_DENOTATIONS denotations[0].span", "CROSSING_BLOCKS blocks[1].span"}},
	{name: "ignored keys", raw: doc(`"modifications":[{}],"tracks":{"x":1},"project":"p","target":{},"config":{"a":[1]}`),
		want: []string{"IGNORED_KEY modifications"}},
	{name: "ignored tracks", raw: doc(`"modifications":null,"tracks":[{"project":"p"}]`), want: []string{"IGNORED_KEY tracks"}},
	{name: "ignored keys without content", raw: doc(`"modifications":[ ],"tracks":null`)},
	{name: "misspelled keys", raw: doc(`"denotation":[{}],"Blocks":[],"realation":[1],"attribute":{}`), want: []string{"UNKNOWN_KEY denotation"}},
	{name: "a misspelled key beside the right one", raw: doc(twoDenotations, `"denotation":[{}],"test":1,"Text":"t","source_db":"x"`)},
	{name: "a misspelled key beside one that is null", raw: doc(`"blocks":null,"block":[]`), want: []string{"UNKNOWN_KEY block"}},
	{name: "a misspelled key that is not plain", raw: doc(`"relations ":[1]`), want: []string{`UNKNOWN_KEY ["relations "]`}},
	{name: "annotations for denotations", raw: doc(`"annotations":[{}]`), want: []string{"UNKNOWN_KEY annotations"}},
	{name: "misspelled keys that the item needs", raw: `{"source_db":"PubMed","sourceid":"1","txt":"a"}`,
		want: []string{"MISSING_SOURCEDB sourcedb", "MISSING_TEXT text", "UNKNOWN_KEY source_db"}},
	{name: "unknown keys that look like nothing", raw: doc(`"notes":1,"comments":[],"namespace":{},"targets":1,"source_url":"u","divid":1,"x":{}`)},
	{name: "more than the limit", options: annotation.Options{MaxFindings: 2}, raw: doc(`"denotations":[{},{}],"tracks":[1]`),
		want: []string{"MISSING_OBJ denotations[0].obj", "MISSING_SPAN denotations[0].span", "MORE_FINDINGS"}},
	{name: "offsets that fit only in bytes", raw: item(`"text":"naïve Bayes classifiers are here"`, `"denotations":[{"begin":7,"end":12,"obj":"A"},{"begin":13,"end":24,"obj":"A"}]`),
		want: []string{"OFFSETS_SUSPECT denotations[0]"}},
	{name: "errors before warnings", options: annotation.Options{MaxFindings: 1}, raw: doc(`"denotations":[{"begin":"4","end":"5","obj":"A"}],"attributes":1`),
		want: []string{"INVALID_COLLECTION attributes", "MORE_FINDINGS"}},
	{name: "warnings beyond the limit reject nothing", options: annotation.Options{MaxFindings: 1}, raw: doc(`"denotations":[{"begin":"4","end":"5","obj":"A"}]`),
		want: []string{"COERCED_NUMBER denotations[0].begin", "MORE_FINDINGS"}},
}
