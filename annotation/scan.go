package annotation

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// Summary is what cutting an upload into batches needs to know of an item.
type Summary struct {
	Key         Key // zero where it could not be read in full
	Annotations int // entries of the four collections as written, one for each span array; 0 for an item that is not well formed
	Weight      int // its annotations, at least 1
}

// Scan reads an item only as far as an ingest must: whether it is well formed ([GroupText]), whether its identity is
// complete ([GroupIdentity]), and how much it weighs. An item is rejected if there is a finding of severity Error, and
// then the caller who wants all findings gets them, those of Scan included, from [Options.Parse]. An accepted item has
// no finding from Scan; Parse may still have some. Raw is one item with white space and one byte order mark allowed
// around it; it is not kept. Scan is safe for concurrent use.
func (o Options) Scan(raw []byte) (Summary, []Finding) {
	o = o.withDefaults()
	fs := findings{max: o.MaxFindings}
	out, key, _ := o.outline(raw, &fs)
	n := out.annotations()
	return Summary{Key: key, Annotations: n, Weight: max(n, 1)}, fs.list()
}

// collection is one of the four arrays of an item.
type collection int

const (
	denotations collection = iota
	blocks
	relations
	attributes
)

// String returns the collection's key.
func (c collection) String() string {
	return [...]string{"denotations", "blocks", "relations", "attributes"}[c]
}

// outline is a well-formed item cut into its top-level values, each nil where absent.
type outline struct {
	sourceDB      jsontext.Value
	sourceID      jsontext.Value
	text          jsontext.Value
	collections   [4]jsontext.Value
	entries       [4]int // in each collection that is an array
	modifications jsontext.Value
	tracks        jsontext.Value
	misspelled    []misspelling // unknown keys that look like known ones, in order
}

func (out *outline) annotations() int {
	n := 0
	for _, entries := range out.entries {
		n += entries
	}
	return n
}

// outline makes the pass that Scan and Parse have in common and reports what they must agree on. It reports false and an
// empty outline if the item is not well formed; the key is then given if it can be read nevertheless.
func (o Options) outline(raw []byte, fs *findings) (out outline, key Key, wellFormed bool) {
	if len(raw) > o.MaxItemBytes {
		fs.add(ItemTooLarge, atPath(""), "The item has %d bytes, the limit is %d. Split it or raise the item size limit.",
			len(raw), o.MaxItemBytes)
		return outline{}, Key{}, false
	}
	text := bytes.TrimPrefix(raw, []byte(byteOrderMark))
	if out, ok := skim(text, o.MaxDepth); ok {
		return out, o.key(out.sourceDB, out.sourceID, fs), true
	}
	if !isSuspect(text, o.MaxDepth) {
		if out, err := readOutline(text); err == nil {
			return out, o.key(out.sourceDB, out.sourceID, fs), true
		}
	}
	d := diagnosis{options: o, findings: fs, base: len(raw) - len(text)}
	if out, ok := d.run(text); ok {
		return out, o.key(out.sourceDB, out.sourceID, fs), true
	}
	if d.sourceDB == nil && !d.finished {
		o.DefaultSourceDB = "" // the item may name another further on
	}
	if d.sourceID == nil && !d.finished {
		o.DefaultSourceID = ""
	}
	return outline{}, o.key(d.sourceDB, d.sourceID, &findings{}), false
}

// isSuspect tells in one cheap pass whether text could break one of the rules that the JSON decoder does not know:
// nesting and U+0000. It is exact only for well-formed text, and an escaped backslash before "u0000" is a false alarm.
func isSuspect(text []byte, maxDepth int) bool {
	if bytes.Contains(text, []byte(`\u0000`)) {
		return true
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			n := stringLength(text[i:])
			if n == 0 {
				return true
			}
			i += n - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// stringLength returns the length of the JSON string that b begins with, 0 if it does not end.
func stringLength(b []byte) int {
	for i := 1; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n
		backslashes := 0
		for b[i-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return i + 1
		}
	}
}

// readOutline cuts text into its top-level values. The error says no more than that it could not.
func readOutline(text []byte) (outline, error) {
	r := newReader(text)
	defer r.release()
	var out outline
	if r.decoder.PeekKind() != jsontext.KindBeginObject {
		return outline{}, errNotWellFormed
	}
	if err := r.token(); err != nil {
		return outline{}, err
	}
	for r.decoder.PeekKind() != jsontext.KindEndObject {
		name, err := r.name()
		if err != nil {
			return outline{}, err
		}
		if c, ok := collectionNamed(name); ok {
			out.collections[c], out.entries[c], err = r.collection()
		} else if member := out.member(name); member != nil {
			*member, err = r.value()
		} else {
			out.unknown(name)
			_, err = r.value()
		}
		if err != nil {
			return outline{}, err
		}
	}
	if err := r.token(); err != nil {
		return outline{}, err
	}
	if len(trimLeftSpace(text[r.decoder.InputOffset():])) > 0 {
		return outline{}, errNotWellFormed
	}
	return out, nil
}

func collectionNamed(name []byte) (collection, bool) {
	switch string(name) {
	case "denotations":
		return denotations, true
	case "blocks":
		return blocks, true
	case "relations":
		return relations, true
	case "attributes":
		return attributes, true
	}
	return 0, false
}

// member returns where a top-level value other than a collection goes, nil if it is ignored.
func (out *outline) member(name []byte) *jsontext.Value {
	switch string(name) {
	case "sourcedb":
		return &out.sourceDB
	case "sourceid":
		return &out.sourceID
	case "text":
		return &out.text
	case "modifications":
		return &out.modifications
	case "tracks":
		return &out.tracks
	}
	return nil
}

// collection reads a value and counts its elements if it is an array.
func (r *reader) collection() (jsontext.Value, int, error) {
	if r.decoder.PeekKind() != jsontext.KindBeginArray {
		v, err := r.value()
		return v, 0, err
	}
	if err := r.token(); err != nil {
		return nil, 0, err
	}
	start := r.decoder.InputOffset() - 1
	n := 0
	for ; r.decoder.PeekKind() != jsontext.KindEndArray; n++ {
		if _, err := r.decoder.ReadValue(); err != nil {
			return nil, 0, err
		}
	}
	if err := r.token(); err != nil {
		return nil, 0, err
	}
	return r.text[start:r.decoder.InputOffset()], n, nil
}
