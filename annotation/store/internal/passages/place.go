package passages

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// Placement is what adding items to a document with a given text comes to.
type Placement struct {
	Added []Anchor // of the items added, in the order in which they were given; Length 0: the text does not hold the item's
	Moved []Anchor // of items that were there and begin elsewhere now
}

// placed is an item of a given text, new or not.
type placed struct {
	anchor Anchor
	text   string       // if its level is Exact
	phrase align.Phrase // if it is Mapped
	added  int          // index among the items added; -1: it was there
}

// Place adds items of one job to a document whose text is given: each is put where the text holds its own, exactly.
// Where the text holds it several times, items take successive places: the first behind the item before it and behind
// the last item that said the same; if there is none, the first behind the latter; if there is none, the last of all.
// An item whose text equals that of the item before it lies in the same place. The items of a composed text, placed in
// it, so lie where they were composed. The anchors are those of all items of the job that are in the document. Both
// lists are in order of item numbers and have none in common.
//
// The same goes for items whose alignment is Mapped, among the places of their phrase. One whose alignment is General lies
// where that has it, whatever other items there are, and those behind it are looked for behind it. The document is text,
// prepared for aligning; it may be nil if neither an anchor nor an item is Mapped.
func Place(text string, document *align.Document, anchors []Anchor, items []Item) (Placement, error) {
	placement := Placement{Added: make([]Anchor, len(items))}
	index := newIndex(text)
	all := make([]placed, 0, len(anchors)+len(items))
	for _, a := range anchors {
		p := placed{anchor: a, added: -1}
		ok := a.Begin >= 0 && a.Length > 0
		switch {
		case a.Level <= align.Exact:
			p.text, ok = index.slice(a.Begin, a.Length)
		case a.Level == align.Mapped && document == nil:
			ok = false
		case a.Level == align.Mapped:
			p.phrase, ok = document.PhraseAt(a.Begin, a.Length)
		}
		if !ok {
			return Placement{}, errInconsistent
		}
		all = append(all, p)
	}
	for i, it := range items {
		placement.Added[i] = Anchor{Item: it.Number}
		if it.Alignment == nil {
			if it.Text != "" && strings.Contains(text, it.Text) {
				all = append(all, placed{anchor: Anchor{Item: it.Number, Length: it.Length}, text: it.Text, added: i})
			}
		} else {
			begin, end := it.Alignment.Place()
			p := placed{anchor: Anchor{Item: it.Number, Begin: begin, Length: end - begin, Level: it.Alignment.Level()}, added: i}
			if p.anchor.Level == align.Mapped {
				p.phrase = it.Alignment.Phrase()
			}
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.anchor.Item, b.anchor.Item) })

	successive := newPlaces(text)
	search := false // whether a new item came before, so that the places of those behind it may be others
	for _, p := range all {
		search = search || p.added >= 0
		at := p.anchor.Begin
		switch key := p.key(); {
		case p.anchor.Level == align.General:
			successive.put("", index.bytes(at), index.bytes(at+p.anchor.Length))
		case !search && key != successive.previous:
			successive.put(key, index.bytes(at), index.bytes(at+p.anchor.Length))
		case p.anchor.Level == align.Mapped:
			at = successive.nextOf(document, p, index)
		default:
			at = index.points(successive.next(p.text))
		}
		if p.added >= 0 {
			p.anchor.Begin = at
			placement.Added[p.added] = p.anchor
		} else if at != p.anchor.Begin {
			p.anchor.Begin = at
			placement.Moved = append(placement.Moved, p.anchor)
		}
	}
	return placement, nil
}

// key tells what says the same: the text, or what is mapped to the same. It is empty for what is neither.
func (p *placed) key() string {
	if p.anchor.Level == align.Mapped {
		return p.phrase.Key()
	}
	return p.text
}

// find returns where text holds part, -1 if it does not; cursor and end are the places to search behind, in that order
// of preference.
func find(text, part string, cursor, end int) int {
	for _, from := range []int{max(cursor, end), end} {
		if i := strings.Index(text[from:], part); i >= 0 {
			return from + i
		}
	}
	return strings.LastIndex(text, part)
}

// reader cuts consecutive stretches off a text.
type reader struct {
	text   string
	at     int // bytes read
	points int // code points read
}

// read skips to the code point begin and returns the length code points from there. It cannot go back.
func (r *reader) read(begin, length int) (string, bool) {
	if begin < r.points || !r.skip(begin-r.points) {
		return "", false
	}
	from := r.at
	if !r.skip(length) {
		return "", false
	}
	return r.text[from:r.at], true
}

func (r *reader) skip(points int) bool {
	for ; points > 0 && r.at < len(r.text); points-- {
		_, size := utf8.DecodeRuneInString(r.text[r.at:])
		r.at += size
		r.points++
	}
	return points == 0
}

func (r *reader) rest() string { return r.text[r.at:] }

// stride is the distance, in bytes, of the marks of an index.
const stride = 1024

// index translates between bytes and code points of a text.
type index struct {
	text  string
	ascii bool
	marks []int // code points before each multiple of stride
}

func newIndex(text string) index {
	x := index{text: text}
	points := utf8.RuneCountInString(text)
	if x.ascii = points == len(text); x.ascii {
		return x
	}
	points = 0
	for i := range len(text) {
		if i%stride == 0 {
			x.marks = append(x.marks, points)
		}
		if utf8.RuneStart(text[i]) {
			points++
		}
	}
	return x
}

// points returns the code points before a byte that begins one.
func (x index) points(at int) int {
	if x.ascii {
		return at
	}
	mark := min(at/stride, len(x.marks)-1)
	points := x.marks[mark]
	for i := mark * stride; i < at; i++ {
		if utf8.RuneStart(x.text[i]) {
			points++
		}
	}
	return points
}

// bytes returns the bytes before a code point, which may be the end of the text; at most len of the text.
func (x index) bytes(points int) int {
	if x.ascii {
		return min(points, len(x.text))
	}
	// The mark counts the code points that begin before it, so one that is cut by it is looked for from there on.
	mark, _ := slices.BinarySearch(x.marks, points+1)
	mark = max(mark-1, 0)
	at, seen := mark*stride, x.marks[mark]
	for ; at < len(x.text); at++ {
		if utf8.RuneStart(x.text[at]) {
			if seen == points {
				return at
			}
			seen++
		}
	}
	return at
}

// slice returns a stretch of the text, given in code points.
func (x index) slice(begin, length int) (string, bool) {
	if begin < 0 || length <= 0 {
		return "", false
	}
	from := x.bytes(begin)
	to := x.bytes(begin + length)
	s := x.text[from:to]
	return s, utf8.RuneCountInString(s) == length
}

// Stretches cuts stretches out of a text.
type Stretches struct{ x index }

// StretchesOf prepares a text.
func StretchesOf(text string) Stretches { return Stretches{newIndex(text)} }

// Cut returns the text between two code points; empty if it is not there.
func (s Stretches) Cut(begin, end int) string {
	stretch, _ := s.x.slice(begin, end-begin)
	return stretch
}
