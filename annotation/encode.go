package annotation

import "strconv"

// AppendJSON appends the item as one JSON object without white space, its keys always in the order sourcedb, sourceid,
// text, denotations, blocks, relations, attributes; empty collections are left out. Parse reads an equal item from it, but that no
// annotation is unnamed any more.
// Strings must be valid UTF-8, as those of Parse are; invalid bytes become U+FFFD.
func (it *Item) AppendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"sourcedb":`...), it.Key.SourceDB)
	dst = appendString(append(dst, `,"sourceid":`...), it.Key.SourceID)
	dst = appendString(append(dst, `,"text":`...), it.Text)
	dst = appendEntries(dst, denotations, it.Denotations, appendSpan)
	dst = appendEntries(dst, blocks, it.Blocks, appendSpan)
	dst = appendEntries(dst, relations, it.Relations, appendRelation)
	dst = appendEntries(dst, attributes, it.Attributes, appendAttribute)
	return append(dst, '}')
}

func appendEntries[E any](dst []byte, c collection, entries []E, appendEntry func([]byte, *E) []byte) []byte {
	if len(entries) == 0 {
		return dst
	}
	dst = append(dst, `,"`+c.String()+`":[`...)
	for i := range entries {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendEntry(dst, &entries[i]), '}')
	}
	return append(dst, ']')
}

func appendSpan(dst []byte, s *Span) []byte {
	dst = appendString(append(dst, `{"id":`...), s.ID)
	dst = strconv.AppendInt(append(dst, `,"span":{"begin":`...), int64(s.Begin), 10)
	dst = strconv.AppendInt(append(dst, `,"end":`...), int64(s.End), 10)
	return appendString(append(dst, `},"obj":`...), s.Obj)
}

func appendRelation(dst []byte, r *Relation) []byte {
	dst = appendString(append(dst, `{"id":`...), r.ID)
	dst = appendString(append(dst, `,"subj":`...), r.Subj)
	dst = appendString(append(dst, `,"pred":`...), r.Pred)
	return appendString(append(dst, `,"obj":`...), r.Obj)
}

func appendAttribute(dst []byte, a *Attribute) []byte {
	dst = appendString(append(dst, `{"id":`...), a.ID)
	dst = appendString(append(dst, `,"subj":`...), a.Subj)
	dst = appendString(append(dst, `,"pred":`...), a.Pred)
	return a.Value.AppendJSON(append(dst, `,"obj":`...))
}
