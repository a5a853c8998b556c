package write

import (
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
)

// given names an annotation by its id in its item.
type given struct {
	class     ids.Class
	job, item int64
	id        string
}

// mark is an annotation under review.
type mark struct {
	class ids.Class
	Of
	block      bool
	begin, end int // in the document, of spans
	at         int // where its item's text begins
	subj, obj  *mark
	label      string // obj of a span, pred of the others
	value      string // of an attribute
	givenSubj  string
	givenObj   string
	entry      *entry  // nil: it was stored before
	was        written // of one that was
	stands     *mark   // itself unless it is merged
	first      *mark   // of those equal to it
	claim      *ids.Claim
}

// read makes marks of what is stored and stays.
func (r *review) read(h *reviewed, c *Content, moved map[[2]int64]int) {
	for _, s := range c.Spans {
		if s.Job < h.keep {
			continue
		}
		if at, ok := moved[[2]int64{s.Job, s.Item}]; ok {
			s.At = at
		}
		h.put(&mark{class: ids.Spans, Of: s.Of, block: s.Block, begin: s.At + s.Begin, end: s.At + s.End, at: s.At, label: s.Obj})
	}
	for _, x := range c.Relations {
		if x.Job < h.keep {
			continue
		}
		m := &mark{class: ids.Relations, Of: x.Of, label: x.Pred, givenSubj: x.GivenSubj, givenObj: x.GivenObj}
		m.subj, m.obj = h.span(m, x.Subj, x.GivenSubj), h.span(m, x.Obj, x.GivenObj)
		if m.subj == nil || m.obj == nil {
			r.remove(h, m)
			continue
		}
		m.was.subj, m.was.obj = x.Subj, x.Obj
		h.put(m)
	}
	for _, a := range c.Attributes {
		if a.Job < h.keep {
			continue
		}
		m := &mark{class: ids.Attributes, Of: a.Of, label: a.Pred, value: a.Obj, givenSubj: a.GivenSubj}
		if m.subj = h.span(m, a.Subj, a.GivenSubj); a.OfRelation {
			m.subj = h.relation(m, a.Subj, a.GivenSubj)
		}
		if m.subj == nil {
			r.remove(h, m)
			continue
		}
		m.was.subj = a.Subj
		h.put(m)
	}
}

// put adds a mark of something that is stored.
func (h *reviewed) put(m *mark) {
	m.Home, m.was.id, m.was.traits = h.id, m.ID, m.Traits
	if m.Given == "" {
		m.Given = m.ID
	}
	switch m.class {
	case ids.Spans:
		h.spansByID[m.ID] = m
	case ids.Relations:
		h.relByID[m.ID] = m
	case ids.Attributes: // nothing refers to them
	}
	h.add(m)
}

func (h *reviewed) add(m *mark) {
	h.marks = append(h.marks, m)
	h.byGiven[given{m.class, m.Job, m.Item, m.Given}] = m
}

// span returns the denotation or block that a stored reference is to: in mode merge by its id in the item, since the one
// that stands may be another's.
func (h *reviewed) span(of *mark, id, inItem string) *mark {
	if inItem != "" {
		return h.byGiven[given{ids.Spans, of.Job, of.Item, inItem}]
	}
	return h.spansByID[id]
}

func (h *reviewed) relation(of *mark, id, inItem string) *mark {
	if inItem != "" {
		return h.byGiven[given{ids.Relations, of.Job, of.Item, inItem}]
	}
	return h.relByID[id]
}

// readEntry makes marks of a new item.
func (r *review) readEntry(h *reviewed, e *entry) {
	traits := Traits(0)
	if r.plan.job.Mode == store.ModeMerge {
		traits = Merging
	}
	of := func(ordinal int, id string, unnamed bool) Of {
		o := Of{Home: h.id, Job: r.plan.job.ID, Item: e.Number, Ordinal: ordinal, Given: id, Traits: traits}
		if unnamed {
			o.Traits |= Unnamed
		}
		return o
	}
	at := e.anchor.Begin
	for i, s := range e.Item.Denotations {
		h.add(&mark{class: ids.Spans, Of: of(e.ordinals.denotations.of(i), s.ID, s.Unnamed), begin: at + s.Begin, end: at + s.End, at: at, label: s.Obj, entry: e})
	}
	for i, s := range e.Item.Blocks {
		h.add(&mark{class: ids.Spans, Of: of(e.ordinals.blocks.of(i), s.ID, s.Unnamed), block: true, begin: at + s.Begin, end: at + s.End, at: at, label: s.Obj, entry: e})
	}
	reference := func(m *mark, class ids.Class, id string) (*mark, string) {
		to := h.byGiven[given{class, m.Job, m.Item, id}]
		if traits&Merging == 0 {
			id = ""
		}
		return to, id
	}
	for i, x := range e.Item.Relations {
		m := &mark{class: ids.Relations, Of: of(e.ordinals.relations.of(i), x.ID, x.Unnamed), label: x.Pred, entry: e}
		m.subj, m.givenSubj = reference(m, ids.Spans, x.Subj)
		m.obj, m.givenObj = reference(m, ids.Spans, x.Obj)
		h.add(m)
	}
	for i, a := range e.Item.Attributes {
		m := &mark{class: ids.Attributes, Of: of(e.ordinals.attributes.of(i), a.ID, a.Unnamed), label: a.Pred, value: string(a.Value.AppendJSON(nil)), entry: e}
		if m.subj, m.givenSubj = reference(m, ids.Spans, a.Subj); m.subj == nil {
			m.subj, m.givenSubj = reference(m, ids.Relations, a.Subj)
		}
		h.add(m)
	}
}
