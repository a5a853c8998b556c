package align

import "sort"

// Alignment says where the text of an item lies in a document.
type Alignment struct {
	level      Level
	length     int // code points of the item
	begin, end int // of the document
	share      float64
	doc, item  *folded
	blocks     []block // in order of the item
	inOrder    []int   // by block: the last one up to which the document has them in the same order
	before     []int   // by block: bytes outside white space of those before it
	work       int
}

// Level says how the item was aligned.
func (a *Alignment) Level() Level { return a.level }

// Place returns the code points of the document between which all of the item lies that was aligned; none of it: 0, 0.
func (a *Alignment) Place() (begin, end int) { return a.begin, a.end }

// Share returns which part of the item's code points outside white space was aligned, 0 to 1.
func (a *Alignment) Share() float64 { return a.share }

// Phrase returns the phrase that the item is, if its level is Mapped.
func (a *Alignment) Phrase() Phrase {
	b := a.blocks[0]
	return Phrase{a.doc.canon[b.doc : b.doc+b.length], b.doc, a.end - a.begin}
}

// measure finds the place and the share, and what mapping needs.
func (a *Alignment) measure() {
	a.inOrder, a.before = make([]int, len(a.blocks)), make([]int, len(a.blocks))
	for i := len(a.blocks) - 1; i >= 0; i-- {
		a.inOrder[i] = i
		if b := a.blocks[i]; i+1 < len(a.blocks) && b.doc+b.length <= a.blocks[i+1].doc {
			a.inOrder[i] = a.inOrder[i+1]
		}
	}
	for i := 1; i < len(a.blocks); i++ {
		b := a.blocks[i-1]
		a.before[i] = a.before[i-1] + a.item.visible(b.item, b.item+b.length)
	}
	for i, b := range a.blocks {
		begin, end := a.doc.points(b.doc, b.doc+b.length)
		if i == 0 || begin < a.begin {
			a.begin = begin
		}
		a.end = max(a.end, end)
	}
	aligned, all, next := 0, 0, 0
	for i, s := range a.item.segments[:len(a.item.segments)-1] {
		e := a.item.segments[i+1]
		if s.each == 0 && (s.canon == e.canon || a.item.canon[s.canon] == ' ') {
			continue
		}
		step := int(s.each)
		points := 1
		if step == 0 {
			step, points = int(e.canon-s.canon), int(e.point-s.point)
		}
		for at := int(s.canon); at < int(e.canon); at += step {
			if a.item.canon[at] == ' ' {
				continue
			}
			all += points
			for next < len(a.blocks) && a.blocks[next].item+a.blocks[next].length <= at {
				next++
			}
			if next < len(a.blocks) && a.blocks[next].item < at+step {
				aligned += points
			}
		}
	}
	if all > 0 {
		a.share = float64(aligned) / float64(all)
	}
}

// Span is where a span of an item lies in the document, in code points, end exclusive.
type Span struct {
	Begin, End int
	Changed    bool // the document's text there differs from the item's, also after mapping characters
}

// Map returns where the code points from begin to end of the item lie in the document. Ends that lie inside of what became
// one character there are moved outwards. It returns false if the span is lost: if it is empty, outside of the item's
// text, of nothing but white space, or unless more than half of its characters were aligned, and they are at least half of
// those that the document has between them.
func (a *Alignment) Map(begin, end int) (Span, bool) {
	if begin < 0 || begin >= end || end > a.length {
		return Span{}, false
	}
	if a.level == Exact {
		return Span{a.begin + begin, a.begin + end, false}, true
	}
	from, to := a.item.stretch(begin, end)
	first, last := trim(a.item.canon, from, to)
	if first >= last || len(a.blocks) == 0 {
		return Span{}, false
	}
	s, same := Span{}, true
	var docFrom, docTo int
	if a.level == Mapped {
		b := a.blocks[0]
		docFrom, docTo = max(from, b.item)+b.diagonal(), min(to, b.item+b.length)+b.diagonal()
	} else {
		var ok bool
		if docFrom, docTo, same, ok = a.corresponding(first, last); !ok {
			return Span{}, false
		}
	}
	s.Begin, s.End = a.doc.points(docFrom, docTo)
	if a.level == Mapped {
		s = a.insideSpace(s, begin, end, from, to)
	}
	wholeFrom, wholeTo := a.doc.stretch(s.Begin, s.End) // more than was asked for, if only a part of a unit was
	s.Changed = !same || a.doc.visible(wholeFrom, wholeTo) != a.doc.visible(docFrom, docTo)
	return s, true
}

// insideSpace moves the ends of a span that begins or ends inside of several spaces to the same ones of the document's.
func (a *Alignment) insideSpace(s Span, begin, end, from, to int) Span {
	b := a.blocks[0]
	if from >= b.item && a.item.canon[from] == ' ' {
		i := a.item.atPoint(begin)
		if in := begin - int(a.item.segments[i].point); a.item.segments[i].each == 0 && in > 0 {
			_, spaces := a.doc.points(a.docOf(from), a.docOf(from)+1)
			s.Begin = min(s.Begin+in, spaces-1)
		}
	}
	if to <= b.item+b.length && a.item.canon[to-1] == ' ' {
		i := a.item.atPoint(end - 1)
		if left := int(a.item.segments[i+1].point) - end; a.item.segments[i].each == 0 && left > 0 {
			spaces, _ := a.doc.points(a.docOf(to-1), a.docOf(to-1)+1)
			s.End = max(s.End-left, spaces+1)
		}
	}
	return s
}

// docOf returns where a byte of an item that is one block lies in the document.
func (a *Alignment) docOf(at int) int {
	b := a.blocks[0]
	return at + b.diagonal()
}

// trim leaves out white space at the ends of a stretch.
func trim(canon string, from, to int) (int, int) {
	for from < to && canon[from] == ' ' {
		from++
	}
	for from < to && canon[to-1] == ' ' {
		to--
	}
	return from, to
}

// corresponding returns the stretch of the folded document that corresponds to one of the folded item, and whether it is
// the same.
func (a *Alignment) corresponding(from, to int) (docFrom, docTo int, same, ok bool) {
	i := sort.Search(len(a.blocks), func(i int) bool { return a.blocks[i].item+a.blocks[i].length > from })
	j := sort.Search(len(a.blocks), func(i int) bool { return a.blocks[i].item >= to })
	inside := func(b block) (int, int) {
		return trim(a.item.canon, max(from, b.item), min(to, b.item+b.length))
	}
	for i < j && empty(inside(a.blocks[i])) {
		i++
	}
	for i < j && empty(inside(a.blocks[j-1])) {
		j--
	}
	if i == j || a.inOrder[i] < j-1 {
		return 0, 0, false, false // none of it was aligned, or parts of it lie elsewhere
	}
	first, firstEnd := inside(a.blocks[i])
	lastBegin, last := inside(a.blocks[j-1])
	aligned := a.item.visible(first, firstEnd)
	if i < j-1 {
		aligned += a.before[j-1] - a.before[i+1] + a.item.visible(lastBegin, last)
	}
	docFrom, docTo = first+a.blocks[i].diagonal(), last+a.blocks[j-1].diagonal()
	same = i == j-1 && first == from && last == to
	// What differs at an end of the span belongs to it, if it does as a whole.
	if i > 0 && i < len(a.blocks) && a.blocks[i].item > from {
		left, right := a.blocks[i-1], a.blocks[i]
		begin, _ := trim(a.item.canon, left.item+left.length, right.item)
		if start, _, ok := a.replaced(left, right); ok && begin == from && right.doc <= docFrom && a.doc.visible(right.doc, docFrom) == 0 {
			docFrom = start
		}
	}
	if j > i && j < len(a.blocks) && a.blocks[j-1].item+a.blocks[j-1].length < to {
		left, right := a.blocks[j-1], a.blocks[j]
		_, end := trim(a.item.canon, left.item+left.length, right.item)
		if _, stop, ok := a.replaced(left, right); ok && end == to && left.doc+left.length >= docTo && a.doc.visible(docTo, left.doc+left.length) == 0 {
			docTo = stop
		}
	}
	if 2*aligned <= a.item.visible(from, to) || 2*aligned < a.doc.visible(docFrom, docTo) {
		return 0, 0, false, false
	}
	return docFrom, docTo, same, true
}

func empty(from, to int) bool { return from >= to }

// replaced returns what the document has between two blocks, unless that is much more than the item has there.
func (a *Alignment) replaced(left, right block) (from, to int, ok bool) {
	const words = 16
	from, to = left.doc+left.length, right.doc
	if from >= to || to-from > 2*(right.item-left.item-left.length)+words {
		return 0, 0, false
	}
	from, to = trim(a.doc.canon, from, to)
	return from, to, from < to
}
