package write

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/align"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
)

// plan decides what the entries of one transaction change.
type plan struct {
	job       store.Job
	overlaps  map[int64]bool // what is known of other jobs: see store.Job
	entries   []*entry       // in order of item numbers
	documents []*document    // in key order
	changes   Changes
	reviewed  int // annotations that were there

	alignments *alignments // what is known of how items lie in documents
	unaligned  unaligned   // what has to be known besides
}

// entry is an item that is being decided.
type entry struct {
	store.Entry
	decided  bool // before: result is its first answer
	skipped  bool
	missing  bool // its document's source does not have it
	result   store.Result
	findings []annotation.Finding
	hidden   int // findings of ours that are too many to be listed
	anchor   passages.Anchor
	ordinals ordinals
	home     int64
}

// document is a document with the entries that are about it.
type document struct {
	Draft
	state   Document
	text    string // what it says before this transaction; set where it is needed
	entries []*entry
	given   *store.Given // what its source says; nil if that was not asked
	moved   bool         // items of it that were there begin elsewhere, not all by the same
}

// newPlan sorts entries by document and drafts the documents.
func newPlan(job store.Job, overlaps map[int64]bool, alignments *alignments, entries []store.Entry) (*plan, error) {
	p := &plan{job: job, overlaps: overlaps, alignments: alignments, changes: Changes{Job: job}}
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
		doc.given = cmp.Or(doc.given, e.Given)
	}
	slices.SortFunc(p.documents, func(a, b *document) int {
		return cmp.Or(strings.Compare(a.Key.SourceDB, b.Key.SourceDB), strings.Compare(a.Key.SourceID, b.Key.SourceID))
	})
	for _, doc := range p.documents {
		if err := doc.draft(); err != nil {
			return nil, fmt.Errorf("draft document %s: %w", doc.Key, err)
		}
	}
	return p, nil
}

// draft makes the document as it will be if it is unknown: with the text that its source gives, otherwise with that of its
// entries.
func (doc *document) draft() error {
	if doc.given != nil && doc.given.Text != "" {
		doc.Text, doc.Length, doc.Given = doc.given.Text, doc.given.Length, true
	} else {
		composition, err := passages.Compose("", nil, items(doc.entries))
		if err != nil {
			return err
		}
		doc.Text, doc.Length = composition.Text, composition.Length
	}
	doc.Hash = sha256.Sum256([]byte(doc.Text))
	return nil
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
		case len(doc.entries) == 0 || doc.state.Created && !doc.Given:
		case doc.state.Same:
			doc.text = doc.Text
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

// decide fills in changes. It returns false if there are none, since every item had been decided before.
func (p *plan) decide(ctx context.Context, tx Tx) (bool, error) {
	for _, doc := range p.documents {
		p.skip(doc)
		doc.miss()
	}
	if err := p.anchor(ctx, tx); err != nil {
		return false, err
	}
	naming, review := newNaming(p), newReview(p)
	for _, doc := range p.documents {
		switch stored := p.admit(doc); {
		case len(stored) == 0:
		case p.needsReview(doc):
			review.add(doc, stored)
		default:
			naming.add(doc, stored)
		}
	}
	if err := naming.settle(ctx, tx); err != nil {
		return false, err
	}
	if err := review.settle(ctx, tx); err != nil {
		return false, err
	}
	return p.conclude()
}

// conclude makes the rows of the items that are decided now, and reports whether there are any.
func (p *plan) conclude() (bool, error) {
	open := false
	for _, e := range p.entries {
		if e.decided {
			continue
		}
		open = true
		switch {
		case e.skipped:
			e.result = store.Result{Outcome: annotation.Skipped}
		case e.missing:
			e.result = conclude(e.findings, e.hidden)
			e.result.Outcome = annotation.DocumentMissing
		default:
			e.result = conclude(e.findings, e.hidden)
		}
		encoded, err := EncodeFindings(e.result.Findings)
		if err != nil {
			return false, err
		}
		row := Row{Item: e.Number, Outcome: e.result.Outcome, Findings: encoded, Level: align.Exact}
		if e.anchor.Length > 0 {
			row.Document, row.Home = p.documentOf(e), e.home
			row.Begin, row.Length, row.Level = e.anchor.Begin, e.anchor.Length, max(e.anchor.Level, align.Exact)
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
