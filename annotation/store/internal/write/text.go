package write

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/align"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
)

// unasked is what a plan needs to know of other jobs before it can decide.
type unasked struct{ jobs []int64 }

// Error implements error.
func (u *unasked) Error() string {
	return fmt.Sprintf("it is not known whether jobs %v overlap", u.jobs)
}

// anchor finds the place of each entry's text in the document's, aligned where it is given, and rejects those that have
// none. What a superseded
// item says is still a passage of a document that its job composes: the text is the same whether the later job came
// before or after.
func (p *plan) anchor(ctx context.Context, tx Tx) error {
	var open []*document // of which the places of all items are needed
	var ids []int64
	for _, doc := range p.documents {
		if len(doc.entries) == 0 {
			p.drop(doc)
			continue
		}
		done, err := p.anchorAlone(doc)
		if err != nil {
			return fmt.Errorf("place the items of document %s: %w", doc.Key, err)
		}
		if !done {
			open, ids = append(open, doc), append(ids, doc.state.ID)
		} else {
			p.drop(doc)
		}
	}
	var missing unasked
	if len(open) == 0 {
		return p.known(missing)
	}
	anchors, err := tx.Anchors(ctx, ids)
	if err != nil {
		return err
	}
	for i, doc := range open {
		if err := p.anchorTogether(doc, anchors[i], &missing); err != nil {
			return fmt.Errorf("place the items of document %s: %w", doc.Key, err)
		}
	}
	return p.known(missing)
}

// known returns what the plan needs to know before it can decide, as an error: of other jobs first, since that tells which
// items are to be aligned.
func (p *plan) known(missing unasked) error {
	if len(missing.jobs) > 0 {
		return &missing
	}
	if len(p.unaligned.documents) > 0 {
		return &p.unaligned
	}
	return nil
}

// drop leaves out a document that was created for items of which none is stored after all.
func (p *plan) drop(doc *document) {
	if doc.state.Created && !slices.ContainsFunc(doc.entries, func(e *entry) bool { return e.anchor.Length > 0 }) {
		p.changes.Dropped = append(p.changes.Dropped, doc.state.ID)
	}
}

// miss leaves out a document that is unknown and that its source does not have. What was created for it is dropped.
func (doc *document) miss() {
	if !doc.state.Created || doc.given == nil || doc.given.Text != "" {
		return
	}
	for _, e := range doc.entries {
		e.missing = true
		e.findings = slices.Insert(e.findings, 0, doc.given.Missing) // whatever is left out of a long list
	}
	doc.entries = nil
}

// composes reports whether the job alone makes up the text.
func (p *plan) composes(doc *document) bool {
	return doc.state.ComposedBy == p.job.ID && doc.state.ComposedUntil == p.job.ID
}

// given reports whether the text is that of jobs before this one, to which it adds nothing unless they overlap.
func (p *plan) given(doc *document) bool {
	return doc.state.ComposedBy == 0 || doc.state.ComposedUntil < p.job.ID
}

// anchorAlone anchors entries where that concerns no other job's. It returns false if it may.
func (p *plan) anchorAlone(doc *document) (bool, error) {
	switch {
	case p.composes(doc):
		fit := p.fitting(doc)
		composition, err := passages.Compose(doc.text, doc.state.Anchors, items(fit))
		if err != nil || composition.Changed && !doc.state.Created {
			return false, err
		}
		p.composed(doc, fit, composition)
		return true, nil
	case p.given(doc):
		return p.place(doc, func() bool { return doc.state.ComposedBy == 0 || p.job.Overlaps == nil })
	default:
		return false, nil
	}
}

// anchorTogether anchors entries of a document with the items of all jobs that are there.
func (p *plan) anchorTogether(doc *document, anchors []Anchor, missing *unasked) error {
	if p.composes(doc) && !slices.ContainsFunc(anchors, func(a Anchor) bool { return a.Job != p.job.ID }) {
		fit := p.fitting(doc)
		composition, err := passages.Compose(doc.text, doc.state.Anchors, items(fit))
		if err != nil {
			return err
		}
		p.composed(doc, fit, composition)
		return nil
	}
	if !p.given(doc) || p.overlap(doc, anchors, missing) {
		combined, err := p.combine(doc, anchors)
		if combined || err != nil {
			return err
		}
	}
	_, err := p.place(doc, func() bool { return true })
	return err
}

// place places the entries in a given text, where those are aligned that it does not hold. It returns false, and changes
// nothing, if there are such and they may not be aligned. What is not known of them is noted, and then nothing is placed.
func (p *plan) place(doc *document, may func() bool) (bool, error) {
	document := p.alignments.document(doc)
	if document == nil && slices.ContainsFunc(doc.state.Anchors, func(a passages.Anchor) bool { return a.Level == align.Mapped }) {
		p.unaligned.add(doc)
		return true, nil
	}
	list := items(doc.entries)
	for i, e := range doc.entries {
		if a := p.alignments.of(e, document); a != nil {
			list[i].Alignment = a.alignment
		}
	}
	placement, err := passages.Place(doc.text, document, doc.state.Anchors, list)
	if err != nil {
		return false, err
	}
	asked := false
	for i, e := range doc.entries {
		if a := placement.Added[i]; a.Length > 0 && a.Level <= align.Exact {
			continue
		}
		if !asked && !may() {
			return false, nil
		}
		asked = true
		if p.alignments.of(e, document) == nil {
			p.unaligned.add(doc)
			p.unaligned.entries = append(p.unaligned.entries, e)
		}
	}
	if p.unaligned.documents[doc.Key] == "" {
		p.placed(doc, document, placement)
	}
	return true, nil
}

// overlap reports whether the job may add passages to the text of jobs before it: if one of them had not ended when it
// was submitted. What it needs to know goes into missing.
func (p *plan) overlap(doc *document, anchors []Anchor, missing *unasked) bool {
	var unknown []int64
	for _, a := range anchors {
		if a.Job < doc.state.ComposedBy || a.Job > doc.state.ComposedUntil {
			continue
		}
		overlaps, known := p.overlaps[a.Job]
		if overlaps {
			return true
		}
		if !known && !slices.Contains(unknown, a.Job) {
			unknown = append(unknown, a.Job)
		}
	}
	missing.jobs = append(missing.jobs, unknown...)
	return false
}

// fitting returns the entries with which the text stays within its bound, and rejects the others.
func (p *plan) fitting(doc *document) []*entry {
	size := len(doc.text) // 0 if it was created just now
	fit := doc.entries[:0:0]
	for _, e := range doc.entries {
		if size += len(e.Item.Text) + 1; size <= store.MaxDocumentBytes {
			fit = append(fit, e)
		} else if !rejects(e.findings) {
			e.findings = append(e.findings, annotation.Finding{
				Code:     store.DocumentTooLarge,
				Severity: annotation.Error,
				Path:     "text",
				Message: fmt.Sprintf("With this passage the text of document %s would exceed %d bytes.",
					doc.Key, store.MaxDocumentBytes),
			})
		}
	}
	return fit
}

// placed applies a placement of all entries.
func (p *plan) placed(doc *document, in *align.Document, placement passages.Placement) {
	p.move(placement.Moved)
	doc.moved = doc.moved || len(placement.Moved) > 0
	for i, e := range doc.entries {
		e.anchor = placement.Added[i]
		if e.anchor.Length > 0 && e.anchor.Level <= align.Exact || p.superseded(doc) {
			continue
		}
		a := p.alignments.of(e, in)
		if e.anchor.Length > 0 {
			e.Item, e.ordinals, e.hidden = a.item, a.ordinals, e.hidden+a.hidden
			e.findings = append(e.findings, a.findings...)
			continue
		}
		why := fmt.Sprintf("with which %.0f %% of this item's text (%d characters) align; at least %s %% are needed",
			math.Floor(100*a.share), e.Item.Length, strconv.FormatFloat(100*p.alignments.least, 'g', 4, 64))
		if a.tooLong {
			why = fmt.Sprintf("which does not contain this item's (%d characters); texts of more than %d bytes are not aligned",
				e.Item.Length, store.MaxAlignedBytes)
		}
		e.findings = append(e.findings, annotation.Finding{
			Code:     store.TextMismatch,
			Severity: annotation.Error,
			Path:     "text",
			Message: fmt.Sprintf("The document %s is known with another text (%d characters), %s. Send the text as it is stored, or check "+
				"the document's id.", doc.Key, doc.state.Length, why),
		})
	}
}

// composed applies a composition of the entries that fit.
func (p *plan) composed(doc *document, fit []*entry, composition passages.Composition) {
	for i, e := range fit {
		e.anchor = composition.Added[i]
	}
	if doc.state.Created && composition.Text == doc.Text || !doc.state.Created && !composition.Changed || len(fit) == 0 {
		return
	}
	p.retext(doc, composition.Text, composition.Length, p.job.ID, p.job.ID)
	p.move(composition.Moved)
}

// combine makes up the text anew from the items of all jobs. It returns false, and changes nothing, if those that are
// there do not make it up any more, since some of their jobs were forgotten.
func (p *plan) combine(doc *document, anchors []Anchor) (bool, error) {
	type item struct {
		passages.Member
		entry *entry // nil: it was there
		begin int
	}
	places := make([]passages.Anchor, len(anchors))
	for i, a := range anchors {
		places[i] = a.Anchor
	}
	parts, err := passages.Cut(doc.text, places)
	if err != nil {
		return false, err
	}
	var all []item
	for i, a := range anchors {
		all = append(all, item{passages.Member{
			Job: a.Job, Item: passages.Item{Number: a.Item, Text: parts[i], Length: a.Length},
			Aligned: a.Level > align.Exact, At: a.Begin,
		}, nil, a.Begin})
	}
	members := func() []passages.Member {
		list := make([]passages.Member, len(all))
		for i, it := range all {
			list[i] = it.Member
		}
		return list
	}
	if passages.Combine(members()).Text != doc.text {
		return false, nil
	}
	fit := p.fitting(doc)
	for i, it := range items(fit) {
		all = append(all, item{passages.Member{Job: p.job.ID, Item: it}, fit[i], 0})
	}
	slices.SortStableFunc(all, func(a, b item) int { return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Number, b.Number)) })
	c := passages.Combine(members())
	for i, it := range all {
		a := passages.Anchor{Item: it.Number, Begin: c.Begins[i], Length: it.Length}
		if it.entry != nil {
			it.entry.anchor = a
		} else if it.begin != a.Begin {
			p.changes.Moved = append(p.changes.Moved, Anchor{it.Job, a})
			doc.moved = true
		}
	}
	if c.Text != doc.text || c.First != doc.state.ComposedBy || c.Last != doc.state.ComposedUntil {
		p.retext(doc, c.Text, c.Length, c.First, c.Last)
	}
	return true, nil
}

// move notes items of the job that begin elsewhere.
func (p *plan) move(anchors []passages.Anchor) {
	for _, a := range anchors {
		p.changes.Moved = append(p.changes.Moved, Anchor{p.job.ID, a})
	}
}

func (p *plan) retext(doc *document, text string, length int, first, last int64) {
	p.changes.Texts = append(p.changes.Texts, Text{Document: doc.state.ID, ComposedBy: first, ComposedUntil: last, Draft: Draft{
		Key: doc.Key, Text: text, Length: length, Hash: sha256.Sum256([]byte(text)),
	}})
}
