package passages

import (
	"strings"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// Member is an item of a document that one or several jobs compose.
type Member struct {
	Job int64
	Item
	Aligned bool // Text is what it was aligned to, which is at At
	At      int  // code points
}

// Combination is the text that members make up.
type Combination struct {
	Text   string
	Length int   // of Text
	Begins []int // of the members' texts, in the order in which they were given
	First  int64 // the job with the lowest number, whose items are the beginning of the text
	Last   int64 // the job with the highest number that has a passage of its own
}

// Combine makes up the text of a document from the items of all jobs, which are in order of jobs and of item numbers.
// It is the definition of a composed text: those of the first job as Compose has it; an item of a further job lies where
// the text of the jobs before it holds its own, as Place has it, and is a passage of its own behind them where that text
// does not. One that was aligned stays where it is, as long as its text is there.
func Combine(members []Member) Combination {
	var c Combination
	for len(members) > 0 {
		job := members[0].Job
		n := 1
		for n < len(members) && members[n].Job == job {
			n++
		}
		if c.append(members[:n]) || c.First == 0 {
			c.Last = job
		}
		if c.First == 0 {
			c.First = job
		}
		members = members[n:]
	}
	return c
}

// append adds the items of one more job and reports whether some of them became passages.
func (c *Combination) append(members []Member) bool {
	x := newIndex(c.Text)
	base, length := c.Text, c.Length
	var more strings.Builder
	places := newPlaces(base)
	previous, begin := "", 0
	for _, m := range members {
		if stretch, ok := x.slice(m.At, m.Length); ok && m.Aligned && stretch == m.Text {
			from := x.bytes(m.At)
			places.put("", from, from+len(m.Text))
			previous = ""
			c.Begins = append(c.Begins, m.At)
			continue
		}
		switch at := places.next(m.Text); {
		case m.Text == previous:
		case at >= 0:
			begin = x.points(at)
		default:
			if length > 0 {
				more.WriteString(separator)
				length++
			}
			more.WriteString(m.Text)
			begin = length
			length += m.Length
		}
		previous = m.Text
		c.Begins = append(c.Begins, begin)
	}
	c.Text, c.Length = base+more.String(), length
	return more.Len() > 0
}

// places finds successive places of texts in a text.
type places struct {
	text     string
	ends     map[string]int // by text: bytes up to the end of the last item that said it
	cursor   int            // bytes up to the end of the last item that was found
	previous string
	begin    int // of the previous one
}

func newPlaces(text string) places { return places{text: text, ends: make(map[string]int)} }

// next returns where, in bytes, the next item lies in the text, -1 if that does not hold it.
func (p *places) next(part string) int {
	if part == p.previous {
		return p.begin
	}
	p.previous = part
	if p.begin = find(p.text, part, p.cursor, p.ends[part]); p.begin >= 0 {
		p.put(part, p.begin, p.begin+len(part))
	}
	return p.begin
}

// nextOf is next for an item whose level is Mapped, in code points. One that was not found any more, since too much would
// have to be looked at, lies where it lay.
func (p *places) nextOf(document *align.Document, it placed, x index) int {
	key := it.key()
	if key == p.previous {
		return x.points(p.begin)
	}
	end := x.points(p.ends[key])
	begin, ok := document.Next(it.phrase, max(x.points(p.cursor), end))
	if !ok {
		begin, ok = document.Next(it.phrase, end)
	}
	if !ok {
		begin, ok = document.Last(it.phrase)
	}
	if !ok {
		begin = it.anchor.Begin
	}
	p.put(key, x.bytes(begin), x.bytes(begin+it.anchor.Length))
	return begin
}

// put says that the next item lies at a place that is known.
func (p *places) put(key string, begin, end int) {
	p.previous, p.begin = key, begin
	p.cursor = end
	p.ends[key] = end
}

// Cut returns the stretches of a text that anchors name.
func Cut(text string, anchors []Anchor) ([]string, error) {
	x := newIndex(text)
	parts := make([]string, len(anchors))
	for i, a := range anchors {
		part, ok := x.slice(a.Begin, a.Length)
		if !ok {
			return nil, errInconsistent
		}
		parts[i] = part
	}
	return parts, nil
}
