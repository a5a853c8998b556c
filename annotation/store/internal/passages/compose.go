package passages

import (
	"errors"
	"strings"
)

// separator stands between the passages of a composed text. It is one code point and one byte.
const separator = "\n"

var errInconsistent = errors.New("the job's items do not make up the text of the document")

// Composition is what adding items to a composed document comes to.
type Composition struct {
	Added   []Anchor // of the items added, in the order in which they were given
	Moved   []Anchor // of items that were there and begin elsewhere now
	Text    string   // of the document
	Length  int      // of Text
	Changed bool     // whether Text differs from the text before
}

// passage is a stretch of a composed text. It belongs to one item, or to several that follow each other and say the
// same.
type passage struct {
	text   string
	length int
	before int // where it began before
	begin  int // where it begins afterwards
	next   *passage
}

type member struct {
	anchor Anchor
	of     *passage
}

// Compose adds items to a document that is composed of the items of one job: their texts in order of item numbers,
// joined by a newline, where an item whose text equals that of the item before it is the same passage. The anchors are
// those of all items that the text is composed of so far; without any, text must be empty. Both lists are in order of
// item numbers and have none in common.
func Compose(text string, anchors []Anchor, items []Item) (Composition, error) {
	head := &passage{}
	old, err := split(head, text, anchors)
	if err != nil {
		return Composition{}, err
	}
	added := make([]member, 0, len(items))
	changed := false
	last := head // the passage of the item before the one to be added
	rest := old  // the items after it that were there
	for _, it := range items {
		for len(rest) > 0 && rest[0].anchor.Item < it.Number {
			last, rest = rest[0].of, rest[1:]
		}
		of := &passage{text: it.Text, length: it.Length}
		switch {
		case last != head && last.text == it.Text:
			of = last
		case len(rest) > 0 && rest[0].of.text == it.Text:
			of = rest[0].of
		case len(rest) > 0 && rest[0].of == last:
			// It comes between two items that were one passage: what follows it says the same once more.
			again := &passage{text: last.text, length: last.length, next: last.next}
			for i := 0; i < len(rest) && rest[i].of == last; i++ {
				rest[i].of = again
			}
			of.next, last.next, changed = again, of, true
		default:
			of.next, last.next, changed = last.next, of, true
		}
		added = append(added, member{Anchor{Item: it.Number, Length: it.Length}, of})
		last = of
	}
	return finish(head, old, added, text, changed), nil
}

// split cuts a composed text into its passages, which it hangs behind head, and returns its items.
func split(head *passage, text string, anchors []Anchor) ([]member, error) {
	members := make([]member, 0, len(anchors))
	last, end := head, -1 // end: of the last passage
	at := reader{text: text}
	for _, a := range anchors {
		if last != head && a.Begin == last.before && a.Length == last.length {
			members = append(members, member{a, last})
			continue
		}
		if a.Begin != end+1 {
			return nil, errInconsistent
		}
		stretch, ok := at.read(a.Begin, a.Length)
		if !ok {
			return nil, errInconsistent
		}
		last.next = &passage{text: stretch, length: a.Length, before: a.Begin}
		last, end = last.next, a.Begin+a.Length
		members = append(members, member{a, last})
	}
	if at.rest() != "" {
		return nil, errInconsistent
	}
	return members, nil
}

// finish puts the passages behind head one after the other.
func finish(head *passage, old, added []member, text string, changed bool) Composition {
	c := Composition{Text: text, Changed: changed}
	var composed strings.Builder
	end := -1
	for p := head.next; p != nil; p = p.next {
		p.begin = end + 1
		end = p.begin + p.length
		if !changed || head.next.next == nil {
			continue
		}
		if p.begin > 0 {
			composed.WriteString(separator)
		}
		composed.WriteString(p.text)
	}
	switch {
	case !changed:
	case head.next.next == nil:
		c.Text = head.next.text
	default:
		c.Text = composed.String()
	}
	c.Length = max(end, 0)
	for _, m := range old {
		if m.of.begin != m.anchor.Begin {
			m.anchor.Begin = m.of.begin
			c.Moved = append(c.Moved, m.anchor)
		}
	}
	for _, m := range added {
		m.anchor.Begin = m.of.begin
		c.Added = append(c.Added, m.anchor)
	}
	return c
}
