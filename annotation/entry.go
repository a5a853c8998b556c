package annotation

import "github.com/go-json-experiment/json/jsontext"

// entry is one annotation as written, its values nil where absent.
type entry struct {
	id, span, begin, end, subj, pred, obj jsontext.Value
	parts                                 []part // one of a span that is an object, its elements if it is an array
}

// part is a span that is an object, or an element of one that is an array. Of elements that are no objects only the value
// is set.
type part struct{ value, begin, end jsontext.Value }

// member returns where the value of a key goes, nil if it is ignored.
func (e *entry) member(name []byte) *jsontext.Value {
	switch string(name) {
	case "id":
		return &e.id
	case "span":
		return &e.span
	case "begin":
		return &e.begin
	case "end":
		return &e.end
	case "subj":
		return &e.subj
	case "pred":
		return &e.pred
	case "obj":
		return &e.obj
	}
	return nil
}

// member returns where the value of a key goes, nil if it is ignored.
func (p *part) member(name []byte) *jsontext.Value {
	switch string(name) {
	case "begin":
		return &p.begin
	case "end":
		return &p.end
	}
	return nil
}

// each calls check with every entry of a collection that is an object, and reports the others. The entry is valid during
// the call.
func (p *parser) each(c collection, v jsontext.Value, check func(i int, e *entry)) {
	if isAbsent(v) {
		return
	}
	if v.Kind() != jsontext.KindBeginArray {
		p.add(InvalidCollection, atPath(c.String()), "The value of %s is %s; an array is needed.", c, describe(v))
		return
	}
	if err := p.eachElement(c, v, check); err != nil { // the outline has read it before
		p.add(InvalidJSON, atPath(c.String()), "The entries cannot be read: %s.", printable(err.Error()))
	}
}

func (p *parser) eachElement(c collection, v jsontext.Value, check func(i int, e *entry)) error {
	r := newReader(v, jsontext.AllowDuplicateNames(true)) // there are none: the outline has checked
	defer r.release()
	if err := r.token(); err != nil {
		return err
	}
	var e entry
	for i := 0; r.decoder.PeekKind() != jsontext.KindEndArray; i++ {
		if r.decoder.PeekKind() != jsontext.KindBeginObject {
			other, err := r.value()
			if err != nil {
				return err
			}
			p.add(InvalidEntry, atEntry(c, i, ""), "The entry is %s; an object is needed.", describe(other))
			continue
		}
		if err := r.entry(&e); err != nil {
			return err
		}
		check(i, &e)
	}
	return nil
}

// entry reads an object that stands next into e.
func (r *reader) entry(e *entry) error {
	*e = entry{parts: e.parts[:0]}
	if err := r.token(); err != nil {
		return err
	}
	for r.decoder.PeekKind() != jsontext.KindEndObject {
		name, err := r.name()
		if err != nil {
			return err
		}
		to := e.member(name)
		if to == &e.span {
			err = r.span(e)
		} else {
			err = r.valueTo(to)
		}
		if err != nil {
			return err
		}
	}
	return r.token()
}

// span reads a value that stands next as the span of e.
func (r *reader) span(e *entry) error {
	if r.decoder.PeekKind() != jsontext.KindBeginArray {
		p, err := r.part()
		if p.value.Kind() == jsontext.KindBeginObject {
			e.parts = append(e.parts, p)
		}
		e.span = p.value
		return err
	}
	if err := r.token(); err != nil {
		return err
	}
	start := r.decoder.InputOffset() - 1
	for r.decoder.PeekKind() != jsontext.KindEndArray {
		p, err := r.part()
		if err != nil {
			return err
		}
		e.parts = append(e.parts, p)
	}
	if err := r.token(); err != nil {
		return err
	}
	e.span = r.text[start:r.decoder.InputOffset()]
	return nil
}

// part reads a value that stands next as a part of a span.
func (r *reader) part() (p part, err error) {
	if r.decoder.PeekKind() != jsontext.KindBeginObject {
		err = r.valueTo(&p.value)
		return p, err
	}
	if err := r.token(); err != nil {
		return p, err
	}
	start := r.decoder.InputOffset() - 1
	for r.decoder.PeekKind() != jsontext.KindEndObject {
		name, err := r.name()
		if err != nil {
			return p, err
		}
		if err := r.valueTo(p.member(name)); err != nil {
			return p, err
		}
	}
	if err := r.token(); err != nil {
		return p, err
	}
	p.value = r.text[start:r.decoder.InputOffset()]
	return p, nil
}

func (r *reader) valueTo(to *jsontext.Value) error {
	v, err := r.value()
	if to != nil {
		*to = v
	}
	return err
}
