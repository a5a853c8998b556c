package annotation

import (
	"cmp"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// unit is what offsets may have been counted in.
type unit int

const (
	codePoints unit = iota // as they should be
	utf16Units
	utf8Bytes
	units
)

// String returns the name of the unit.
func (u unit) String() string {
	return [...]string{"Unicode code points", "UTF-16 units", "bytes (UTF-8)"}[u]
}

// spelled is a range as it was written, whether or not it lies in the text.
type spelled struct {
	begin, end int
	at         valuePath
}

// checkUnits looks whether the spans were counted in another unit. In a text that is all ASCII nothing can tell.
//
// What it goes by is that people annotate words, so that a span seldom begins or ends inside one, or with a space. A unit
// is suspected if spans that it moves are clean in that sense when they are counted in it and not otherwise, while hardly
// any is the other way round. The finding of a span that ends past the text is told more lightly, since it is an error
// anyway. Where all lie in the text several spans must agree.
func (p *parser) checkUnits() {
	if len(p.spelled) == 0 {
		return
	}
	var suspect unit
	var best tally
	for u, t := range p.tallies() {
		if p.suspects(&t) && (suspect == codePoints || t.better(&best)) {
			suspect, best = unit(u), t
		}
	}
	switch {
	case suspect == codePoints:
	case best.past > 0:
		hint := fmt.Sprintf(" The spans of this item look as if counted in %s; count Unicode code points.", suspect)
		for _, i := range p.pastEnd {
			p.errors[i].Message += hint
		}
	default:
		p.add(OffsetsSuspect, p.spelled[best.first].at, "The spans of this item look as if counted in %s; count Unicode code points. "+
			"Of %d whose place depends on it, %d begin and end with words only if so counted.", suspect, best.moved, best.gain)
	}
}

// tally is what a unit makes of the spans.
type tally struct {
	past     int  // spans that end past the text, as code points
	exact    bool // the farthest ends past the text, and where it ends in this unit
	unmapped int  // that end past it in this unit, too, or inside a character
	still    int  // whose place is the same
	odd      int  // of them, not clean
	moved    int  // whose place is another
	gain     int  // of them, clean in this unit only
	loss     int  // of them, clean as code points only
	first    int  // index of the first that counts as gain
}

// Of the spans that speak for a unit one in so many may speak against it.
const mostLoss = 10

func (p *parser) suspects(t *tally) bool {
	plain := t.gain > 0 && (t.loss+t.unmapped)*mostLoss <= t.gain && t.gain*2 >= t.moved
	switch {
	case t.past > 0:
		return plain || t.exact && t.unmapped == 0
	case t.gain < 3: // two must be all there are
		return plain && t.gain == 2 && t.moved == 2 && t.odd == 0
	default:
		return plain && t.odd*mostLoss <= t.still
	}
}

func (t *tally) better(other *tally) bool {
	if t.exact != other.exact {
		return t.exact
	}
	return t.gain-t.loss > other.gain-other.loss
}

// edge is a begin or end in some unit.
type edge struct {
	in    bool // it lies in the text, between two characters
	clean bool // no word and no space goes on beyond it
	at    int  // in code points
}

// tallies counts what each unit makes of the spans. It takes O(n log n) time for n spans, and a pass over the text.
func (p *parser) tallies() [units]tally {
	edges, lengths := p.edges()
	var all [units]tally
	past, farthest := 0, 0
	for _, s := range p.spelled {
		if farthest = max(farthest, s.end); s.end > p.item.Length {
			past++
		}
	}
	for u := utf16Units; u < units; u++ {
		t := &all[u]
		t.past, t.exact = past, past > 0 && farthest == lengths[u]
		for i, s := range p.spelled {
			begin, end := edges[u][2*i], edges[u][2*i+1]
			clean := edges[codePoints][2*i].clean && edges[codePoints][2*i+1].clean
			switch {
			case !begin.in || !end.in:
				t.unmapped++
			case begin.at == s.begin && end.at == s.end:
				t.still++
				if !clean {
					t.odd++
				}
			default:
				t.moved++
				switch now := begin.clean && end.clean; {
				case now && !clean:
					if t.gain == 0 {
						t.first = i
					}
					t.gain++
				case clean && !now:
					t.loss++
				}
			}
		}
	}
	return all
}

// edges returns the begins and ends of the spans in each unit, a span's begin before its end, and the lengths of the text.
func (p *parser) edges() (edges [units][]edge, lengths [units]int) {
	type offset struct{ value, index int }
	offsets := make([]offset, 0, 2*len(p.spelled))
	for i, s := range p.spelled {
		offsets = append(offsets, offset{s.begin, 2 * i}, offset{s.end, 2*i + 1})
	}
	slices.SortFunc(offsets, func(a, b offset) int { return cmp.Compare(a.value, b.value) })
	var rest [units][]offset
	for u := range units {
		edges[u], rest[u] = make([]edge, len(offsets)), offsets
	}
	before := rune(-1)
	visit := func(after rune) {
		for u := range units {
			for len(rest[u]) > 0 && rest[u][0].value <= lengths[u] {
				o := rest[u][0]
				rest[u] = rest[u][1:]
				if o.value == lengths[u] {
					inner := after
					if isEnd := o.index%2 == 1; isEnd {
						inner = before
					}
					clean := inner >= 0 && !unicode.IsSpace(inner) && (!isOfWord(before) || !isOfWord(after))
					edges[u][o.index] = edge{true, clean, lengths[codePoints]}
				}
			}
		}
	}
	for _, r := range p.item.Text {
		visit(r)
		lengths[codePoints]++
		lengths[utf16Units] += utf16.RuneLen(r)
		lengths[utf8Bytes] += utf8.RuneLen(r)
		before = r
	}
	visit(-1)
	return edges, lengths
}

// isOfWord reports whether a character is part of words, as those beside it are: a mark belongs to the letter before it.
func isOfWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsNumber(r) || unicode.IsMark(r)
}
