package annotation

import "strconv"

// AppendJSON appends the item as one JSON object without white space, its keys always in the order sourcedb, sourceid,
// text, denotations, blocks, relations, attributes; empty collections are left out. Parse reads an equal item from it, but that no
// annotation is unnamed any more.
// Strings must be valid UTF-8, as those of Parse are; invalid bytes become U+FFFD.
func (it *Item) AppendJSON(dst []byte) []byte {
	dst = it.appendHead(dst)
	dst = appendEntries(dst, denotations, len(it.Denotations), nil, it.appendDenotation)
	dst = appendEntries(dst, blocks, len(it.Blocks), nil, it.appendBlock)
	dst = appendEntries(dst, relations, len(it.Relations), nil, it.appendRelation)
	dst = appendEntries(dst, attributes, len(it.Attributes), nil, it.appendAttribute)
	return append(dst, '}')
}

func (it *Item) appendHead(dst []byte) []byte {
	dst = appendString(append(dst, `{"sourcedb":`...), it.Key.SourceDB)
	dst = appendString(append(dst, `,"sourceid":`...), it.Key.SourceID)
	return appendString(append(dst, `,"text":`...), it.Text)
}

// appendEntries appends a collection without those of its entries that are left out.
func appendEntries(dst []byte, c collection, n int, out []bool, appendEntry func([]byte, int) []byte) []byte {
	before, empty := len(dst), true
	dst = append(dst, `,"`+c.String()+`":[`...)
	for i := range n {
		if out != nil && out[i] {
			continue
		}
		if !empty {
			dst = append(dst, ',')
		}
		dst = append(appendEntry(dst, i), '}')
		empty = false
	}
	if empty {
		return dst[:before]
	}
	return append(dst, ']')
}

func (it *Item) appendDenotation(dst []byte, i int) []byte {
	return appendSpan(dst, &it.Denotations[i])
}

func (it *Item) appendBlock(dst []byte, i int) []byte { return appendSpan(dst, &it.Blocks[i]) }

func appendSpan(dst []byte, s *Span) []byte {
	dst = append(appendString(append(dst, `{"id":`...), s.ID), `,"span":`...)
	return appendString(append(appendRange(dst, s), `,"obj":`...), s.Obj)
}

func appendRange(dst []byte, s *Span) []byte {
	dst = strconv.AppendInt(append(dst, `{"begin":`...), int64(s.Begin), 10)
	dst = strconv.AppendInt(append(dst, `,"end":`...), int64(s.End), 10)
	return append(dst, '}')
}

func (it *Item) appendRelation(dst []byte, i int) []byte {
	r := &it.Relations[i]
	dst = appendString(append(dst, `{"id":`...), r.ID)
	dst = appendString(append(dst, `,"subj":`...), r.Subj)
	dst = appendString(append(dst, `,"pred":`...), r.Pred)
	return appendString(append(dst, `,"obj":`...), r.Obj)
}

func (it *Item) appendAttribute(dst []byte, i int) []byte {
	a := &it.Attributes[i]
	dst = appendString(append(dst, `{"id":`...), a.ID)
	dst = appendString(append(dst, `,"subj":`...), a.Subj)
	dst = appendString(append(dst, `,"pred":`...), a.Pred)
	return a.Value.AppendJSON(append(dst, `,"obj":`...))
}
