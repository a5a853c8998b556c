package write

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
)

// review gives the annotations of whole documents anew what depends on others: their ids, and which of them stand for
// which in mode merge. Both are functions of all that a project says about a document, so what is stored already may
// change, too.
type review struct {
	plan  *plan
	homes []*reviewed
}

// reviewed is a document of a project.
type reviewed struct {
	id      int64
	doc     *document
	entries []*entry // whose annotations are to be stored
	keep    int64    // annotations of jobs before this one go

	marks     []*mark
	spansByID map[string]*mark
	relByID   map[string]*mark
	byGiven   map[given]*mark // denotations, blocks and relations
}

// written is what a review may change of a row.
type written struct {
	id, subj, obj string
	traits        Traits
}

func newReview(p *plan) *review { return &review{plan: p} }

// add takes up a document with entries whose annotations are to be stored.
func (r *review) add(doc *document, entries []*entry) {
	h := &reviewed{id: doc.state.Home, doc: doc, entries: entries}
	if r.plan.replaces(doc) {
		h.keep = r.plan.job.ID
	}
	r.homes = append(r.homes, h)
}

// settle reads what is stored, decides, and makes the rows.
func (r *review) settle(ctx context.Context, tx Tx) error {
	if err := r.addMoved(ctx, tx); err != nil {
		return err
	}
	var stored []*reviewed
	var homes []int64
	for _, h := range r.homes {
		if h.doc.state.HomeKnown || h.entries == nil {
			stored, homes = append(stored, h), append(homes, h.id)
		}
	}
	contents := make([]Content, len(homes))
	if len(homes) > 0 {
		var err error
		if contents, err = tx.Contents(ctx, homes); err != nil {
			return err
		}
	}
	moved := make(map[[2]int64]int, len(r.plan.changes.Moved))
	for _, a := range r.plan.changes.Moved {
		moved[[2]int64{a.Job, a.Item}] = a.Begin
	}
	for _, h := range r.homes {
		h.spansByID, h.relByID = make(map[string]*mark), make(map[string]*mark)
		h.byGiven = make(map[given]*mark)
		if i := slices.Index(stored, h); i >= 0 {
			r.read(h, &contents[i], moved)
		}
		r.plan.reviewed += len(h.marks)
		for _, e := range h.entries {
			r.readEntry(h, e)
		}
		h.merge()
		if err := h.name(); err != nil {
			return fmt.Errorf("ids of document %s: %w", h.doc.Key, err)
		}
		r.write(h)
	}
	return nil
}

// addMoved takes up, of documents in which items have moved, what other projects say, if some of that may be merged.
func (r *review) addMoved(ctx context.Context, tx Tx) error {
	var moved []*document
	var documents []int64
	for _, doc := range r.plan.documents {
		if doc.moved {
			moved, documents = append(moved, doc), append(documents, doc.state.ID)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	homes, err := tx.Merging(ctx, documents)
	if err != nil {
		return err
	}
	for i, doc := range moved {
		for _, home := range homes[i] {
			if home == doc.state.Home && slices.ContainsFunc(doc.entries, func(e *entry) bool { return e.home != 0 }) {
				continue // it is among them, or all that was merged goes
			}
			r.homes = append(r.homes, &reviewed{id: home, doc: doc})
		}
	}
	return nil
}

// order is that of jobs, items and annotations in an item; what is referred to comes before what refers.
func order(a, b *mark) int {
	block := func(m *mark) int {
		if m.block {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.Job, b.Job), cmp.Compare(a.Item, b.Item),
		cmp.Compare(block(a), block(b)), cmp.Compare(a.Ordinal, b.Ordinal))
}

// merge finds out which annotations stand: all but those of jobs in mode merge that say what one before them says.
func (h *reviewed) merge() {
	slices.SortFunc(h.marks, order)
	type key struct {
		class      ids.Class
		block      bool
		begin, end int
		subj, obj  *mark
		label      string
		value      string
	}
	firsts := make(map[key]*mark, len(h.marks))
	for _, m := range h.marks {
		k := key{class: m.class, block: m.block, begin: m.begin, end: m.end, label: m.label, value: m.value}
		if m.subj != nil {
			k.subj = m.subj.first
		}
		if m.obj != nil {
			k.obj = m.obj.first
		}
		m.stands, m.first = m, firsts[k]
		m.Traits &^= Merged
		switch {
		case m.first == nil:
			m.first, firsts[k] = m, m
		case m.Traits&Merging != 0:
			m.stands = m.first
			m.Traits |= Merged
		}
	}
}

// name gives ids to those that stand.
func (h *reviewed) name() error {
	all := ids.New(true)
	for _, m := range h.marks {
		if m.stands != m {
			// A name that no id has, since none begins like this.
			m.ID = "\x01" + strconv.FormatInt(m.Job, 10) + "." + strconv.FormatInt(m.Item, 10) + "." +
				strconv.FormatBool(m.block) + "." + strconv.Itoa(m.Ordinal)
			continue
		}
		m.claim = &ids.Claim{
			Class: m.class, Job: m.Job, Item: m.Item, Block: m.block, Ordinal: m.Ordinal,
			Given: m.Given, Unnamed: m.Traits&Unnamed != 0,
		}
		all.Add(m.claim)
	}
	if unknown := all.Unknown(); len(unknown) > 0 {
		return fmt.Errorf("%d are not settled", len(unknown))
	}
	for _, m := range h.marks {
		if m.stands == m {
			m.ID = m.claim.ID
		}
	}
	h.report(all)
	return nil
}

// report tells the authors of items which ids are others now, as naming does.
func (h *reviewed) report(all *ids.Assignment) {
	if len(h.entries) == 0 {
		return
	}
	byClaim := make(map[*ids.Claim]*mark, len(h.marks))
	for _, m := range h.marks {
		if m.claim != nil {
			byClaim[m.claim] = m
		}
	}
	for _, m := range h.marks {
		switch {
		case m.stands != m || m.ID == m.Given || m.Traits&Unnamed != 0:
		case m.entry != nil:
			m.entry.warnOwn(h.doc, m.claim)
		case m.was.traits&Merged == 0 && m.was.id != m.ID:
			by, e := h.takenBy(all, byClaim, m)
			e.warnTaken(h.doc, by, m.claim, m.was.id)
		}
	}
}

// takenBy returns the new annotation because of which a stored one has another id, and its item.
func (h *reviewed) takenBy(all *ids.Assignment, byClaim map[*ids.Claim]*mark, m *mark) (*ids.Claim, *entry) {
	name := ids.Name{Class: m.class, ID: m.was.id}
	for range len(h.marks) {
		holder := all.Holder(name)
		if holder == nil {
			break
		}
		by := byClaim[holder]
		if by.entry != nil {
			return holder, by.entry
		}
		name.ID = by.was.id
	}
	return nil, h.entries[0]
}

// remove removes a stored row.
func (r *review) remove(h *reviewed, m *mark) {
	id := m.was.id
	if id == "" {
		id = m.ID
	}
	r.plan.changes.Removed = append(r.plan.changes.Removed, Name{h.id, ids.Name{Class: m.class, ID: id}})
}

// write makes the rows of what is new, and those of what has changed anew.
func (r *review) write(h *reviewed) {
	changes := &r.plan.changes
	for _, m := range h.marks {
		now := written{id: m.ID, traits: m.Traits}
		if m.subj != nil {
			now.subj = m.subj.stands.ID
		}
		if m.obj != nil {
			now.obj = m.obj.stands.ID
		}
		if m.entry == nil {
			if now == m.was {
				continue
			}
			r.remove(h, m)
		}
		of := m.Of
		if of.Given == of.ID {
			of.Given = ""
		}
		switch m.class {
		case ids.Spans:
			changes.Spans = append(changes.Spans, Span{of, m.block, m.begin - m.at, m.end - m.at, m.label})
		case ids.Relations:
			changes.Relations = append(changes.Relations, Relation{of, now.subj, m.label, now.obj, m.givenSubj, m.givenObj})
		case ids.Attributes:
			changes.Attributes = append(changes.Attributes,
				Attribute{of, m.subj.class == ids.Relations, now.subj, m.label, m.value, m.givenSubj})
		}
	}
}
