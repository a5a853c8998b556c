package sample

import (
	"fmt"
	"strings"
)

// badKinds are the ways in which an item is bad, each a format with one place for the id of its document. Each breaks
// one rule; all are one line, so that they stay one item.
var badKinds = []struct{ name, format string }{
	{"span out of range", `{"sourcedb":"PubMed","sourceid":"%d","text":"short","denotations":[{"id":"T1","span":{"begin":2,"end":9},"obj":"Protein"}]}`},
	{"sourcedb missing", `{"sourceid":"%d","text":"who am I","denotations":[]}`},
	{"truncated JSON", `{"sourcedb":"PubMed","sourceid":"%d","text":"cut off in the mid`},
	{"invalid UTF-8", `{"sourcedb":"PubMed","sourceid":"%d","text":"` + "caf\xe9" + `"}`},
	{"duplicate id", `{"sourcedb":"PubMed","sourceid":"%d","text":"one two","denotations":[{"id":"T1","span":{"begin":0,"end":3},"obj":"A"},{"id":"T1","span":{"begin":4,"end":7},"obj":"B"}]}`},
	{"dangling relation", `{"sourcedb":"PubMed","sourceid":"%d","text":"one","denotations":[{"id":"T1","span":{"begin":0,"end":3},"obj":"A"}],"relations":[{"id":"R1","subj":"T1","pred":"binds","obj":"T2"}]}`},
	{"blank text", `{"sourcedb":"PubMed","sourceid":"%d","text":"  ","denotations":[]}`},
	{"empty span", `{"sourcedb":"PubMed","sourceid":"%d","text":"one","denotations":[{"id":"T1","span":{"begin":2,"end":2},"obj":"A"}]}`},
	{"duplicate key", `{"sourcedb":"PubMed","sourceid":"%d","text":"one","text":"two"}`},
	{"U+0000", `{"sourcedb":"PubMed","sourceid":"%d","text":"nothing \u0000 here"}`},
	{"lone surrogate", `{"sourcedb":"PubMed","sourceid":"%d","text":"half \ud83e of a pair"}`},
	{"no object", `["PubMed",%d]`},
	{"fractional offset", `{"sourcedb":"PubMed","sourceid":"%d","text":"one two","denotations":[{"id":"T1","span":{"begin":0,"end":4.5},"obj":"A"}]}`},
	{"label missing", `{"sourcedb":"PubMed","sourceid":"%d","text":"one","denotations":[{"id":"T1","span":{"begin":0,"end":3}}]}`},
	{"attribute of nothing", `{"sourcedb":"PubMed","sourceid":"%d","text":"one","attributes":[{"id":"A1","subj":"T9","pred":"negated","obj":true}]}`},
	{"negative offset", `{"sourcedb":"PubMed","sourceid":"%d","text":"one","denotations":[{"id":"T1","span":{"begin":-1,"end":3},"obj":"A"}]}`},
	{"too deep", `{"sourcedb":"PubMed","sourceid":"%d","text":"one","config":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`},
}

// badID is the id of the first bad item's document; good ones have smaller ids.
const badID = 2_000_000_000

// appendBad appends bad item k as a line.
func appendBad(b []byte, k int) []byte {
	b = fmt.Appendf(b, badKinds[k%len(badKinds)].format, badID+int64(k))
	return append(b, '\n')
}
