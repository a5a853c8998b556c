package align

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/text/unicode/norm"
)

// Fold returns the folded form of a text.
func Fold(text string) string { return fold(text).canon }

// Work returns the elementary steps that an alignment took.
func (a *Alignment) Work() int { return a.work }

// Size returns the bytes that a document keeps besides its text.
func (d *Document) Size() int {
	f, x := d.folded(), d.index()
	return len(f.canon) + cap(f.segments)*int(unsafe.Sizeof(segment{})) + 4*(len(x.heads)+cap(x.next)+cap(x.places)) + len(x.counts)
}

// CheckFold compares the folded form of a text with what a plainer way comes to, and both directions of its map.
func CheckFold(text string, begin, end int) string {
	f := fold(text)
	points := utf8.RuneCountInString(text)
	if !marked(text) {
		var plain strings.Builder
		space := false
		for _, r := range text {
			if invisible(r) {
				continue
			}
			parts := []rune{r}
			if d := norm.NFKD.String(string(r)); !undivided(r) && (d == " " || !strings.HasPrefix(d, " ")) {
				parts = []rune(d)
			}
			for _, r := range parts {
				if unicode.IsSpace(r) {
					if !space {
						plain.WriteByte(' ')
					}
					space = true
					continue
				}
				space = false
				plain.Write(appendMapped(nil, r))
			}
		}
		if plain.String() != f.canon {
			return fmt.Sprintf("folded %+q, want %+q", f.canon, plain.String())
		}
	}
	last := f.segments[len(f.segments)-1]
	if int(last.point) != points || int(last.canon) != len(f.canon) {
		return fmt.Sprintf("ends at %+v, want %d points and %d bytes", last, points, len(f.canon))
	}
	for i, s := range f.segments[1:] {
		if p := f.segments[i]; s.point < p.point || s.canon < p.canon || s.point == p.point && s != last {
			return fmt.Sprintf("segment %d is %+v after %+v", i+1, s, p)
		}
	}
	if begin >= end || end > points {
		return ""
	}
	from, to := f.stretch(begin, end)
	if from > to || to > len(f.canon) {
		return fmt.Sprintf("%d to %d became %d to %d of %d", begin, end, from, to, len(f.canon))
	}
	if from == to {
		return ""
	}
	if !f.whole(from, to) {
		return fmt.Sprintf("%d to %d became %d to %d, which are not whole", begin, end, from, to)
	}
	b, e := f.points(from, to)
	if back, backTo := f.stretch(b, e); back != from || backTo != to {
		return fmt.Sprintf("%d to %d became %d to %d, then %d to %d, then %d to %d", begin, end, from, to, b, e, back, backTo)
	}
	return ""
}

// marked reports whether a text has combining characters, whose order depends on those beside them.
func marked(text string) bool {
	return strings.ContainsFunc(norm.NFKD.String(text), func(r rune) bool { return norm.NFKD.PropertiesString(string(r)).CCC() > 0 })
}

// MostWork is what the documentation of the package promises of the steps that aligning takes.
func MostWork(document, item string) int {
	return workBase + workEach*(len(Fold(document))+len(Fold(item)))
}

// MostSize is what it promises of the bytes that a document keeps.
func MostSize(document string) int {
	return sizeFold*len(Fold(document)) + sizePoint*utf8.RuneCountInString(document) + 1<<10
}

// CheckFind looks for a part of a text, and for one that it may not have, with and without the index.
func CheckFind(text string, begin, length int) string {
	canon := fold(text).canon
	x := newNgrams(canon, 0, len(canon))
	begin = min(begin, len(canon))
	part := canon[begin:min(begin+length, len(canon))]
	for _, part := range []string{part, part + "#", "#" + part, part[len(part)/2:] + part[:len(part)/2]} {
		places, ok := x.find(canon, part)
		if !ok {
			continue
		}
		var want []int
		for from := 0; ; {
			i := strings.Index(canon[from:], part)
			if i < 0 {
				break
			}
			want = append(want, from+i)
			from += i + 1
		}
		if !slices.Equal(places, want) {
			return fmt.Sprintf("%q is found at %v, want %v", part, places, want)
		}
	}
	return ""
}
