package align_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// mapped is what became of a span: its text in the document, what of it is changed, or lost.
type mapped struct {
	Begin, End int
	Text       string
	Changed    bool
	Lost       bool
}

func TestMap(t *testing.T) {
	t.Parallel()
	const long = "The quick brown fox jumps over the lazy dog while seventeen zebras vexingly watch from the quiet hill. "
	for _, c := range []struct {
		name           string
		document, item string
		nth            int
		begin, end     int // of the item; end 0: where span is
		span           string
		level          align.Level
		want           mapped
	}{
		{name: "equal", document: "a protein b", item: "a protein b", span: "protein", level: align.Exact, want: mapped{2, 9, "protein", false, false}},
		{name: "part", document: "αβ a protein b", item: "a protein", span: "protein", level: align.Exact, want: mapped{5, 12, "protein", false, false}},
		{name: "second place", document: "cat, cat, cat", item: "cat", nth: 1, span: "cat", level: align.Exact, want: mapped{5, 8, "cat", false, false}},
		{name: "last place", document: "cat, cat, cat", item: "cat", nth: 9, span: "cat", level: align.Exact, want: mapped{10, 13, "cat", false, false}},
		{name: "beyond the basic plane", document: "𝒳😀 Cell", item: "😀 cell", span: "cell", level: align.Mapped, want: mapped{3, 7, "Cell", false, false}},
		{name: "right to left", document: "מילה \u200fשלום\u200f עולם", item: "מילה שלום עולם", span: "עולם", level: align.Mapped, want: mapped{12, 16, "עולם", false, false}},
		{name: "case", document: "See TNF here", item: "tnf", span: "tnf", level: align.Mapped, want: mapped{4, 7, "TNF", false, false}},
		{name: "dash", document: "IL–2 binds", item: "IL-2 binds", span: "IL-2", level: align.Mapped, want: mapped{0, 4, "IL–2", false, false}},
		{name: "minus and quotes", document: "“a − b’s”", item: "\"a - b's\"", span: "b's", level: align.Mapped, want: mapped{5, 8, "b’s", false, false}},
		{name: "Greek in the document", document: "TNF-α acts", item: "TNF-alpha acts", span: "acts", level: align.Mapped, want: mapped{6, 10, "acts", false, false}},
		{name: "Greek in the item", document: "TNF-alpha acts", item: "TNF-α acts", span: "α", level: align.Mapped, want: mapped{4, 9, "alpha", false, false}},
		{name: "inside of a name", document: "TNF-α acts", item: "TNF-alpha acts", span: "lph", level: align.Mapped, want: mapped{4, 5, "α", true, false}},
		{name: "up to the middle of a name", document: "TNF-α acts", item: "TNF-alpha acts", span: "TNF-alp", level: align.Mapped, want: mapped{0, 5, "TNF-α", true, false}},
		{name: "micro sign and mu", document: "5 µg of Δ9", item: "5 μg of delta9", span: "delta9", level: align.Mapped, want: mapped{8, 10, "Δ9", false, false}},
		{name: "composed and decomposed", document: "re\u0301sume\u0301 x", item: "résumé x", span: "résumé", level: align.Mapped, want: mapped{0, 8, "re\u0301sume\u0301", false, false}},
		{name: "decomposed and composed", document: "Résumé x", item: "re\u0301sume\u0301 x", span: "x", level: align.Mapped, want: mapped{7, 8, "x", false, false}},
		{name: "without its accent", document: "Résumé x", item: "re\u0301sume\u0301 x", begin: 1, end: 2, level: align.Mapped, want: mapped{1, 2, "é", true, false}},
		{name: "order of marks", document: "q\u0323\u0307 x", item: "Q\u0307\u0323 x", span: "x", level: align.Mapped, want: mapped{4, 5, "x", false, false}},
		{name: "Hangul", document: "한글 x", item: "\u1112\u1161\u11ab\u1100\u1173\u11af x", span: "\u1100\u1173\u11af", level: align.Mapped, want: mapped{1, 2, "글", false, false}},
		{name: "ligatures", document: "the ﬁrst eﬃcient", item: "the first efficient", span: "first", level: align.Mapped, want: mapped{4, 8, "ﬁrst", false, false}},
		{name: "kinds of space", document: "a\u00a0\u2009b\nc", item: "a b c", span: "b c", level: align.Mapped, want: mapped{3, 6, "b\nc", false, false}},
		{name: "spaces", document: "a  b", item: "A b", span: " b", level: align.Mapped, want: mapped{1, 4, "  b", false, false}},
		{name: "the second space", document: "a  b", item: "A  b", begin: 2, end: 4, level: align.Mapped, want: mapped{2, 4, " b", false, false}},
		{name: "up to the first space", document: "a  b", item: "A  b", begin: 0, end: 2, level: align.Mapped, want: mapped{0, 2, "a ", false, false}},
		{name: "nothing but space", document: "a b", item: "A b", begin: 1, end: 2, level: align.Mapped, want: mapped{Lost: true}},
		{name: "space around the item", document: "x a b", item: " \n A b ", span: "A", level: align.Mapped, want: mapped{2, 3, "a", false, false}},
		{name: "soft hyphen", document: "inter\u00adleukin", item: "interleukin", span: "leukin", level: align.Mapped, want: mapped{6, 12, "leukin", false, false}},
		{name: "second mapped place", document: "A–b, A–b", item: "A-b", nth: 1, span: "b", level: align.Mapped, want: mapped{7, 8, "b", false, false}},
		{name: "places that are laid out alike", document: "α, alpha, α", item: "ALPHA", nth: 1, span: "ALPHA", level: align.Mapped, want: mapped{10, 11, "α", false, false}},
		{name: "not in the middle of a character", document: "α ph", item: "PH", span: "PH", level: align.Mapped, want: mapped{2, 4, "ph", false, false}},
		{name: "general", document: long + "It is so.", item: strings.Replace(long, "seventeen ", "", 1) + "It is so!", span: "zebras", level: align.General, want: mapped{60, 66, "zebras", false, false}},
		{name: "general, replaced", document: long, item: strings.Replace(long, "brown", "brownish", 1), span: "brownish", level: align.General, want: mapped{10, 15, "brown", true, false}},
		{name: "general, lost", document: long, item: strings.Replace(long, "seventeen", "17", 1), span: "17", level: align.General, want: mapped{Lost: true}},
		{name: "general, over what was lost", document: long, item: strings.Replace(long, "seventeen", "17", 1), span: "17 zebras vexingly", level: align.General, want: mapped{50, 75, "seventeen zebras vexingly", true, false}},
		{name: "out of order", document: "Alpha centauri is a star near us. " + long, item: long + "Alpha centauri is one star near us.", span: "centauri", level: align.General, want: mapped{6, 14, "centauri", false, false}},
		{name: "across what is out of order", document: "Alpha centauri is a star near us. " + long, item: long + "Alpha centauri is one star near us.", span: "quiet hill. Alpha centauri", level: align.General, want: mapped{Lost: true}},
		{name: "unspaced script", document: "彼は東京都に住んでいる学生です。毎日電車で通います。", item: "彼は東京都に住む学生です。毎日電車で通っています。", span: "学生", level: align.General, want: mapped{11, 13, "学生", false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := align.New(c.document).Align(c.item, c.nth)
			begin, end := c.begin, c.end
			if c.end == 0 {
				begin = strings.Index(c.item, c.span)
				begin = len([]rune(c.item[:begin]))
				end = begin + len([]rune(c.span))
			}
			got := mapped{}
			s, ok := a.Map(begin, end)
			if got.Lost = !ok; ok {
				got = mapped{s.Begin, s.End, string([]rune(c.document)[s.Begin:s.End]), s.Changed, false}
			}
			if a.Level() != c.level {
				t.Errorf("level %d, want %d", a.Level(), c.level)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	words := func(s string) string { return strings.Repeat(s, 20) }
	for _, c := range []struct {
		name           string
		document, item string
		least, most    float64
	}{
		{"all of it", "abc", "abc", 1, 1},
		{"mapped", "ABC", "abc", 1, 1},
		{"nothing", "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae.", "Twas brillig, and the slithy toves did gyre and gimble in the wabe:", 0, 0.15},
		{"half", "Gallia est omnis divisa in partes tres, quarum unam.", "Gallia est omnis divisa in: Twas brillig, and slithy.", 0.4, 0.65},
		{"no letter in common", words("abc "), words("xyz "), 0, 0},
		{"other script", "Gallia est omnis divisa in partes tres", "彼は東京都に住む学生です。毎日電車で通っています。", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := align.New(c.document).Align(c.item, 0).Share(); got < c.least || got > c.most {
				t.Errorf("share %.3f, want %.2f to %.2f", got, c.least, c.most)
			}
		})
	}
}

// TestRange gives spans that the item does not have.
func TestRange(t *testing.T) {
	t.Parallel()
	for _, item := range []string{"A-b c", "a–b c", "a–b d c e f"} {
		a := align.New("x a–b c").Align(item, 0)
		for _, s := range [][2]int{{-1, 1}, {0, 0}, {2, 1}, {0, len([]rune(item)) + 1}, {99, 100}} {
			if got, ok := a.Map(s[0], s[1]); ok {
				t.Errorf("%q: span %v is %+v", item, s, got)
			}
		}
	}
}

func TestPhrase(t *testing.T) {
	t.Parallel()
	text := "A–b, a‐B. αA-b alpha; a-b"
	d := align.New(text)
	a := d.Align("A−B", 0)
	p := a.Phrase()
	var got []int
	for from := 0; ; {
		begin, ok := d.Next(p, from)
		if !ok {
			break
		}
		got = append(got, begin)
		stored, ok := d.PhraseAt(begin, p.Length())
		if !ok || !stored.Same(p) {
			t.Errorf("at %d is %+v, %v, want %+v", begin, stored, ok, p)
		}
		from = begin + p.Length()
	}
	if diff := cmp.Diff([]int{0, 5, 11, 22}, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if last, ok := d.Last(p); !ok || last != 22 {
		t.Errorf("the last place is %d, %v, want 22", last, ok)
	}
}
