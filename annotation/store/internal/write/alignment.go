package write

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/align"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
)

// unaligned is what a plan needs to know of how items lie in documents before it can decide. It takes longer to find out
// than a transaction may last.
type unaligned struct {
	documents map[annotation.Key]string // texts
	entries   []*entry                  // of these documents; there may be none
}

// Error implements error.
func (u *unaligned) Error() string {
	return fmt.Sprintf("it is not known how %d items lie in %d documents", len(u.entries), len(u.documents))
}

func (u *unaligned) add(doc *document) {
	if u.documents == nil {
		u.documents = make(map[annotation.Key]string)
	}
	u.documents[doc.Key] = doc.text
}

// alignments are what is known of how items of a job lie in documents.
type alignments struct {
	least     float64 // share of an item that must be aligned
	documents map[annotation.Key]*align.Document
	items     map[int64]*aligned // by item number
}

// aligned is an item that a document does not hold as it is.
type aligned struct {
	in        *align.Document
	alignment *align.Alignment // nil: it is too little
	share     float64
	tooLong   bool                 // one of the texts is: nothing was tried
	item      *annotation.Item     // with the spans that were mapped, from the beginning of the place
	ordinals  ordinals             // of its annotations
	findings  []annotation.Finding // about what is lost or changed
	hidden    int                  // more of these
}

// ordinals are the places that the annotations of an item had in its collections before some were lost.
type ordinals struct{ denotations, blocks, relations, attributes places }

// places are those of one collection; nil: none was lost.
type places []int

// of returns the place of the i-th annotation that is left.
func (p places) of(i int) int {
	if p == nil {
		return i
	}
	return p[i]
}

func newAlignments(least float64) *alignments {
	if least == 0 {
		least = store.DefaultMinAlignment
	}
	return &alignments{least: least, documents: make(map[annotation.Key]*align.Document), items: make(map[int64]*aligned)}
}

// document returns a document prepared for aligning; nil if its text has not been prepared.
func (a *alignments) document(doc *document) *align.Document {
	if d := a.documents[doc.Key]; d != nil && d.Text() == doc.text {
		return d
	}
	return nil
}

// of returns how an entry lies in its document, nil if that is not known.
func (a *alignments) of(e *entry, in *align.Document) *aligned {
	if it := a.items[e.Number]; it != nil && it.in == in {
		return it
	}
	return nil
}

// learn finds out what a plan needs to know.
func (a *alignments) learn(ctx context.Context, u *unaligned) error {
	for key, text := range u.documents {
		if d := a.documents[key]; d == nil || d.Text() != text {
			d = align.New(text)
			d.Prepare()
			a.documents[key] = d
		}
	}
	for _, e := range u.entries {
		if ctx.Err() != nil {
			return fmt.Errorf("align items: %w", context.Cause(ctx))
		}
		a.items[e.Number] = newAligned(e.Item, a.documents[e.Item.Key], a.least)
	}
	return nil
}

// keep forgets items and all documents but some of those that were used last, so that what is prepared of them serves the
// next transaction, too.
func (a *alignments) keep(entries []store.Entry) {
	const most = 64 << 20 // bytes of text
	clear(a.items)
	size := 0
	kept := make(map[annotation.Key]*align.Document)
	for i := len(entries) - 1; i >= 0; i-- {
		key := entries[i].Item.Key
		if d := a.documents[key]; d != nil && kept[key] == nil && size+len(d.Text()) <= most {
			kept[key] = d
			size += len(d.Text())
		}
	}
	a.documents = kept
}

// newAligned aligns an item and maps its spans.
func newAligned(it *annotation.Item, in *align.Document, least float64) *aligned {
	if max(len(it.Text), len(in.Text())) > store.MaxAlignedBytes {
		return &aligned{in: in, tooLong: true}
	}
	alignment := in.Inexact(it.Text, 0)
	a := &aligned{in: in, share: alignment.Share()}
	if a.share < least || a.share == 0 {
		return a
	}
	a.alignment = alignment
	m := mapping{
		aligned: a, lost: make(map[string]bool),
		parts:    sync.OnceValue(it.Parts),
		text:     sync.OnceValue(func() passages.Stretches { return passages.StretchesOf(it.Text) }),
		document: sync.OnceValue(func() passages.Stretches { return passages.StretchesOf(in.Text()) }),
	}
	mapped := *it
	mapped.Denotations, a.ordinals.denotations = m.spans("denotation", it.Denotations)
	mapped.Blocks, a.ordinals.blocks = m.spans("block", it.Blocks)
	if len(m.lost) > 0 {
		mapped.Relations, a.ordinals.relations = m.relations(it.Relations)
		mapped.Attributes, a.ordinals.attributes = m.attributes(it)
	}
	a.item = &mapped
	return a
}

// mapping maps the annotations of one item.
type mapping struct {
	*aligned
	parts          func() map[string]string // paths of the parts of span arrays
	text, document func() passages.Stretches
	lost           map[string]bool // ids of denotations and blocks
	lostRelations  map[string]bool
	found          [2]int // errors and warnings
}

// spans maps denotations or blocks, and returns those that are not lost with the places that they had.
func (m *mapping) spans(kind string, spans []annotation.Span) ([]annotation.Span, []int) {
	begin, _ := m.alignment.Place()
	kept := make([]annotation.Span, 0, len(spans))
	places := make([]int, 0, len(spans))
	for i, s := range spans {
		path := kind + "s[" + strconv.Itoa(i) + "].span"
		if s.Unnamed && s.Obj == annotation.Fragment {
			path = cmp.Or(m.parts()[s.ID], path) // it is a part of a span array, which stands elsewhere
		}
		to, ok := m.alignment.Map(s.Begin, s.End)
		switch {
		case !ok:
			m.lost[s.ID] = true
			m.find(store.SpanLost, path, func() string {
				return fmt.Sprintf("The %s %s (%d to %d, %s) has no counterpart in the document's text. It is not stored.",
					kind, brief(s.ID), s.Begin, s.End, quoted(m.text().Cut(s.Begin, s.End)))
			})
			continue
		case to.Changed:
			m.find(store.SurfaceChanged, path, func() string {
				return fmt.Sprintf("The %s %s (%d to %d, %s) lies on other characters in the document's text: %s.",
					kind, brief(s.ID), s.Begin, s.End, quoted(m.text().Cut(s.Begin, s.End)), quoted(m.document().Cut(to.Begin, to.End)))
			})
		}
		s.Begin, s.End = to.Begin-begin, to.End-begin
		kept, places = append(kept, s), append(places, i)
	}
	if len(kept) == len(spans) {
		places = nil
	}
	return kept, places
}

func (m *mapping) relations(relations []annotation.Relation) ([]annotation.Relation, []int) {
	m.lostRelations = make(map[string]bool)
	kept, places := make([]annotation.Relation, 0, len(relations)), make([]int, 0, len(relations))
	for i, r := range relations {
		end := r.Subj
		if !m.lost[end] {
			end = r.Obj
		}
		if !m.lost[end] {
			kept, places = append(kept, r), append(places, i)
			continue
		}
		m.lostRelations[r.ID] = true
		path := "relations[" + strconv.Itoa(i) + "]"
		if r.Unnamed && r.Pred == annotation.LexicallyChained {
			path = cmp.Or(m.parts()[r.Obj], path) // it ties a part to the next
		}
		m.find(store.ReferenceLost, path, func() string {
			return fmt.Sprintf("The relation %s (%s, %s, %s) is not stored, since %s is lost.",
				brief(r.ID), brief(r.Subj), brief(r.Pred), brief(r.Obj), brief(end))
		})
	}
	return kept, places
}

func (m *mapping) attributes(it *annotation.Item) ([]annotation.Attribute, []int) {
	spans := make(map[string]bool, len(it.Denotations)+len(it.Blocks))
	for _, list := range [][]annotation.Span{it.Denotations, it.Blocks} {
		for _, s := range list {
			spans[s.ID] = true
		}
	}
	kept, places := make([]annotation.Attribute, 0, len(it.Attributes)), make([]int, 0, len(it.Attributes))
	for i, a := range it.Attributes {
		if !m.lost[a.Subj] && (spans[a.Subj] || !m.lostRelations[a.Subj]) {
			kept, places = append(kept, a), append(places, i)
			continue
		}
		m.find(store.ReferenceLost, "attributes["+strconv.Itoa(i)+"]", func() string {
			return fmt.Sprintf("The attribute %s (%s, %s) is not stored, since %s is lost.",
				brief(a.ID), brief(a.Subj), brief(a.Pred), brief(a.Subj))
		})
	}
	return kept, places
}

// find adds a finding, if it is not one too many. What is lost is an error, though the item is stored.
func (m *mapping) find(code annotation.Code, path string, message func() string) {
	severity, found := annotation.Error, &m.found[0]
	if code == store.SurfaceChanged {
		severity, found = annotation.Warning, &m.found[1]
	}
	if *found++; *found > maxFindings {
		m.hidden++
		return
	}
	m.findings = append(m.findings, annotation.Finding{Code: code, Severity: severity, Path: path, Message: message()})
}

// maxQuoted bounds, in code points, how much of an item or a document a message repeats.
const maxQuoted = 60

// quoted returns the beginning of a text for a message.
func quoted(text string) string {
	if cut := clip(text); cut != text {
		return strconv.Quote(cut) + "…"
	}
	return strconv.Quote(text)
}

// brief returns the beginning of an id or a label for a message.
func brief(id string) string {
	if cut := clip(id); cut != id {
		return cut + "…"
	}
	return id
}

func clip(text string) string {
	limit := maxQuoted
	for i := range text {
		if limit == 0 {
			return text[:i]
		}
		limit--
	}
	return text
}
