package annotation

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// skimmed are texts, and whether skim takes them.
var skimmed = map[string]bool{
	`{}`: true, ` { } `: true, `{"a":1}`: true, "\t{\r\n\"a\" :\n[ ] ,\"b\": [ 1 , 2 ]}\n": true,
	`{"text":"a\"b\\","sourcedb":"PMC","sourceid":12,"denotations":[{"id":"T1","span":{"begin":0,"end":1},"obj":"A"},{}]}`: true,
	`{"blocks":[],"relations":{"a":[]},"attributes":null,"modifications":[1],"tracks":[{"text":""}],"sourcDB":"x"}`:        true,
	`{"n":[0,-0,1,-12,3.25,1e5,1E+5,0.0e-7,123456789]}`:                                                                    true,
	`{"l":[true,false,null]}`: true, `{"a":"\/\b\f\n\r\t\u00e9\u0001\ud83d\ude00"}`: true, `{"a":"é\ufeff日本語 α 😀"}`: true,
	`{"a":"\\u0000"}`: true, `{"a":{"a":{"a":1}}}`: true, `{"a":{"b":1},"b":{"a":1}}`: true, `{"":1}`: true,
	`{"abcdefgh":1,"Xabcdefgh":2,"bbcdefgh":3}`: true, `{"1234567":"1234567"}`: true, "{\"a\":\"\x7f\"}": true,

	``: false, ` `: false, `1`: false, `[]`: false, `{`: false, `}`: false, `{}x`: false, `{}{}`: false, `{"a"}`: false, `{"a":}`: false,
	`{"a":1,}`: false, `{,}`: false, `{"a":1 "b":2}`: false, `{a:1}`: false, `{"a":[1,]}`: false, `{"a":[,1]}`: false, `{"a":[1 2]}`: false,
	`{"a":[1}`: false, `{"a":{]}`: false, `{"a":1]`: false, `{"a":"x`: false, `{"a":"x\`: false, `{"a":"\x"}`: false, `{"a":"\u12"}`: false,
	`{"a":"\u12g4"}`: false, `{"a":"\u0000"}`: false, `{"a":"\ud800"}`: false, `{"a":"\ud800\u0041"}`: false, `{"a":"\ude00\ud83d"}`: false,
	`{"a":"\ud83d\`: false, "{\"a\":\"\n\"}": false, "{\"a\":\"\x00\"}": false, "{\"a\":\"\xff\"}": false, "{\"a\":\"\xc3\"}": false,
	"{\"a\":\"\xed\xa0\x80\"}": false, `{"a":1,"a":2}`: false, `{"abcdefghi":1,"b":2,"abcdefghi":2}`: false, `{"x":{"a":1,"b":2,"a":3}}`: false,
	`{"n":01}`: false, `{"n":-}`: false, `{"n":1.}`: false, `{"n":.5}`: false, `{"n":1e}`: false, `{"n":+1}`: false, `{"n":1e+}`: false,
	`{"n":tru}`: false, `{"n":True}`: false, `{"n":nullx}`: false, `{"n":NaN}`: false, "{\"a\":1\v}": false, "{\"a\":1\x00}": false,
	`{"a":` + strings.Repeat("[", 8) + strings.Repeat("]", 8) + `}`: false,
	// Well formed, and left to the decoder.
	`{"\u0061":1}`: false,
}

// TestSkim has skim take what it should, and nothing else.
func TestSkim(t *testing.T) {
	t.Parallel()
	for text, want := range skimmed {
		if _, got := skim([]byte(text), 8); got != want {
			t.Errorf("%s: taken is %t, want %t", text, got, want)
		}
		checkSkim(t, []byte(text), 8)
		// Wherever a string ends in its words of eight bytes, and the text in its last.
		for n := range 16 {
			padded := strings.Replace(text, `"a"`, `"`+strings.Repeat("é", n)+`a"`, 1) + strings.Repeat(" ", n)
			checkSkim(t, []byte(padded), 8)
		}
	}
}

// TestSkimManyKeys leaves objects of very many keys to the decoder, and is not confused by those beside each other.
func TestSkimManyKeys(t *testing.T) {
	t.Parallel()
	object := func(keys int) string {
		var b strings.Builder
		for i := range keys {
			fmt.Fprintf(&b, `,"key %d":{"a":%d}`, i, i)
		}
		return "{" + strings.TrimPrefix(b.String(), ",") + "}"
	}
	for keys, want := range map[int]bool{1: true, skimmedKeys - 1: true, skimmedKeys + 1: false, 500: false} {
		text := []byte(object(keys))
		if _, got := skim(text, 8); got != want {
			t.Errorf("%d keys: taken is %t, want %t", keys, got, want)
		}
		checkSkim(t, text, 8)
	}
	list := []byte(`{"a":[` + strings.Repeat(object(10)+",", 100) + `{}]}`)
	if _, ok := skim(list, 8); !ok {
		t.Error("many objects are not taken")
	}
}

// FuzzSkim compares skim with the decoder: what it takes the decoder takes, too, and finds the same in it.
func FuzzSkim(f *testing.F) {
	for text := range skimmed {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { checkSkim(t, text, 8) })
}

func checkSkim(t *testing.T, text []byte, maxDepth int) {
	t.Helper()
	got, ok := skim(text, maxDepth)
	if !ok {
		return
	}
	want, err := readOutline(text)
	if err != nil {
		t.Fatalf("%q is taken, but %v", text, err)
	}
	if isSuspect(text, maxDepth) && !bytes.Contains(text, []byte(`\\u0000`)) {
		t.Errorf("%q is taken, but has U+0000 or is nested too deeply", text)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(outline{}, misspelling{})); diff != "" {
		t.Errorf("%q (-decoder +skim):\n%s", text, diff)
	}
}
