package write

import (
	"context"
	"fmt"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
)

// maxLookups bounds how often ids are looked up for one transaction. Each round settles a clash with a substitute; only
// ids made up to be in the way of substitutes come near it.
const maxLookups = 1000

// naming gives annotations their ids and makes their rows.
type naming struct {
	plan      *plan
	documents []*named
}

// named is a document with the claims of its new annotations.
type named struct {
	doc     *document
	entries []*entry
	ids     *ids.Assignment // nil: there is but one item, whose ids are its own
	claims  map[*ids.Claim]*entry
	byEntry [][]*ids.Claim // in order of denotations, blocks, relations, attributes
}

func newNaming(p *plan) *naming { return &naming{plan: p} }

// add takes up entries whose annotations are to be stored in a document.
func (n *naming) add(doc *document, entries []*entry) {
	d := &named{doc: doc, entries: entries}
	n.documents = append(n.documents, d)
	empty := n.plan.cleared(doc)
	if empty && len(entries) == 1 {
		return
	}
	d.ids, d.claims = ids.New(empty), make(map[*ids.Claim]*entry)
	for _, e := range entries {
		claims := d.claimsOf(n.plan.job.ID, e)
		d.byEntry = append(d.byEntry, claims)
		for _, c := range claims {
			d.claims[c] = e
			d.ids.Add(c)
		}
	}
}

func (d *named) claimsOf(job int64, e *entry) []*ids.Claim {
	claims := make([]*ids.Claim, 0, e.Item.Annotations())
	claim := func(class ids.Class, block bool, ordinal int, id string, unnamed bool) {
		claims = append(claims, &ids.Claim{
			Class: class, Job: job, Item: e.Number, Block: block, Ordinal: ordinal, Given: id, Unnamed: unnamed,
		})
	}
	for i, s := range e.Item.Denotations {
		claim(ids.Spans, false, e.ordinals.denotations.of(i), s.ID, s.Unnamed)
	}
	for i, s := range e.Item.Blocks {
		claim(ids.Spans, true, e.ordinals.blocks.of(i), s.ID, s.Unnamed)
	}
	for i, r := range e.Item.Relations {
		claim(ids.Relations, false, e.ordinals.relations.of(i), r.ID, r.Unnamed)
	}
	for i, a := range e.Item.Attributes {
		claim(ids.Attributes, false, e.ordinals.attributes.of(i), a.ID, a.Unnamed)
	}
	return claims
}

// settle asks the transaction who has the ids that are asked for until everybody has one, and makes the rows.
func (n *naming) settle(ctx context.Context, tx Tx) error {
	for range maxLookups {
		var queries []Names
		var asking []*named
		for _, d := range n.documents {
			if d.ids == nil {
				continue
			}
			if names := d.ids.Unknown(); len(names) > 0 {
				queries, asking = append(queries, Names{d.doc.state.Home, names}), append(asking, d)
			}
		}
		if len(queries) == 0 {
			for _, d := range n.documents {
				n.rows(d)
				n.report(d)
			}
			return nil
		}
		holders, err := tx.Holders(ctx, queries)
		if err != nil {
			return err
		}
		for i, d := range asking {
			if err := d.ids.Learn(queries[i].Names, holders[i]); err != nil {
				return fmt.Errorf("ids of document %s: %w", d.doc.Key, err)
			}
		}
	}
	return fmt.Errorf("ids are not settled after %d lookups", maxLookups)
}

// rows makes the rows of a document's new annotations.
func (n *naming) rows(d *named) {
	for i, e := range d.entries {
		var claims []*ids.Claim
		if d.byEntry != nil {
			claims = d.byEntry[i]
		}
		n.rowsOf(e, newRefs(e.Item, claims), claims)
	}
}

func (n *naming) rowsOf(e *entry, refs refs, claims []*ids.Claim) {
	changes := &n.plan.changes
	of := func(ordinal int, id string, unnamed bool) Of {
		row := Of{Home: e.home, Job: n.plan.job.ID, Item: e.Number, Ordinal: ordinal, ID: id}
		if unnamed {
			row.Traits = Unnamed
		}
		if claims == nil {
			return row
		}
		if row.ID = claims[0].ID; row.ID != id {
			row.Given = id
		}
		claims = claims[1:]
		return row
	}
	for i, s := range e.Item.Denotations {
		changes.Spans = append(changes.Spans, Span{of(e.ordinals.denotations.of(i), s.ID, s.Unnamed), false, s.Begin, s.End, s.Obj})
	}
	for i, s := range e.Item.Blocks {
		changes.Spans = append(changes.Spans, Span{of(e.ordinals.blocks.of(i), s.ID, s.Unnamed), true, s.Begin, s.End, s.Obj})
	}
	for i, r := range e.Item.Relations {
		changes.Relations = append(changes.Relations, Relation{
			Of: of(e.ordinals.relations.of(i), r.ID, r.Unnamed), Subj: refs.span(r.Subj), Pred: r.Pred, Obj: refs.span(r.Obj),
		})
	}
	for i, a := range e.Item.Attributes {
		subj, ofRelation := refs.subject(a.Subj)
		changes.Attributes = append(changes.Attributes, Attribute{
			Of: of(e.ordinals.attributes.of(i), a.ID, a.Unnamed), OfRelation: ofRelation, Subj: subj, Pred: a.Pred, Obj: string(a.Value.AppendJSON(nil)),
		})
	}
}

// refs resolves the references of an item.
type refs struct {
	spans    map[string]bool   // ids of denotations and blocks; nil: every reference is to one
	renamed  map[string]string // ids of denotations and blocks that have another one in the document
	relation map[string]string // the same of relations
}

func newRefs(item *annotation.Item, claims []*ids.Claim) refs {
	var r refs
	if len(item.Relations) > 0 && len(item.Attributes) > 0 {
		r.spans = make(map[string]bool, len(item.Denotations)+len(item.Blocks))
		for _, s := range item.Denotations {
			r.spans[s.ID] = true
		}
		for _, s := range item.Blocks {
			r.spans[s.ID] = true
		}
	}
	for _, c := range claims {
		if c.ID == c.Given {
			continue
		}
		switch c.Class {
		case ids.Spans:
			if r.renamed == nil {
				r.renamed = make(map[string]string)
			}
			r.renamed[c.Given] = c.ID
		case ids.Relations:
			if r.relation == nil {
				r.relation = make(map[string]string)
			}
			r.relation[c.Given] = c.ID
		case ids.Attributes: // nothing refers to them
		}
	}
	return r
}

// span returns the id in the document of a denotation or block.
func (r refs) span(given string) string {
	if id, ok := r.renamed[given]; ok {
		return id
	}
	return given
}

// subject returns the id in the document of what an attribute is about, and whether that is a relation. An id that a
// denotation or block has means that.
func (r refs) subject(given string) (string, bool) {
	if r.spans == nil || r.spans[given] {
		return r.span(given), false
	}
	if id, ok := r.relation[given]; ok {
		return id, true
	}
	return given, true
}

// report tells the authors of items which ids are others now: of a new annotation its own item, of one that was there
// the item that came and took its id.
func (n *naming) report(d *named) {
	if d.ids == nil {
		return
	}
	for i, e := range d.entries {
		for _, c := range d.byEntry[i] {
			if c.ID != c.Given && !c.Unnamed {
				e.warnOwn(d.doc, c)
			}
		}
	}
	for _, c := range d.ids.Renamed() {
		before, _ := c.Renamed()
		n.plan.changes.Renamed = append(n.plan.changes.Renamed, Rename{Home: d.doc.state.Home, From: before, To: c.ID, Claim: c})
		if !c.Unnamed {
			by, e := d.takenBy(before, c.Class)
			e.warnTaken(d.doc, by, c, before)
		}
	}
}

// takenBy returns the new annotation because of which an id changed hands, and its item.
func (d *named) takenBy(id string, class ids.Class) (*ids.Claim, *entry) {
	name := ids.Name{Class: class, ID: id}
	for range len(d.claims) + 1 {
		holder := d.ids.Holder(name)
		if holder == nil {
			break
		}
		if e := d.claims[holder]; e != nil {
			return holder, e
		}
		before, _ := holder.Renamed()
		name = ids.Name{Class: class, ID: before}
	}
	return nil, d.entries[0] // a ring of displacements: the item that came set it off
}

// warnOwn says that an annotation of the entry has another id than its item gives it.
func (e *entry) warnOwn(doc *document, c *ids.Claim) {
	e.warn(c, fmt.Sprintf("Another item of document %s has the id %s among its %s. It is %s here; references follow.",
		doc.Key, c.Given, c.Class, c.ID))
}

// warnTaken says that the annotation by of the entry, if it is known, takes the id that another one, c, had.
func (e *entry) warnTaken(doc *document, by, c *ids.Claim, before string) {
	e.warn(by, fmt.Sprintf("The id %s belongs to this item, before item %d of job %d in document %s, where it was until now. "+
		"There it is %s; references follow.", before, c.Item, c.Job, doc.Key, c.ID))
}

// warn adds an ID_CHANGED finding, at the annotation c unless it is nil.
func (e *entry) warn(c *ids.Claim, message string) {
	if len(e.findings) >= maxFindings {
		e.hidden++
		return
	}
	path := ""
	if c != nil {
		collection := c.Class.String()
		if c.Class == ids.Spans {
			collection = "denotations"
			if c.Block {
				collection = "blocks"
			}
		}
		path = fmt.Sprintf("%s[%d].id", collection, c.Ordinal)
	}
	e.findings = append(e.findings, annotation.Finding{
		Code: store.IDChanged, Severity: annotation.Warning, Path: path, Message: message,
	})
}
