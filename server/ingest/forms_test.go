package ingest

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// place is a value with its place, as the tables of forms write it: "2:5 {}" is {} in line 2 at byte 5, "!" before the
// data says that it is refused.
func places(items []Item) []string {
	var out []string
	for i, it := range items {
		if it.Number != int64(i)+1 {
			out = append(out, fmt.Sprintf("number %d", it.Number))
		}
		mark := ""
		if it.Refusal != nil {
			mark = "!" + it.Refusal.Code + " "
		}
		out = append(out, fmt.Sprintf("%d:%d %s%s", it.Line, it.Offset, mark, it.Data))
	}
	return out
}

// valueForms are files that are not JSON Lines, with what is in them.
var valueForms = map[string]struct {
	in   string
	want []string
	code string // of the error that ends it
}{
	"array in one line":       {`[{"a":1},{"b":2}]`, []string{`1:1 {"a":1}`, `1:9 {"b":2}`}, ""},
	"array with lines":        {"[\n{\"a\":1},\n{\"b\":2}\n]\n", []string{`2:2 {"a":1}`, `3:11 {"b":2}`}, ""},
	"array opening in a line": {"\xef\xbb\xbf\n[{\"a\":1},\n{\"b\":2}]\n", []string{`2:5 {"a":1}`, `3:14 {"b":2}`}, ""},
	"commas before":           {"[{\"a\":1}\n,{\"b\":2}\n]\n", []string{`1:1 {"a":1}`, `2:10 {"b":2}`}, ""},
	"pretty array":            {"[\n  {\n    \"a\": 1\n  }\n]\n", []string{`2:4 {     "a": 1   }`}, ""},
	"array of values":         {"[\n1,\n\"b,]\",null, [3,[4]],\n-5e7\n]\n", []string{"2:2 1", `3:5 "b,]"`, "3:11 null", "3:17 [3,[4]]", "4:26 -5e7"}, ""},
	"array of one number":     {"[1]", []string{"1:1 1"}, ""},
	"empty array":             {"[]", nil, ""},
	"array of arrays":         {"[[1],[2]]", []string{"1:1 [1]", "1:5 [2]"}, ""},
	"array, no commas":        {"[{}{} {}]", []string{"1:1 {}", "1:3 {}", "1:6 {}"}, ""},
	"array, many commas":      {"[,{},,{},]", []string{"1:2 {}", "1:6 {}"}, ""},
	"arrays one after other":  {"[{\"a\":1}][{}]", []string{`1:1 {"a":1}`, `1:10 {}`}, ""},
	"pretty arrays":           {"[\n{}\n]\n[\n{}\n]\n", []string{"2:2 {}", "5:9 {}"}, ""},
	"pretty object":           {"{\n  \"a\": [\n    {\"b\": \"x}\\\"\"}\n  ]\n}\n", []string{`1:0 {   "a": [     {"b": "x}\""}   ] }`}, ""},
	"CRLF":                    {"{\r\n\"a\":1\r\n}\r\n{\r\n}\r\n", []string{`1:0 {  "a":1  }`, "4:13 {  }"}, ""},
	"pretty, key behind":      {"{ \"a\": \"b\",\n  \"c\": 1 }\n", []string{`1:0 { "a": "b",   "c": 1 }`}, ""},
	"pretty, array behind":    {"{\"d\": [\n{\"id\":1},\n{\"id\":2}]}\n", []string{`1:0 {"d": [ {"id":1}, {"id":2}]}`}, ""},
	"comma before keys":       {"{ \"a\": 1\n, \"b\": 2\n}\n", []string{`1:0 { "a": 1 , "b": 2 }`}, ""},
	"one after another":       {"{\n}\n{\n\"a\":1\n}\n", []string{"1:0 { }", `3:4 { "a":1 }`}, ""},
	"lines of commas":         {"{\n}\n,\n{\n}\n", []string{"1:0 { }", "4:6 { }"}, ""},
	"in one line":             {`{"a":{}}{"b":1} ,{}`, []string{`1:0 {"a":{}}`, `1:8 {"b":1}`, "1:17 {}"}, ""},
	"blank lines between":     {"\n{\n\n\"a\":\n1\n}\n\n", []string{`2:1 {  "a": 1 }`}, ""},
	"array between":           {"{\n}\n[{},\n{}]{}", []string{"1:0 { }", "3:5 {}", "4:9 {}", "4:12 {}"}, ""},

	// A value that is damaged in itself costs nothing but itself.
	"not a value":            {`[{"a":1},{"a":oops},{"b":2}]`, []string{`1:1 {"a":1}`, `1:9 {"a":oops}`, `1:20 {"b":2}`}, ""},
	"no value":               {`[{"a":},{"b":2}]`, []string{`1:1 {"a":}`, `1:8 {"b":2}`}, ""},
	"trailing comma":         {`[{"a":1,},{"b":2}]`, []string{`1:1 {"a":1,}`, `1:10 {"b":2}`}, ""},
	"missing comma":          {`[{"a":1 "c":{}},{"b":2}]`, []string{`1:1 {"a":1 "c":{}}`, `1:16 {"b":2}`}, ""},
	"words":                  {`[oops {} oops, {}]`, []string{"1:1 oops", "1:6 {}", "1:9 oops", "1:15 {}"}, ""},
	"an array not closed":    {`[{"a":[1,2},{"b":1}]`, []string{`1:1 {"a":[1,2}`, `1:12 {"b":1}`}, ""},
	"closed too often":       {`[{"a":1}},{"b":1}]`, []string{`1:1 {"a":1}`, `1:8 }`, `1:10 {"b":1}`}, ""},
	"not closed, at last":    {`[{"a":1},{"b":{"c":1}]`, []string{`1:1 {"a":1}`, `1:9 {"b":{"c":1}`}, ""},
	"not closed, by lines":   {"[\n{\"a\":1},\n{\"b\":[,\n{\"c\":1}\n]", []string{`2:2 {"a":1}`, `3:11 {"b":[`, `4:19 {"c":1}`}, ""},
	"line end in a string":   {"[\n{\"a\":1},\n{\"b\":\"x},\n{\"c\":1}\n]", []string{`2:2 {"a":1}`, "3:11 {\"b\":\"x}", `4:21 {"c":1}`}, ""},
	"the last one, by lines": {"[\n {\"a\":1},\n {\"b\":\"x}\n]\n", []string{`2:3 {"a":1}`, "3:13 {\"b\":\"x}"}, ""},
	"pretty, quote missing": {"[\n  {\n    \"a\": \"1\"\n  },\n  {\n    \"a: \"2\"\n  },\n  {\n    \"a\": \"3\"\n  }\n]",
		[]string{`2:4 {     "a": "1"   }`, "5:26 {\n    \"a: \"2\"\n  }", `8:47 {     "a": "3"   }`}, ""},
	"pretty, brace missing": {"{\n  \"a\": 1\n}\n{\n  \"b\": {\n    \"c\": 1\n  }\n{\n  \"d\": 1\n}\n",
		[]string{`1:0 {   "a": 1 }`, "4:13 {\n  \"b\": {\n    \"c\": 1\n  }", `8:39 {   "d": 1 }`}, ""},

	// Otherwise it takes the rest with it.
	"quote missing":       {`[{"a":1},{"b":"x},{"c":1},{"d":"e"}]`, []string{`1:1 {"a":1}`, `1:9 !UNREADABLE {"b":"x},{"c":1},{"d":"e"}]`}, ""},
	"line end, one line":  {"[{\"a\":1},{\"b\":\"\n\"},{\"c\":1}]", []string{`1:1 {"a":1}`, "1:9 !UNREADABLE {\"b\":\"\n\"},{\"c\":1}]"}, ""},
	"lines within values": {"[\n{\"d\":[\n{}\n]},\n{\"d\":\"\n{}\n]},\n{}]", []string{"2:2 {\"d\":[ {} ]}", "5:16 !UNREADABLE {\"d\":\"\n{}\n]},\n{}]"}, ""},
	"behind an array":     {"[{},\n{}]\n\noops {}", []string{"1:1 {}", "2:5 {}", "4:10 !UNREADABLE oops {}"}, ""},

	// What ends early says so.
	"no end of the array": {"[{},\n{}\n", []string{"1:1 {}", "2:5 {}"}, CodeTruncated},
	"only its beginning":  {"[", nil, CodeTruncated},
	"ends in a value":     {`[{},{"a":[1,`, []string{"1:1 {}", `1:4 {"a":[1`}, ""},
	"ends in a string":    {`[{},"abc`, []string{"1:1 {}", `1:4 "abc`}, ""},
	"ends in a number":    {`[{},12`, []string{"1:1 {}", `1:4 12`}, CodeTruncated},
}

func TestReaderValues(t *testing.T) {
	t.Parallel()
	for name, test := range valueForms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for form, data := range map[string]string{"plain": test.in, "gzip": gzipOf(t, test.in), "zstd in gzip": gzipOf(t, zstdOf(t, test.in))} {
				for source, src := range map[string]io.Reader{
					"at once":         strings.NewReader(data),
					"byte by byte":    iotest.OneByteReader(strings.NewReader(data)),
					"data with error": iotest.DataErrReader(strings.NewReader(data)),
				} {
					got, err := readItems(t, src, ReaderConfig{File: "f"})
					if diff := cmp.Diff(test.want, places(got), cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("%s, %s (-want +got):\n%s", form, source, diff)
					}
					code := ""
					if err != nil {
						code = formatError(t, err).Code
					}
					if code != test.code {
						t.Errorf("%s, %s: it ended with %v, want code %q", form, source, err, test.code)
					}
				}
			}
		})
	}
}

// TestReaderTellsForms has files that must be taken for JSON Lines, and their neighbors that must not.
func TestReaderTellsForms(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", sniffLine)
	tests := map[string]struct {
		in      string
		objects bool
		want    Encoding
	}{
		"lines":                       {"{}\n{}", false, Plain},
		"one line":                    {`{"a":1}`, false, Plain},
		"a broken line":               {"{\"a\":{\n{\"a\":1}\n", false, Plain},
		"a line broken in a string":   {"{\"a\":\"\n{\"a\":1}\n", false, Plain},
		"a line broken at an array":   {"{\"a\":[\n{\"a\":1}\n", false, Plain},
		"a line closed too often":     {"{}}\n{}\n", false, Plain},
		"a broken line, nothing more": {"{\"a\":{\n", false, Plain},
		"lines of arrays":             {"[1]\n[2]\n", false, Plain},
		"lines of arrays of objects":  {"[{}]\n[{}]\n", false, Plain},
		"of items":                    {"[{}]\n[{}]\n", true, Itemized},
		"lines of arrays, no items":   {"[1]\n[{}]\n", true, Plain},
		"a line of an array, broken":  {"[1\n[2]\n", false, Plain},
		"an array":                    {"[1]\n\n", false, Itemized},
		"a long line":                 {`{"a":"` + long + `"}` + "\n{}", false, Plain},
		"a long line of a string":     {`"` + long + `"`, false, Plain},
		"a long line of objects":      {`{"a":1}{"b":"` + long + `"}`, false, Itemized},
		"a long line of an array":     {`[{"a":"` + long + `"}]`, false, Itemized},
		"a pretty object":             {"{\n\"a\":1}", false, Itemized},
	}
	for name, test := range tests {
		r, err := NewReader(strings.NewReader(test.in), ReaderConfig{Objects: test.objects})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.encoding(); got != test.want {
			t.Errorf("%s: got encoding %q, want %q", name, got, test.want)
		}
	}
}

func TestReaderLongValues(t *testing.T) {
	t.Parallel()
	const limit = 100
	for _, n := range []int{limit - 1, limit, limit + 1, limit + 2, 3 * smallBuffer} {
		for what, value := range map[string]string{
			"an object": `{"a":"` + strings.Repeat("x", n-8) + `"}`,
			"pretty":    "{\"a\":" + strings.Repeat("\n", n-7) + `1}`,
			"an array":  `[` + strings.Repeat("[", (n-2)/2) + strings.Repeat(" ", n%2) + strings.Repeat("]", (n-2)/2) + `]`,
			"a string":  `"` + strings.Repeat("x", n-2) + `"`,
			"a word":    strings.Repeat("x", n),
			"damaged":   `{"a":,` + strings.Repeat("x", n-7) + `}`,
		} {
			in := "[{}," + value + ",\n{}]"
			for name, src := range map[string]io.Reader{
				"at once":      strings.NewReader(in),
				"byte by byte": iotest.OneByteReader(strings.NewReader(in)),
			} {
				got, err := readAll(t, src, ReaderConfig{File: "f", MaxItem: limit})
				if err != nil {
					t.Fatal(err)
				}
				// The lines end before the third.
				want := item(2, 1, 4, value)
				behind := int64(2 + strings.Count(value, "\n"))
				if n > limit {
					want.Data = want.Data[:limit]
				} else {
					want.Data = []byte(strings.ReplaceAll(value, "\n", " "))
				}
				all := item(1, 1, 1, "{}")
				if diff := cmp.Diff([]any{all, want, item(3, behind, int64(n)+6, "{}")}, []any{got[0], got[1], got[2]}); diff != "" {
					t.Errorf("%s of %d bytes, %s (-want +got):\n%s", what, n, name, diff)
				}
			}
		}
	}
}

// TestReaderValuesAreCut cuts files of every form at every byte: what stands before is read, nothing is invented, and
// that something is missing is said unless nothing can tell.
func TestReaderValuesAreCut(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"array":  "[\n{\"a\":1},\n{\"a\":[{\"b\":\"]}\"}]},\n{}]",
		"pretty": "{\n \"a\": [\n  1\n ]\n}\n{\n}\n,\n{\n}",
	} {
		all, err := readItems(t, strings.NewReader(in), ReaderConfig{File: "f"})
		if err != nil || len(all) != 3 {
			t.Fatalf("%s: got %d items, %v", name, len(all), err)
		}
		for n := range len(in) {
			got, err := readItems(t, strings.NewReader(in[:n]), ReaderConfig{File: "f"})
			whole := 0
			for whole < len(all) && all[whole].Offset+all[whole].Length <= int64(n) {
				whole++
			}
			begun := whole < len(all) && all[whole].Offset < int64(n)
			want := all[:whole]
			if begun {
				want = all[:whole+1] // of which only the beginning is there
			}
			if len(got) != len(want) {
				t.Errorf("%s cut at byte %d: got %v, want %d items", name, n, places(got), len(want))
				continue
			}
			if diff := cmp.Diff(places(all[:whole]), places(got[:whole])); diff != "" {
				t.Errorf("%s cut at byte %d (-want +got):\n%s", name, n, diff)
			}
			if open := name == "array" && n > 0 && !begun; open != (err != nil) {
				t.Errorf("%s cut at byte %d: got %v, want an error: %t", name, n, err, open)
			}
		}
	}
}
