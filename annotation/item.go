package annotation

// Key identifies a document: the database it comes from and its id there, both in canonical spelling.
type Key struct {
	SourceDB string
	SourceID string
}

// String returns the key as people write it, "PMC:4402192".
func (k Key) String() string { return k.SourceDB + ":" + k.SourceID }

// IsZero reports whether the key is absent.
func (k Key) IsZero() bool { return k == Key{} }

// Place says where an item lies in an upload. It is never shortened.
type Place struct {
	File   string // file name as uploaded
	Line   int64  // 1-based line of the item's first byte
	Item   int64  // 1-based number of the item in its upload
	Offset int64  // byte offset of the item's first byte in the (decompressed) file
}

// Span is one denotation or block: a labeled range of the text. Begin and End count Unicode code points from 0,
// End exclusive.
type Span struct {
	ID      string
	Begin   int
	End     int
	Obj     string
	Unnamed bool // the item gives it no id: ID was made up
}

// Relation ties two denotations or two blocks, by id.
type Relation struct {
	ID   string
	Subj string
	Pred string
	Obj  string

	Unnamed bool // the item gives it no id: ID was made up
}

// Attribute says something of a denotation, block or relation, by id. Value keeps the JSON type it was written with.
type Attribute struct {
	ID    string
	Subj  string
	Pred  string
	Value Value

	Unnamed bool // the item gives it no id: ID was made up
}

// Item is one valid annotation object in normal form: canonical key, every annotation with an id, every reference
// resolved inside the item. Parse returns it.
type Item struct {
	Key         Key
	Text        string
	Length      int // of Text, in code points
	Denotations []Span
	Blocks      []Span
	Relations   []Relation
	Attributes  []Attribute
}

// Annotations returns the number of annotations of the item. Chains count with all their parts and ties, so it may exceed
// that of [Summary].
func (it *Item) Annotations() int {
	return len(it.Denotations) + len(it.Blocks) + len(it.Relations) + len(it.Attributes)
}

// Outcome is what storing made of an item. The numbers are kept in stores and are those of the protocol's Outcome; they
// never change. Outcomes that come from leases (failed, crashed, cancelled) are not the annotation layer's to decide.
type Outcome uint8

// The outcomes that validation and storing decide.
const (
	Stored          Outcome = 1 // stored, nothing to say
	StoredWarnings  Outcome = 2 // stored, with at least one warning
	Rejected        Outcome = 3 // invalid, or its text does not match the document's
	Skipped         Outcome = 4 // mode skip found the document annotated
	DocumentMissing Outcome = 5 // its source does not have the document
)
