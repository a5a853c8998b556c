package annotation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
)

// Ways to count how much of a text lies before a code point.
var countings = map[string]func(before []rune) int{
	"UTF-16 units":  func(before []rune) int { return len(utf16.Encode(before)) },
	"bytes (UTF-8)": func(before []rune) int { return len(string(before)) },
}

const looksLike = "The spans of this item look as if counted in "

// words are the ranges of the words of a text, in code points.
func words(text string) (ranges [][2]int) {
	begin := -1
	for i, r := range append([]rune(text), ' ') {
		switch isWord := !unicode.IsSpace(r); {
		case isWord && begin < 0:
			begin = i
		case !isWord && begin >= 0:
			ranges = append(ranges, [2]int{begin, i})
			begin = -1
		}
	}
	return ranges
}

// counted is an item whose spans are counted in some way.
func counted(text string, ranges [][2]int, count func([]rune) int) []byte {
	var entries []string
	runes := []rune(text)
	for _, r := range ranges {
		entries = append(entries, fmt.Sprintf(`{"span":{"begin":%d,"end":%d},"obj":"A"}`, count(runes[:r[0]]), count(runes[:r[1]])))
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return []byte(item(`"text":`+string(quoted), `"denotations":[`+strings.Join(entries, ",")+`]`))
}

func count(before []rune) int { return len(before) }

// suspected returns the unit that findings name, and checks that they do so where they should.
func suspected(t failing, findings []annotation.Finding) string {
	t.Helper()
	unit := ""
	for _, f := range findings {
		_, rest, told := strings.Cut(f.Message, looksLike)
		named, _, _ := strings.Cut(rest, ";")
		past := f.Code == annotation.SpanOutOfRange
		switch {
		case told && unit != "" && (named != unit || !past):
			t.Errorf("the spans are told to be counted in %s, and in %s", unit, named)
		case told && !past && f.Code != annotation.OffsetsSuspect:
			t.Errorf("%s is told of %v", named, f)
		case !told && (unit != "" && past || f.Code == annotation.OffsetsSuspect):
			t.Errorf("no unit is told of %v", f)
		}
		if told {
			unit = named
		}
	}
	return unit
}

func TestSuspectOffsets(t *testing.T) {
	t.Parallel()
	const (
		inBytes = "bytes (UTF-8)"
		inUTF16 = "UTF-16 units"
	)
	greek, astral := "α β-catenin and γ-secretase are found in the cells", "😀 in the 😀 cells of 😀 patients with 𝄞 a disease"
	tests := []struct {
		name, text string
		ranges     [][2]int
		in, want   string
	}{
		{"as it should be", greek, words(greek), "", ""},
		{"bytes, past the end", greek, words(greek), inBytes, inBytes},
		{"bytes, all in the text", greek + " " + greek, words(greek), inBytes, inBytes},
		{"UTF-16 is no other where no character needs two", greek, words(greek), inUTF16, ""},
		{"UTF-16, past the end", astral, words(astral), inUTF16, inUTF16},
		{"UTF-16, all in the text", astral + " " + astral, words(astral), inUTF16, inUTF16},
		{"astral bytes, past the end", astral, words(astral), inBytes, inBytes},
		{"astral bytes, all in the text", astral + " with some more words to be on the safe side", words(astral), inBytes, inBytes},
		{"only the last one past the end, by all of the surplus", "日本語の文章", [][2]int{{0, 1}, {2, 3}, {3, 6}}, inBytes, inBytes},
		{"one past the end", "naïve Bayes", [][2]int{{6, 11}}, inBytes, inBytes},
		{"one in the text tells nothing", "naïve Bayes classifiers", [][2]int{{6, 11}}, inBytes, ""},
		{"two in the text", "naïve Bayes classifiers here", [][2]int{{6, 11}, {12, 23}}, inBytes, inBytes},
		{"two in the text beside one that is odd before", "of naïve Bayes classifiers here", [][2]int{{1, 2}, {9, 14}, {15, 26}}, inBytes, ""},
		{"parts of words on purpose", "naïve antigens and proteins all over", [][2]int{{6, 8}, {10, 13}, {19, 21}}, "", ""},
		{"with the space before", "naïve Bayes classifiers are here", [][2]int{{5, 11}, {11, 23}, {23, 27}}, "", ""},
		{"combining marks count for themselves", "nai\u0308ve Bayes classifiers are here", [][2]int{{0, 6}, {7, 12}, {13, 24}}, "", ""},
		{"combining marks, in bytes", "nai\u0308ve Bayes classifiers are here for good", [][2]int{{0, 6}, {7, 12}, {13, 24}, {25, 28}}, inBytes, inBytes},
		{"plain ASCII", "some words and more", [][2]int{{1, 6}, {2, 7}, {7, 12}}, "", ""},
	}
	for _, test := range tests {
		counting := countings[test.in]
		if counting == nil {
			counting = count
		}
		_, findings := annotation.Options{}.Parse(counted(test.text, test.ranges, counting))
		if got := suspected(t, findings); got != test.want {
			t.Errorf("%s: suspected is %q, want %q: %v", test.name, got, test.want, findings)
		}
	}
}

// The finding of a negative offset says nothing of units, and neither do those of others.
func TestSuspectOffsetsBesideOthers(t *testing.T) {
	t.Parallel()
	raw := item(`"text":"é é é words"`, `"denotations":[{"begin":-1,"end":3,"obj":"A"},{"begin":9,"end":14,"obj":"A"},{"begin":0,"end":"x","obj":"A"}]`,
		`"blocks":[{"span":[{"begin":0,"end":2},{"begin":9,"end":14}],"obj":"A"}]`)
	_, findings := annotation.Options{}.Parse([]byte(raw))
	var told []string
	for _, f := range findings {
		if strings.Contains(f.Message, looksLike+"bytes (UTF-8); count Unicode code points.") {
			told = append(told, f.Path)
		}
	}
	if diff := cmp.Diff([]string{"denotations[1].end", "blocks[0].span[1].end"}, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
	raw = item(`"text":"naïve Bayes"`, `"denotations":[{"begin":6,"end":14,"obj":"A"},{"begin":0,"end":5,"obj":"A"}]`)
	if _, findings = (annotation.Options{}).Parse([]byte(raw)); suspected(t, findings) != "" {
		t.Errorf("a span that ends past the text in any unit: %v", findings)
	}
}

// TestOffsetsInOtherUnits counts the words of texts otherwise than they should be. That is found whenever more than a few
// of them come to begin or end amid words, and never of words that are counted as they should be.
func TestOffsetsInOtherUnits(t *testing.T) {
	t.Parallel()
	vocabulary := []string{"the", "β", "βeta", "naïve", "IL-2", "(HIV)", "α/β", "nai\u0308ve", "😀", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "日本", "a", "cells", "of", "patients", "x\u0301"}
	found := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(vocabulary), 1, 40).Draw(t, "words"), " ")
		all := words(text)
		ranges := rapid.SliceOfN(rapid.SampledFrom(all), 1, 20).Draw(t, "spans")
		if item, findings := (annotation.Options{}).Parse(counted(text, ranges, count)); item == nil || suspected(t, findings) != "" {
			t.Fatalf("correct spans are suspected: %v", findings)
		}
		clean := make(map[[2]int]bool)
		for _, r := range all {
			clean[r] = true
		}
		for unit, counting := range countings {
			_, findings := annotation.Options{}.Parse(counted(text, ranges, counting))
			moved, amiss, past := 0, 0, false
			runes := []rune(text)
			for _, r := range ranges {
				begin, end := counting(runes[:r[0]]), counting(runes[:r[1]])
				if begin == r[0] && end == r[1] {
					continue
				}
				moved++
				past = past || end > len(runes)
				if end > len(runes) || isAmiss(runes, begin, end) {
					amiss++
				}
			}
			got := suspected(t, findings)
			want := amiss*2 >= moved && (amiss >= 3 || past)
			if want && got == "" {
				t.Fatalf("%s: nothing is suspected though %d of %d words are amiss: %v", unit, amiss, moved, findings)
			}
			if moved == 0 && got != "" {
				t.Fatalf("%s: %s is suspected though no word moves: %v", unit, got, findings)
			}
			if want && got == unit {
				found[unit]++
			} else if want {
				found["another"]++
			}
		}
	})
	if found["another"]*20 > found["UTF-16 units"]+found["bytes (UTF-8)"] || found["UTF-16 units"] == 0 || found["bytes (UTF-8)"] == 0 {
		t.Errorf("suspected: %v", found)
	}
}

// isAmiss reports whether a range begins or ends inside a word or with a space.
func isAmiss(text []rune, begin, end int) bool {
	inner := func(i int) bool {
		letter := func(r rune) bool { return unicode.In(r, unicode.L, unicode.N, unicode.M) }
		return i > 0 && i < len(text) && letter(text[i-1]) && letter(text[i])
	}
	return inner(begin) || inner(end) || unicode.IsSpace(text[begin]) || unicode.IsSpace(text[end-1])
}

// TestRealOffsetsInOtherUnits counts the spans of real items in bytes, which are correct and have not only words.
func TestRealOffsetsInOtherUnits(t *testing.T) {
	t.Parallel()
	tried, told := 0, 0
	for _, raw := range elements(t, sharedData(t, "annotations/BB-event.array.json")) {
		it, _ := annotation.Options{}.Parse(raw)
		if it == nil {
			t.Fatalf("%s is rejected", raw)
		}
		runes, moved := []rune(it.Text), 0
		var ranges [][2]int
		for _, d := range it.Denotations {
			ranges = append(ranges, [2]int{d.Begin, d.End})
			if utf8.RuneCountInString(it.Text) != len(it.Text) && len(string(runes[:d.End])) != d.End && isAmiss(runes, min(len(string(runes[:d.Begin])), len(runes)-1), min(len(string(runes[:d.End])), len(runes))) {
				moved++
			}
		}
		_, findings := annotation.Options{}.Parse(counted(it.Text, ranges, countings["bytes (UTF-8)"]))
		got := suspected(t, findings)
		if moved > 3 {
			tried++
			if got == "bytes (UTF-8)" {
				told++
			} else {
				t.Errorf("%s: %d spans are amiss, and %q is suspected", it.Key, moved, got)
			}
		}
	}
	t.Logf("of %d items told of %d", tried, told)
	if tried == 0 {
		t.Error("there is no item to try")
	}
}

func BenchmarkParseNotASCII(b *testing.B) {
	raws := elements(b, sharedData(b, "annotations/BB-event.array.json"))
	for name, change := range map[string]func([]byte) []byte{
		"as it is":  bytes.Clone,
		"not ASCII": func(raw []byte) []byte { return bytes.Replace(raw, []byte(`"text": "`), []byte(`"text": "é`), 1) },
	} {
		var all [][]byte
		size := 0
		for _, raw := range raws {
			all = append(all, change(raw))
			size += len(raw)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				for _, raw := range all {
					annotation.Options{}.Parse(raw)
				}
			}
		})
	}
}
