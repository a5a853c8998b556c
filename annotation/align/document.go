package align

import (
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// Level says how an item was aligned.
type Level uint8

// The levels. The numbers are kept in stores and never change.
const (
	Exact   Level = 1 // the document's text holds the item's
	Mapped  Level = 2 // it does so after mapping characters
	General Level = 3 // parts of the item's text were found in it
)

// Document is a text that items are aligned to. What can be prepared of it is, once. It is safe for concurrent use.
type Document struct {
	text   string
	length int // code points
	folded func() *folded
	index  func() *ngrams

	indexed atomic.Pointer[ngrams] // the same, once somebody has needed it
}

// New returns a document. It takes no time yet.
func New(text string) *Document {
	d := &Document{text: text, length: utf8.RuneCountInString(text)}
	d.folded = sync.OnceValue(func() *folded { return fold(text) })
	d.index = sync.OnceValue(func() *ngrams {
		f := d.folded()
		x := newNgrams(f.canon, 0, len(f.canon))
		d.indexed.Store(x)
		return x
	})
	return d
}

// Prepare does what the first call for a phrase would otherwise have to do first.
func (d *Document) Prepare() { d.folded() }

// Text returns the document's text.
func (d *Document) Text() string { return d.text }

// Align aligns an item's text. Where the document holds it several times, exactly or after mapping characters, nth says
// which of these places is taken, from 0, the last one if there are not as many.
func (d *Document) Align(text string, nth int) *Alignment {
	length := utf8.RuneCountInString(text)
	if at := nthIndex(d.text, text, nth); at >= 0 && text != "" {
		begin := utf8.RuneCountInString(d.text[:at])
		return &Alignment{level: Exact, length: length, begin: begin, end: begin + length, share: 1}
	}
	return d.Inexact(text, nth)
}

func nthIndex(text, part string, nth int) int {
	at := strings.Index(text, part)
	for ; nth > 0 && at >= 0; nth-- {
		next := strings.Index(text[at+len(part):], part)
		if next < 0 {
			break
		}
		at += len(part) + next
	}
	return at
}

// Inexact aligns an item's text that the document is known not to hold as it is.
func (d *Document) Inexact(text string, nth int) *Alignment {
	doc, item := d.folded(), fold(text)
	length := int(item.segments[len(item.segments)-1].point)
	a := &Alignment{level: Mapped, length: length, doc: doc, item: item}
	if p, begin, ok := d.phrase(item); ok {
		for ; nth > 0; nth-- {
			next, found := d.Next(p, begin+p.length)
			if !found {
				break
			}
			begin = next
		}
		from, _ := item.trimmed()
		a.blocks = []block{{from, p.at(d, begin), len(p.canon)}}
		a.begin, a.end, a.share = begin, begin+p.length, 1
		return a
	}
	a.level = General
	g := aligner{doc: doc, item: item, index: d.index()}
	a.blocks = g.align()
	a.work = g.work
	a.measure()
	return a
}

// trimmed returns the folded form without white space at its ends.
func (f *folded) trimmed() (begin, end int) {
	begin, end = 0, len(f.canon)
	if begin < end && f.canon[begin] == ' ' {
		begin++
	}
	if begin < end && f.canon[end-1] == ' ' {
		end--
	}
	return begin, end
}

// Phrase is a text that a document holds after mapping characters. Its places are those that are laid out like the
// first one: code point by code point, the same characters were mapped.
type Phrase struct {
	canon  string
	model  int // where the folded document has it, laid out as it is
	length int // code points of the document that it takes
}

// Length returns how many code points of the document each of its places takes.
func (p Phrase) Length() int { return p.length }

// Key returns what tells phrases of one document apart, but for how they are laid out. No text equals it.
func (p Phrase) Key() string { return "\x00" + p.canon }

// Same reports whether two phrases of one document have the same places.
func (p Phrase) Same(q Phrase) bool { return p.canon == q.canon && p.length == q.length }

// PhraseAt returns the phrase that a document has at a place, in code points. What Next returned comes back as it was.
func (d *Document) PhraseAt(begin, length int) (Phrase, bool) {
	if begin < 0 || length <= 0 || begin+length > d.length {
		return Phrase{}, false
	}
	doc := d.folded()
	from, to := doc.stretch(begin, begin+length)
	return Phrase{doc.canon[from:to], from, length}, from < to
}

// phrase returns the phrase that an item's text is, and its first place.
func (d *Document) phrase(item *folded) (Phrase, int, bool) {
	doc := d.folded()
	from, to := item.trimmed()
	p := Phrase{canon: item.canon[from:to], model: -1}
	if from == to {
		return p, 0, false
	}
	at := p.search(d, 0)
	if at < 0 {
		return p, 0, false
	}
	begin, end := doc.points(at, at+len(p.canon))
	p.model, p.length = at, end-begin
	return p, begin, true
}

// searches bounds what is looked at of places that turn out to be none, in lengths of the folded document.
const searches = 64

// search returns where the folded document has the phrase, from a place on; -1: nowhere.
func (p Phrase) search(d *Document, from int) int {
	doc := d.folded()
	if x := d.indexed.Load(); x != nil {
		if places, ok := x.find(doc.canon, p.canon); ok {
			for _, at := range places {
				if at >= from && p.fits(doc, at) {
					return at
				}
			}
			return -1
		}
	}
	for budget := searches * len(doc.canon); budget >= 0; budget -= len(p.canon) {
		i := strings.Index(doc.canon[from:], p.canon)
		if i < 0 {
			return -1
		}
		if at := from + i; p.fits(doc, at) {
			return at
		}
		from += i + 1
	}
	return -1
}

// fits reports whether a place where the folded document has the phrase is one of its places.
func (p Phrase) fits(doc *folded, at int) bool {
	return doc.whole(at, at+len(p.canon)) && (p.model < 0 || doc.alike(p.model, at, len(p.canon)))
}

// at returns where the folded document has the phrase that begins at a code point.
func (p Phrase) at(d *Document, begin int) int {
	at, _ := d.folded().stretch(begin, begin+1)
	return at
}

// Next returns the first place of a phrase from a code point on.
func (d *Document) Next(p Phrase, from int) (int, bool) {
	if from >= d.length {
		return 0, false
	}
	doc := d.folded()
	after, _ := doc.stretch(from, from+1)
	for {
		at := p.search(d, after)
		if at < 0 {
			return 0, false
		}
		if begin, _ := doc.points(at, at+len(p.canon)); begin >= from {
			return begin, true
		}
		after = at + 1
	}
}

// Last returns the last place of a phrase.
func (d *Document) Last(p Phrase) (int, bool) {
	doc := d.folded()
	end := len(doc.canon)
	for budget := searches * len(doc.canon); budget >= 0; budget -= len(p.canon) {
		at := strings.LastIndex(doc.canon[:end], p.canon)
		if at < 0 {
			return 0, false
		}
		if p.fits(doc, at) {
			begin, _ := doc.points(at, at+len(p.canon))
			return begin, true
		}
		end = at + len(p.canon) - 1
	}
	return 0, false
}
