package write

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
)

// plan decides what the entries of one transaction change.
type plan struct {
	job       store.Job
	entries   []*entry    // in order of item numbers
	documents []*document // in key order
	changes   Changes
}

// entry is an item that is being decided.
type entry struct {
	store.Entry
	decided  bool // before: result is its first answer
	result   store.Result
	findings []annotation.Finding
	hidden   int // findings of ours that are too many to be listed
	anchor   passages.Anchor
	home     int64
}

// document is a document with the entries that are about it.
type document struct {
	Draft
	state   Document
	text    string // what it says before this transaction; set where it is needed
	entries []*entry
}

// newPlan sorts entries by document and drafts the documents.
func newPlan(job store.Job, entries []store.Entry) (*plan, error) {
	p := &plan{job: job, changes: Changes{Job: job}}
	byKey := make(map[annotation.Key]*document, len(entries))
	for _, e := range entries {
		it := &entry{Entry: e, findings: slices.Clip(e.Warnings)}
		p.entries = append(p.entries, it)
		doc := byKey[e.Item.Key]
		if doc == nil {
			doc = &document{Draft: Draft{Key: e.Item.Key}}
			byKey[e.Item.Key] = doc
			p.documents = append(p.documents, doc)
		}
		doc.entries = append(doc.entries, it)
	}
	slices.SortFunc(p.documents, func(a, b *document) int {
		return cmp.Or(strings.Compare(a.Key.SourceDB, b.Key.SourceDB), strings.Compare(a.Key.SourceID, b.Key.SourceID))
	})
	for _, doc := range p.documents {
		composition, err := passages.Compose("", nil, items(doc.entries))
		if err != nil {
			return nil, fmt.Errorf("draft document %s: %w", doc.Key, err)
		}
		doc.Text, doc.Length = composition.Text, composition.Length
		doc.Hash = sha256.Sum256([]byte(doc.Text))
	}
	return p, nil
}

func items(entries []*entry) []passages.Item {
	list := make([]passages.Item, len(entries))
	for i, e := range entries {
		list[i] = passages.Item{Number: e.Number, Text: e.Item.Text, Length: e.Item.Length}
	}
	return list
}

// load asks the transaction what is known.
func (p *plan) load(ctx context.Context, tx Tx, lease store.Lease) error {
	numbers := make([]int64, len(p.entries))
	for i, e := range p.entries {
		numbers[i] = e.Number
	}
	drafts := make([]Draft, len(p.documents))
	for i, doc := range p.documents {
		drafts[i] = doc.Draft
	}
	state, err := tx.Load(ctx, lease, p.job, numbers, drafts)
	if err != nil {
		return err
	}
	for _, e := range p.entries {
		e.result, e.decided = state.Decided[e.Number]
	}
	var unread []*document
	var unreadIDs []int64
	for i, doc := range p.documents {
		doc.state = state.Documents[i]
		doc.entries = slices.DeleteFunc(doc.entries, func(e *entry) bool { return e.decided })
		switch {
		case len(doc.entries) == 0 || doc.state.Created:
		case doc.state.Same:
			doc.text = doc.Text
		case p.superseded(doc) && doc.state.ComposedBy != p.job.ID:
		default:
			unread, unreadIDs = append(unread, doc), append(unreadIDs, doc.state.ID)
		}
	}
	if len(unread) == 0 {
		return nil
	}
	texts, err := tx.Texts(ctx, unreadIDs)
	if err != nil {
		return err
	}
	for i, doc := range unread {
		doc.text = texts[i]
	}
	return nil
}

// superseded reports whether a later job has replaced what the project says about the document.
func (p *plan) superseded(doc *document) bool {
	return doc.state.HomeKnown && doc.state.ReplacedBy > p.job.ID
}

// decide fills in changes. It returns false if there are none, since every item had been decided before.
func (p *plan) decide(ctx context.Context, tx Tx) (bool, error) {
	naming := newNaming(p)
	for _, doc := range p.documents {
		if len(doc.entries) == 0 {
			continue
		}
		if err := p.anchor(doc); err != nil {
			return false, fmt.Errorf("place the items of document %s: %w", doc.Key, err)
		}
		if stored := p.replace(doc); len(stored) > 0 {
			naming.add(doc, stored)
		}
	}
	if err := naming.settle(ctx, tx); err != nil {
		return false, err
	}
	open := false
	for _, e := range p.entries {
		if e.decided {
			continue
		}
		open = true
		e.result = conclude(e.findings, e.hidden)
		encoded, err := EncodeFindings(e.result.Findings)
		if err != nil {
			return false, err
		}
		row := Row{Item: e.Number, Outcome: e.result.Outcome, Findings: encoded}
		if e.anchor.Length > 0 {
			row.Document, row.Home = p.documentOf(e), e.home
			row.Begin, row.Length = e.anchor.Begin, e.anchor.Length
		}
		p.changes.Items = append(p.changes.Items, row)
	}
	return open, nil
}

func (p *plan) documentOf(e *entry) int64 {
	i, _ := slices.BinarySearchFunc(p.documents, e.Item.Key, func(doc *document, key annotation.Key) int {
		return cmp.Or(strings.Compare(doc.Key.SourceDB, key.SourceDB), strings.Compare(doc.Key.SourceID, key.SourceID))
	})
	return p.documents[i].state.ID
}

// anchor finds the place of each entry's text in the document's, and rejects those that have none. What a superseded
// item says is still a passage of a document that its job composes: the text is the same whether the later job came
// before or after.
func (p *plan) anchor(doc *document) error {
	if doc.state.ComposedBy == p.job.ID {
		return p.compose(doc)
	}
	if p.superseded(doc) {
		return nil
	}
	placement, err := passages.Place(doc.text, doc.state.Anchors, items(doc.entries))
	if err != nil {
		return err
	}
	p.changes.Moved = append(p.changes.Moved, placement.Moved...)
	for i, e := range doc.entries {
		e.anchor = placement.Added[i]
		if e.anchor.Length == 0 {
			e.findings = append(e.findings, annotation.Finding{
				Code:     store.TextMismatch,
				Severity: annotation.Error,
				Path:     "text",
				Message: fmt.Sprintf("The document %s is known with another text (%d characters), which neither equals nor contains "+
					"this item's (%d characters). Texts are compared character by character; send the text as it is stored.",
					doc.Key, doc.state.Length, e.Item.Length),
			})
		}
	}
	return nil
}

func (p *plan) compose(doc *document) error {
	before := doc.text // empty if it was created just now
	size := len(before)
	fit := doc.entries[:0:0]
	for _, e := range doc.entries {
		if size += len(e.Item.Text) + 1; size <= store.MaxDocumentBytes {
			fit = append(fit, e)
			continue
		}
		e.findings = append(e.findings, annotation.Finding{
			Code:     store.DocumentTooLarge,
			Severity: annotation.Error,
			Path:     "text",
			Message: fmt.Sprintf("With this passage the text of document %s would exceed %d bytes.",
				doc.Key, store.MaxDocumentBytes),
		})
	}
	composition, err := passages.Compose(before, doc.state.Anchors, items(fit))
	if err != nil {
		return err
	}
	for i, e := range fit {
		e.anchor = composition.Added[i]
	}
	if doc.state.Created && composition.Text == doc.Text || !doc.state.Created && !composition.Changed {
		return nil
	}
	p.changes.Texts = append(p.changes.Texts, Text{Document: doc.state.ID, Draft: Draft{
		Key: doc.Key, Text: composition.Text, Length: composition.Length, Hash: sha256.Sum256([]byte(composition.Text)),
	}})
	for _, in := range composition.Insertions {
		p.changes.Insertions = append(p.changes.Insertions, Insertion{doc.state.ID, in})
	}
	p.changes.Moved = append(p.changes.Moved, composition.Moved...)
	return nil
}

// replace opens the document to the job, in mode replace: what earlier jobs said goes, once. It returns the entries
// whose annotations are to be stored.
func (p *plan) replace(doc *document) []*entry {
	if p.superseded(doc) {
		for _, e := range doc.entries {
			e.findings = append(e.findings, annotation.Finding{
				Code:     store.Superseded,
				Severity: annotation.Warning,
				Message: fmt.Sprintf("Job %d, which was submitted after this one, has replaced the annotations of document %s. "+
					"Those of this item are not stored.", doc.state.ReplacedBy, doc.Key),
			})
		}
		return nil
	}
	var stored []*entry
	for _, e := range doc.entries {
		if e.anchor.Length > 0 {
			e.home = doc.state.Home
			stored = append(stored, e)
		}
	}
	switch {
	case len(stored) == 0:
	case !doc.state.HomeKnown:
		p.changes.Homes = append(p.changes.Homes, Home{ID: doc.state.Home, Key: doc.Key, Document: doc.state.ID})
	case doc.state.ReplacedBy < p.job.ID:
		p.changes.Replaced = append(p.changes.Replaced, doc.state.Home)
	}
	return stored
}

// cleared reports whether the project says nothing about the document once the plan's replacements are done.
func (p *plan) cleared(doc *document) bool {
	return !doc.state.HomeKnown || doc.state.ReplacedBy < p.job.ID
}
