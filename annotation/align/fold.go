package align

import (
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// folded is the folded form of a text, and which of its bytes stand for which code points of the text.
type folded struct {
	canon    string
	segments []segment // in order; the last one marks the end
	spaces   []uint32  // before each multiple of spacesEach of its bytes
}

// spacesEach is the distance of bytes up to which spaces are counted in advance.
const spacesEach = 256

// segment is a stretch in which the folded form runs alongside the text.
type segment struct {
	canon uint32 // bytes of the folded form before it
	point uint32 // code points of the text before it
	each  uint8  // bytes that each code point became; 0: all of it is one unit
}

// maxCluster bounds the code points that are put in order together. Longer sequences of combining characters than the
// 30 of Unicode's stream-safe format are no text.
const maxCluster = 32

// fold returns the folded form of a text.
func fold(text string) *folded {
	f := folder{canon: make([]byte, 0, len(text)+len(text)/32)}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c >= utf8.RuneSelf || i+1 < len(text) && text[i+1] >= utf8.RuneSelf:
			i = f.cluster(text, i)
		case asciiSpace(c):
			i = f.space(text, i)
		default:
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			f.linear(1)
			f.canon = append(f.canon, mapASCII(c))
			f.point++
			i++
		}
	}
	f.segments = append(f.segments, segment{canon: uint32(len(f.canon)), point: f.point})
	folded := &folded{canon: string(f.canon), segments: f.segments, spaces: make([]uint32, 0, len(f.canon)/spacesEach+1)}
	spaces := uint32(0)
	for i, c := range f.canon {
		if i%spacesEach == 0 {
			folded.spaces = append(folded.spaces, spaces)
		}
		if c == ' ' {
			spaces++
		}
	}
	return folded
}

// folder makes a folded form.
type folder struct {
	canon    []byte
	segments []segment
	point    uint32
	pending  []piece
}

// piece is a code point of a cluster, decomposed.
type piece struct {
	r     rune
	class uint8  // canonical combining class
	of    uint32 // code point of the text
}

// linear says that the next code points become size bytes each.
func (f *folder) linear(size uint8) {
	if n := len(f.segments); n == 0 || f.segments[n-1].each != size {
		f.segments = append(f.segments, segment{uint32(len(f.canon)), f.point, size})
	}
}

// unit says that what is appended until the next call stands for the next points code points together.
func (f *folder) unit(points uint32) {
	f.segments = append(f.segments, segment{canon: uint32(len(f.canon)), point: f.point})
	f.point += points
}

// space folds white space from i on, and what is invisible in it, and returns where it ends.
func (f *folder) space(text string, i int) int {
	points := uint32(0)
	for i < len(text) {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		if !unicode.IsSpace(r) && !invisible(r) {
			break
		}
		points, i = points+1, i+size
	}
	if points == 1 {
		f.linear(1)
		f.point++
	} else {
		f.unit(points)
	}
	f.canon = append(f.canon, ' ')
	return i
}

// cluster folds the character at i with the combining characters behind it and returns where they end.
func (f *folder) cluster(text string, i int) int {
	first, size := utf8.DecodeRuneInString(text[i:])
	switch {
	case unicode.IsSpace(first):
		return f.space(text, i)
	case invisible(first):
		if n := len(f.segments); n == 0 || f.segments[n-1].each > 0 || int(f.segments[n-1].canon) < len(f.canon) {
			f.unit(0)
		}
		f.point++
		return i + size
	}
	f.pending = f.pending[:0]
	of, ordered := uint32(0), true
	for {
		r, size := utf8.DecodeRuneInString(text[i:])
		before := len(f.pending)
		f.decompose(r, text[i:], of)
		for j := max(before, 1); j < len(f.pending); j++ {
			ordered = ordered && (f.pending[j].class == 0 || f.pending[j].class >= f.pending[j-1].class)
		}
		i, of = i+size, of+1
		if i >= len(text) || text[i] < utf8.RuneSelf || of >= maxCluster || norm.NFKD.PropertiesString(text[i:]).CCC() == 0 {
			break
		}
	}
	if !ordered {
		f.order()
		f.unit(of)
		for _, p := range f.pending {
			f.canon = appendMapped(f.canon, p.r)
		}
		return i
	}
	for j := 0; j < len(f.pending); {
		from, single := len(f.canon), f.pending[j]
		for ; j < len(f.pending) && f.pending[j].of == single.of; j++ {
			f.canon = appendMapped(f.canon, f.pending[j].r)
		}
		size := len(f.canon) - from
		if _, n := utf8.DecodeRune(f.canon[from:]); n == size {
			f.relinear(from, uint8(size))
			f.point++
		} else {
			f.segments = append(f.segments, segment{canon: uint32(from), point: f.point})
			f.point++
		}
	}
	return i
}

// relinear is linear for bytes that have been appended already, from on.
func (f *folder) relinear(from int, size uint8) {
	if n := len(f.segments); n == 0 || f.segments[n-1].each != size {
		f.segments = append(f.segments, segment{uint32(from), f.point, size})
	}
}

// order puts combining characters in canonical order.
func (f *folder) order() {
	for from := 0; from < len(f.pending); from++ {
		to := from
		for to < len(f.pending) && f.pending[to].class != 0 {
			to++
		}
		slices.SortStableFunc(f.pending[from:to], func(a, b piece) int { return int(a.class) - int(b.class) })
		from = to
	}
}

// decompose appends what the code point r, with which text begins, is composed of.
func (f *folder) decompose(r rune, text string, of uint32) {
	if r < utf8.RuneSelf || undivided(r) {
		f.pending = append(f.pending, piece{r, 0, of})
		return
	}
	if 0xAC00 <= r && r <= 0xD7A3 { // Hangul syllables are composed by arithmetic
		const vowels, finals = 21, 28
		s := r - 0xAC00
		f.pending = append(f.pending, piece{0x1100 + s/(vowels*finals), 0, of}, piece{0x1161 + s%(vowels*finals)/finals, 0, of})
		if final := s % finals; final > 0 {
			f.pending = append(f.pending, piece{0x11A7 + final, 0, of})
		}
		return
	}
	properties := norm.NFKD.PropertiesString(text)
	parts := properties.Decomposition()
	if len(parts) == 0 || parts[0] == ' ' && len(parts) > 1 { // the latter are accents by themselves
		f.pending = append(f.pending, piece{r, properties.CCC(), of})
		return
	}
	for len(parts) > 0 {
		r, size := utf8.DecodeRune(parts)
		class := uint8(0)
		if r >= utf8.RuneSelf {
			class = norm.NFKD.Properties(parts).CCC()
		}
		f.pending = append(f.pending, piece{r, class, of})
		parts = parts[size:]
	}
}
