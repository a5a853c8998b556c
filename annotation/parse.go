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
	p.relations(out.collections[relations])
	p.attributes(out.collections[attributes])
	p.checkOverlaps()
	p.checkIgnored("modifications", out.modifications)
	p.checkIgnored("tracks", out.tracks)
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
	positions [2][]int // of denotations and blocks in the arrays they came from
	interned  map[string]string
}

// maxGrow bounds the annotations that room is made for in advance: an item of empty entries is cheap to write.
const maxGrow = 1 << 14

// grow makes room for the annotations of an item.
func (p *parser) grow(out *outline) {
	var room [4]int
	for c, n := range out.entries {
		room[c] = min(n, maxGrow)
	}
	p.positions[denotations] = make([]int, 0, room[denotations])
	p.positions[blocks] = make([]int, 0, room[blocks])
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

// checkIgnored warns of content under a key of the format that is not stored.
func (p *parser) checkIgnored(name string, v jsontext.Value) {
	if isAbsent(v) || isEmptyValue(v) {
		return
	}
	p.add(IgnoredKey, atPath(name), "The item has %s, which are not stored; the rest of the item is.", name)
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
		begin, end, spanOK := p.span(c, i, e)
		if !idOK || !objOK || !spanOK {
			return
		}
		list := &p.item.Denotations
		if c == blocks {
			list = &p.item.Blocks
		}
		*list = append(*list, Span{ID: id, Begin: begin, End: end, Obj: obj})
		p.positions[c] = append(p.positions[c], i)
	})
}

// span returns the checked range of an entry.
func (p *parser) span(c collection, i int, e *entry) (begin, end int, ok bool) {
	beginValue, endValue, beginField, endField, spanField := e.begin, e.end, "begin", "end", ""
	switch kind := e.span.Kind(); {
	case !isAbsent(e.span):
		if kind == jsontext.KindBeginArray {
			p.add(SpanArrayUnsupported, atEntry(c, i, "span"), "The span is an array (a discontinuous annotation), which this version "+
				"cannot store. Give one span with begin and end.")
			return 0, 0, false
		}
		if kind != jsontext.KindBeginObject {
			p.add(InvalidSpan, atEntry(c, i, "span"), "The span is %s; an object with begin and end is needed.", describe(e.span))
			return 0, 0, false
		}
		beginValue, endValue, beginField, endField, spanField = e.spanBegin, e.spanEnd, "span.begin", "span.end", "span"
	case isAbsent(beginValue) && isAbsent(endValue):
		p.add(MissingSpan, atEntry(c, i, "span"), "The entry has no span. Give it one with begin and end.")
		return 0, 0, false
	}
	begin, beginOK := p.offset(atEntry(c, i, beginField), "begin", beginValue)
	end, endOK := p.offset(atEntry(c, i, endField), "end", endValue)
	if !beginOK || !endOK {
		return 0, 0, false
	}
	if begin >= end {
		p.add(SpanEmpty, atEntry(c, i, spanField), "The span begins at %d and ends at %d; "+
			"it must end after it begins.", begin, end)
		return 0, 0, false
	}
	return begin, end, true
}

// offset reads a begin or end and checks that it lies in the text.
func (p *parser) offset(at valuePath, name string, v jsontext.Value) (int, bool) {
	if isAbsent(v) {
		p.add(MissingOffset, at, "The span has no %s. Give it one.", name)
		return 0, false
	}
	n, plain, ok := readOffset(v)
	switch {
	case !ok:
		p.add(InvalidOffset, at, "The %s is %s; an integer is needed.", name, describe(v))
	case n < 0:
		p.add(SpanOutOfRange, at, "The %s is %s, before the text. Offsets count Unicode code points from 0.", name, describe(v))
	case p.textKnown && n > p.item.Length:
		p.add(SpanOutOfRange, at, "The %s is %s, but the text has %d code points. Offsets count Unicode code points from 0.",
			name, describe(v), p.item.Length)
	case !plain:
		p.add(CoercedNumber, at, "The %s is %s; it was taken as %d. Write it as a plain integer.", name, describe(v), n)
		return n, true
	default:
		return n, true
	}
	return 0, false
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
