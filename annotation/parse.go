package annotation

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Parse checks an item in full. It returns the item in normal form, or nil if there is a finding of severity Error; all
// findings are listed, errors first, up to the limit. Raw is what [Options.Scan] takes; neither it nor parts of it are
// kept by the item. Parse is safe for concurrent use.
func (o Options) Parse(raw []byte) (*Item, []Finding) {
	o = o.withDefaults()
	p := parser{findings: findings{max: o.MaxFindings}, interned: make(map[string]string)}
	out, key, wellFormed := o.outline(raw, &p.findings)
	if !wellFormed {
		return nil, p.list()
	}
	p.item.Key = key
	p.checkText(out.text)
	p.grow(&out)
	p.spans(denotations, out.collections[denotations])
	p.spans(blocks, out.collections[blocks])
	p.checkUnits()
	p.relations(out.collections[relations])
	p.attributes(out.collections[attributes])
	p.chainParts()
	p.checkOverlaps()
	p.checkIgnored(&out)
	p.checkMisspelled(&out)
	if p.rejected() {
		return nil, p.list()
	}
	p.giveIDs()
	return &p.item, p.list()
}

// parser holds an item while it is checked.
type parser struct {
	findings
	item      Item
	textKnown bool // item.Length is that of the text
	ids       idTable
	positions [2][]position // of denotations and blocks in the arrays they came from
	ranges    []textRange   // of the entry in hand
	spelled   []spelled     // all ranges of a text that is not all ASCII
	pastEnd   []int         // errors that say that one ends past it
	chains    []chain
	fragments [2]int // of denotations and blocks, at the end of their lists
	partIDs   int    // bytes of the ids that parts of span arrays are given, at most
	interned  map[string]string
}

// position is where a denotation or block stands in the item as written.
type position struct {
	entry int
	part  int // of a span that is an array; -1: the span is none
}

// at returns the path of a denotation or block: of its entry, or of the part of its entry's span that it is.
func (p *parser) at(c collection, i int) valuePath {
	at := p.positions[c][i]
	if at.part < 0 {
		return atEntry(c, at.entry, "")
	}
	return atPart(c, at.entry, at.part, "")
}

// textRange is a range of the text in code points.
type textRange struct{ begin, end int }

// maxGrow bounds the annotations that room is made for in advance: an item of empty entries is cheap to write.
const maxGrow = 1 << 14

// grow makes room for the annotations of an item.
func (p *parser) grow(out *outline) {
	var room [4]int
	for c, n := range out.entries {
		room[c] = min(n, maxGrow)
	}
	p.positions[denotations] = make([]position, 0, room[denotations])
	p.positions[blocks] = make([]position, 0, room[blocks])
	p.item.Denotations = slices.Grow(p.item.Denotations, room[denotations])
	p.item.Blocks = slices.Grow(p.item.Blocks, room[blocks])
	p.item.Relations = slices.Grow(p.item.Relations, room[relations])
	p.item.Attributes = slices.Grow(p.item.Attributes, room[attributes])
	p.ids = idTable{
		spans:      make(map[string]target, room[denotations]+room[blocks]),
		relations:  make(map[string]target, room[relations]),
		attributes: make(map[string]target, room[attributes]),
	}
}

func (p *parser) checkText(v jsontext.Value) {
	at := atPath("text")
	switch {
	case isAbsent(v):
		p.add(MissingText, at, "The item has no text. Give the text that the offsets refer to.")
	case v.Kind() != jsontext.KindString:
		p.add(InvalidText, at, "The text is %s; a string is needed.", describe(v))
	default:
		p.item.Text = mustUnquote(v)
		p.item.Length = utf8.RuneCountInString(p.item.Text)
		p.textKnown = true
		if isBlank(p.item.Text) {
			p.add(MissingText, at, "The text is blank. Give the text that the offsets refer to.")
		}
	}
}

func isBlank(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsSpace(r) })
}

// checkIgnored warns, once, of content under keys of the format that is not stored.
func (p *parser) checkIgnored(out *outline) {
	var names []string
	for _, member := range []struct {
		name  string
		value jsontext.Value
	}{{"modifications", out.modifications}, {"tracks", out.tracks}} {
		if !isAbsent(member.value) && !isEmptyValue(member.value) {
			names = append(names, member.name)
		}
	}
	if len(names) > 0 {
		p.add(IgnoredKey, atPath(names[0]), "The item has %s, which are not stored; the rest of the item is.", strings.Join(names, " and "))
	}
}

// isEmptyValue reports whether a well-formed value is {}, [] or "".
func isEmptyValue(v jsontext.Value) bool {
	switch v.Kind() {
	case jsontext.KindBeginObject, jsontext.KindBeginArray, jsontext.KindString:
		return len(trimLeftSpace(v[1:])) == 1
	default:
		return false
	}
}

// spans checks denotations or blocks.
func (p *parser) spans(c collection, v jsontext.Value) {
	p.each(c, v, func(i int, e *entry) {
		id, idOK := p.id(c, i, e.id)
		obj, objOK := p.label(c, i, "obj", e.obj, MissingObj, InvalidObj)
		spanOK := p.span(c, i, e)
		if !idOK || !objOK || !spanOK {
			return
		}
		list := p.spanList(c)
		last := len(p.ranges) - 1
		at := position{i, -1}
		if last > 0 {
			if p.partIDs += last * (len(id) + maxPartSuffix); p.partIDs > maxPartIDBytes {
				p.add(TooManySpanParts, atEntry(c, i, "span"), "The ids of the parts of this item's span arrays would take more than "+
					"%d bytes. Give the entry a shorter id, or split the item.", maxPartIDBytes)
				return
			}
			p.chains = append(p.chains, chain{c, len(*list), slices.Clone(p.ranges[:last])})
			at.part = last
		}
		*list = append(*list, Span{ID: id, Begin: p.ranges[last].begin, End: p.ranges[last].end, Obj: obj})
		p.positions[c] = append(p.positions[c], at)
	})
}

func (p *parser) spanList(c collection) *[]Span {
	if c == blocks {
		return &p.item.Blocks
	}
	return &p.item.Denotations
}

// span checks the span of an entry and leaves its ranges in p.ranges: one, or those of the parts of a span that is an
// array.
func (p *parser) span(c collection, i int, e *entry) bool {
	p.ranges = p.ranges[:0]
	at := atEntry(c, i, "span")
	switch kind := e.span.Kind(); {
	case isAbsent(e.span) && isAbsent(e.begin) && isAbsent(e.end):
		p.add(MissingSpan, at, "The entry has no span. Give it one with begin and end.")
		return false
	case isAbsent(e.span):
		return p.textRange(part{begin: e.begin, end: e.end}, atEntry(c, i, ""), atEntry(c, i, "begin"), atEntry(c, i, "end"))
	case kind == jsontext.KindBeginObject:
		return p.textRange(e.parts[0], at, atEntry(c, i, "span.begin"), atEntry(c, i, "span.end"))
	case kind == jsontext.KindBeginArray:
		return p.parts(c, i, e.parts)
	default:
		p.add(InvalidSpan, at, "The span is %s; an object with begin and end is needed, or an array of such.", describe(e.span))
		return false
	}
}

// parts checks the parts of a span that is an array.
func (p *parser) parts(c collection, i int, parts []part) bool {
	if len(parts) == 0 {
		p.add(MissingSpan, atEntry(c, i, "span"), "The span is an array without parts. Give it one with begin and end, or several.")
		return false
	}
	ok := true
	for k, part := range parts {
		at := atPart(c, i, k, "")
		if part.value.Kind() != jsontext.KindBeginObject {
			p.add(InvalidSpan, at, "The part is %s; an object with begin and end is needed.", describe(part.value))
			ok = false
			continue
		}
		before := len(p.ranges)
		if !p.textRange(part, at, atPart(c, i, k, "begin"), atPart(c, i, k, "end")) {
			ok = false
			continue
		}
		if before > 0 && p.ranges[before].begin < p.ranges[before-1].end {
			p.add(SpanPartsOutOfOrder, atPart(c, i, k, "begin"), "The part begins at %d, before the end of one ahead of it, %d. "+
				"Give the parts in the order of the text; they must not overlap.", p.ranges[before].begin, p.ranges[before-1].end)
			p.ranges = p.ranges[:before]
			ok = false
		}
	}
	return ok
}

// textRange checks one range, which stands at a place and has its begin and end at two others, and appends it to
// p.ranges.
func (p *parser) textRange(r part, at, beginAt, endAt valuePath) bool {
	begin, beginOK := p.offset(beginAt, "begin", r.begin)
	end, endOK := p.offset(endAt, "end", r.end)
	if p.textKnown && p.item.Length != len(p.item.Text) && begin >= 0 && end > begin {
		p.spelled = append(p.spelled, spelled{begin, end, at})
	}
	if !beginOK || !endOK {
		return false
	}
	if begin >= end {
		p.add(SpanEmpty, at, "The span begins at %d and ends at %d; it must end after it begins.", begin, end)
		return false
	}
	p.ranges = append(p.ranges, textRange{begin, end})
	return true
}

// offset reads a begin or end and checks that it lies in the text. It returns -1 if it is none.
func (p *parser) offset(at valuePath, name string, v jsontext.Value) (int, bool) {
	if isAbsent(v) {
		p.add(MissingOffset, at, "The span has no %s. Give it one.", name)
		return -1, false
	}
	n, plain, ok := readOffset(v)
	switch {
	case !ok:
		p.add(InvalidOffset, at, "The %s is %s; an integer is needed.", name, describe(v))
		return -1, false
	case n < 0:
		p.add(SpanOutOfRange, at, "The %s is %s, before the text. Offsets count Unicode code points from 0.", name, describe(v))
		return -1, false
	case p.textKnown && n > p.item.Length:
		if len(p.errors) < p.max {
			p.pastEnd = append(p.pastEnd, len(p.errors))
		}
		p.add(SpanOutOfRange, at, "The %s is %s, but the text has %d code points. Offsets count Unicode code points from 0.",
			name, describe(v), p.item.Length)
		return n, false
	case !plain:
		p.add(CoercedNumber, at, "The %s is %s; it was taken as %d. Write it as a plain integer.", name, describe(v), n)
	}
	return n, true
}

// readOffset reads an integer: a number, or a string that holds one. Plain says that it was written as an integer is.
// Beyond the range of int it returns the nearest.
func readOffset(v jsontext.Value) (n int, plain, ok bool) {
	if isDigits(v) {
		for _, c := range v {
			n = n*10 + int(c-'0')
		}
		return n, true, true
	}
	number := v
	if v.Kind() == jsontext.KindString {
		number = jsontext.Value(strings.TrimSpace(mustUnquote(v)))
	}
	if number.Kind() != jsontext.KindNumber || !number.IsValid() {
		return 0, false, false
	}
	n, ok = parseDecimal(string(number)).integer()
	return n, v.Kind() == jsontext.KindNumber && !strings.ContainsAny(string(v), ".eE"), ok
}

// label reads a string that must be there and not be blank.
func (p *parser) label(c collection, i int, name string, v jsontext.Value, missing, invalid Code) (string, bool) {
	if isAbsent(v) {
		p.add(missing, atEntry(c, i, name), "The entry has no %s. Give it one.", name)
		return "", false
	}
	if v.Kind() != jsontext.KindString {
		p.add(invalid, atEntry(c, i, name), "The %s is %s; a string is needed.", name, describe(v))
		return "", false
	}
	s := p.text(v)
	if isBlank(s) {
		p.add(missing, atEntry(c, i, name), "The %s is blank. Give it content.", name)
		return "", false
	}
	return s, true
}

// maxInterned bounds the strings that are looked up for reuse, in bytes; labels are short and few, texts are not.
const maxInterned = 64

// text returns the text of a JSON string, the same string for the same text where that is likely to save memory.
func (p *parser) text(v jsontext.Value) string {
	if len(v) > maxInterned {
		return mustUnquote(v)
	}
	if s, ok := p.interned[string(v)]; ok {
		return s
	}
	s := mustUnquote(v)
	p.interned[string(v)] = s
	return s
}
