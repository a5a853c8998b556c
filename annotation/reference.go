package annotation

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxIDBytes is the longest id of an annotation, in bytes.
const MaxIDBytes = 1024

// target is what an id stands for.
type target struct {
	in        collection
	index     int
	ambiguous bool // a denotation and a block have it; that was reported
}

// idTable knows the ids that an item uses, each space of ids by itself. Ids of entries that are wrong otherwise count.
type idTable struct {
	spans      map[string]target // denotations and blocks
	relations  map[string]target
	attributes map[string]target
}

func (t *idTable) space(c collection) map[string]target {
	switch c {
	case relations:
		return t.relations
	case attributes:
		return t.attributes
	default:
		return t.spans
	}
}

// id reads the id of an entry, "" where absent, and notes that it is in use.
func (p *parser) id(c collection, i int, v jsontext.Value) (string, bool) {
	id, isID := readID(v)
	if !isID {
		p.add(InvalidID, atEntry(c, i, "id"), "The id is %s; a string or integer is needed.", describe(v))
		return "", false
	}
	if id == "" {
		return "", true
	}
	if len(id) > MaxIDBytes {
		p.add(InvalidID, atEntry(c, i, "id"), "The id %s is longer than %d bytes. Shorten it.", quote(id), MaxIDBytes)
		return "", false
	}
	space := p.ids.space(c)
	if first, ok := space[id]; ok {
		p.add(DuplicateID, atEntry(c, i, "id"), "The id %s is that of %s already. Give every entry an id of its own, or none.",
			quote(id), atEntry(first.in, first.index, ""))
		first.ambiguous = first.ambiguous || first.in != c
		space[id] = first
		return "", false
	}
	space[id] = target{in: c, index: i}
	return id, true
}

// readID reads an id or a reference to one: a string, or an integer as the string of its digits. Absent is "".
func readID(v jsontext.Value) (string, bool) {
	switch {
	case isAbsent(v):
		return "", true
	case v.Kind() == jsontext.KindString:
		return mustUnquote(v), true
	case v.Kind() == jsontext.KindNumber:
		d := parseDecimal(string(v))
		id, ok := d.spell(MaxIDBytes)
		return id, ok && d.exponent >= 0
	default:
		return "", false
	}
}

// relations checks the relations. Those of the denotations and blocks that they tie must be known.
func (p *parser) relations(v jsontext.Value) {
	p.each(relations, v, func(i int, e *entry) {
		id, idOK := p.id(relations, i, e.id)
		subj, subjIn, subjOK := p.reference(relations, i, "subj", e.subj)
		pred, predOK := p.label(relations, i, "pred", e.pred, MissingPred, InvalidPred)
		obj, objIn, objOK := p.reference(relations, i, "obj", e.obj)
		if subjOK && objOK && subjIn.in != objIn.in && !subjIn.ambiguous && !objIn.ambiguous {
			p.add(MixedRelation, atEntry(relations, i, ""), "The relation ties %s of the %s to %s of the %s. "+
				"Both ends must be denotations, or both blocks.", quote(subj), subjIn.in, quote(obj), objIn.in)
			return
		}
		if idOK && subjOK && predOK && objOK {
			p.item.Relations = append(p.item.Relations, Relation{ID: id, Subj: subj, Pred: pred, Obj: obj})
		}
	})
}

// attributes checks the attributes. Everything that they can be about must be known.
func (p *parser) attributes(v jsontext.Value) {
	seen := make(map[Attribute]int, cap(p.item.Attributes))
	p.each(attributes, v, func(i int, e *entry) {
		id, idOK := p.id(attributes, i, e.id)
		subj, _, subjOK := p.reference(attributes, i, "subj", e.subj)
		pred, predOK := p.label(attributes, i, "pred", e.pred, MissingPred, InvalidPred)
		value, valueOK := p.value(i, e.obj)
		if !idOK || !subjOK || !predOK || !valueOK {
			return
		}
		a := Attribute{Subj: subj, Pred: pred, Value: value}
		if first, twice := seen[a]; twice {
			p.add(DuplicateAttribute, atEntry(attributes, i, ""), "The attribute says the same as %s and is stored once.",
				atEntry(attributes, first, ""))
			return
		}
		seen[a] = i
		a.ID = id
		p.item.Attributes = append(p.item.Attributes, a)
	})
}

// value reads the value of an attribute.
func (p *parser) value(i int, v jsontext.Value) (Value, bool) {
	if isAbsent(v) {
		return BoolValue(true), true
	}
	value, ok := p.valueOf(v)
	if !ok {
		p.add(InvalidObj, atEntry(attributes, i, "obj"), "The obj is %s; a string, number or boolean is needed.", describe(v))
	}
	return value, ok
}

func (p *parser) valueOf(v jsontext.Value) (Value, bool) {
	if v.Kind() == jsontext.KindString {
		return StringValue(p.text(v)), true
	}
	return valueOf(v)
}

// reference reads a subj or obj that is the id of something in the item.
func (p *parser) reference(c collection, i int, name string, v jsontext.Value) (string, target, bool) {
	missing, invalid := MissingSubj, InvalidSubj
	if name == "obj" {
		missing, invalid = MissingObj, InvalidObj
	}
	id, isID := readID(v)
	switch {
	case !isID:
		p.add(invalid, atEntry(c, i, name), "The %s is %s; the id of an entry is needed.", name, describe(v))
		return "", target{}, false
	case id == "":
		p.add(missing, atEntry(c, i, name), "The entry has no %s. Give the id of what it refers to.", name)
		return "", target{}, false
	}
	if to, ok := p.ids.spans[id]; ok {
		return id, to, true
	}
	to, isRelation := p.ids.relations[id]
	switch {
	case isRelation && c == attributes:
		return id, to, true
	case isRelation:
		p.add(UnknownReference, atEntry(c, i, name), "The %s %s is a relation; a denotation or block is needed.", name, quote(id))
	default:
		p.add(UnknownReference, atEntry(c, i, name), "The %s %s is no id in this item.", name, quote(id))
	}
	return "", target{}, false
}

// giveIDs gives every annotation an id. No given id of a denotation or block is that of a relation, nor the reverse: the
// subject of an attribute must not change its meaning.
func (p *parser) giveIDs() {
	inUse := func(id string) bool {
		_, span := p.ids.spans[id]
		_, relation := p.ids.relations[id]
		return span || relation
	}
	for c, prefix := range [...]string{denotations: "T", blocks: "B"} {
		list := *p.spanList(collection(c))
		give := idGiver(prefix, inUse)
		for i := range list[:len(list)-p.fragments[c]] {
			give(&list[i].ID, &list[i].Unnamed)
		}
	}
	p.nameParts(inUse)
	give := idGiver("R", inUse)
	for i := range p.item.Relations {
		give(&p.item.Relations[i].ID, &p.item.Relations[i].Unnamed)
	}
	give = idGiver("A", func(id string) bool { _, used := p.ids.attributes[id]; return used })
	for i := range p.item.Attributes {
		give(&p.item.Attributes[i].ID, &p.item.Attributes[i].Unnamed)
	}
}

// idGiver returns a function that fills in empty ids, counting from 1 over those in use, and says where it did.
func idGiver(prefix string, inUse func(id string) bool) func(id *string, unnamed *bool) {
	n := 0
	return func(id *string, unnamed *bool) {
		*unnamed = *id == ""
		for *id == "" {
			n++
			if given := prefix + strconv.Itoa(n); !inUse(given) {
				*id = given
			}
		}
	}
}
