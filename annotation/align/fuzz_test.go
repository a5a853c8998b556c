package align_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// FuzzAlign aligns anything to anything and checks what is promised of the answer.
func FuzzAlign(f *testing.F) {
	for _, c := range [][2]string{
		{"TNF-α acts on IL–2.", "TNF-alpha acts on IL-2 ."},
		{"Re\u0301sume\u0301 \u0323\u0307 한글 ﬁ", "résumé \u0307\u0323 \u1112\u1161\u11ab fi"},
		{"aaaaaaaaaaaaaaaaaaaaaaaab", "aaaaaaaaaaaabaaaaaaaaaaa"},
		{"abababababababababababab", "babababacabababababab"},
		{"one two three four five six seven eight nine ten", "six seven eight nine ten one two three for five"},
		{"a\u200b \u00a0\u3000b\u00adc", " a b\u2060c "},
		{"שלום עולם 😀𝒳", "\u202eשלום  עולם😀 𝒳"},
		{"彼は東京都に住んでいる学生です。", "彼は東京都に住む学生です"},
		{"x", " "}, {"", ""}, {"\xff\xc3", "\xc3\xff"},
	} {
		f.Add(c[0], c[1], uint8(0))
	}
	f.Fuzz(func(t *testing.T, document, item string, nth uint8) {
		if len(document)+len(item) > 1<<12 {
			return
		}
		document, item = strings.ToValidUTF8(document, "?"), strings.ToValidUTF8(item, "?")
		d := align.New(document)
		a := d.Align(item, int(nth))
		check(t, d, a, item)
		if again := d.Align(item, int(nth)); again.Share() != a.Share() || again.Level() != a.Level() {
			t.Errorf("again: level %d, share %v; level %d, share %v", again.Level(), again.Share(), a.Level(), a.Share())
		}
	})
}

// check checks what is promised of an alignment.
func check(t *testing.T, d *align.Document, a *align.Alignment, item string) {
	t.Helper()
	length, points := utf8.RuneCountInString(d.Text()), []rune(item)
	begin, end := a.Place()
	if a.Share() < 0 || a.Share() > 1 || begin < 0 || begin > end || end > length || a.Share() > 0 && begin == end {
		t.Fatalf("share %v, place %d to %d of %d", a.Share(), begin, end, length)
	}
	if strings.Contains(d.Text(), item) != (a.Level() == align.Exact) && item != "" {
		t.Errorf("level %d", a.Level())
	}
	text := []rune(d.Text())
	step := max(1, len(points)/16)
	for from := 0; from < len(points); from += step {
		for to := from + 1; to <= len(points); to += step {
			s, ok := a.Map(from, to)
			if !ok {
				if a.Level() != align.General && strings.TrimSpace(align.Fold(string(points[from:to]))) != "" {
					t.Errorf("%q is lost at level %d", string(points[from:to]), a.Level())
				}
				continue
			}
			if s.Begin < begin || s.Begin >= s.End || s.End > end {
				t.Fatalf("%d to %d is %+v, outside of %d to %d", from, to, s, begin, end)
			}
			if a.Level() == align.Exact && (s.Changed || string(text[s.Begin:s.End]) != string(points[from:to])) {
				t.Errorf("%d to %d is %+v, which is another text", from, to, s)
			}
		}
	}
	if a.Level() != align.Mapped {
		return
	}
	p := a.Phrase()
	if stored, ok := d.PhraseAt(begin, end-begin); !ok || !stored.Same(p) {
		t.Errorf("at %d is another phrase: %+v, %v, want %+v", begin, stored, ok, p)
	}
	if last, ok := d.Last(p); !ok || last < begin {
		t.Errorf("the last place is %d, %v; one is %d", last, ok, begin)
	}
	if first, ok := d.Next(p, begin); !ok || first != begin {
		t.Errorf("the place from %d on is %d, %v", begin, first, ok)
	}
}

// FuzzFold compares the folded form with a slower one, and the code points that it stands for.
func FuzzFold(f *testing.F) {
	for _, text := range []string{
		"TNF-α \u00a0\n IL–2", "Re\u0301sume\u0301\u0323\u0307", "한글\u1112\u1161", "ﬁ½…™", "a\u200b \u3000b\u00ad", "İßς", "\u0344\u0f73e",
		strings.Repeat("\u0323\u0307", 40), "´ˋ″", "\u200b\u200b\u200b",
	} {
		f.Add(text, uint16(1), uint16(3))
	}
	f.Fuzz(func(t *testing.T, text string, from, to uint16) {
		text = strings.ToValidUTF8(text, "?")
		if err := align.CheckFold(text, int(from), int(to)); err != "" {
			t.Errorf("%+q: %s", text, err)
		}
	})
}

// FuzzFind compares what the index finds with what searching does.
func FuzzFind(f *testing.F) {
	f.Add("The quick brown fox jumps over the quick brown fox.", uint16(4), uint16(15))
	f.Add(strings.Repeat("abcabcabd", 9), uint16(3), uint16(30))
	f.Add(prose(7, 40_000), uint16(1000), uint16(300))
	f.Fuzz(func(t *testing.T, text string, begin, length uint16) {
		if err := align.CheckFind(strings.ToValidUTF8(text, "?"), int(begin), int(length)); err != "" {
			t.Errorf("%s", err)
		}
	})
}
