package write

import (
	"fmt"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// skip leaves out a document that a job in mode skip finds annotated when it first touches it. That is decided once.
func (p *plan) skip(doc *document) {
	if p.job.Mode != store.ModeSkip || len(doc.entries) == 0 {
		return
	}
	skip := doc.state.Skip
	if !doc.state.SkipDecided {
		if !doc.state.HomeKnown {
			return // admit decides, if something is stored
		}
		skip = doc.state.Annotated
		p.changes.Skips = append(p.changes.Skips, Skip{doc.state.Home, skip})
	}
	if !skip {
		return
	}
	for _, e := range doc.entries {
		e.skipped = true
	}
	doc.entries = nil
}

// superseded reports whether a later job has replaced what the project says about the document.
func (p *plan) superseded(doc *document) bool {
	return doc.state.HomeKnown && doc.state.ReplacedBy > p.job.ID
}

// replaces reports whether the plan removes what earlier jobs said about the document, if anything of it is stored.
func (p *plan) replaces(doc *document) bool {
	return p.job.Mode == store.ModeReplace && doc.state.ReplacedBy < p.job.ID
}

// cleared reports whether the project says nothing about the document once the plan's replacements are done.
func (p *plan) cleared(doc *document) bool {
	return !doc.state.HomeKnown || p.replaces(doc) && doc.state.LastJob < p.job.ID
}

// needsReview reports whether the document's annotations must be looked at as a whole: if some are or will be merged, or
// if some go and others stay, since ids and merges then depend on what goes.
func (p *plan) needsReview(doc *document) bool {
	switch {
	case p.job.Mode == store.ModeMerge:
		return true
	case p.replaces(doc):
		return doc.state.LastJob > p.job.ID
	default:
		return doc.state.MergedBy > 0
	}
}

// admit opens the document to the job: what earlier jobs said goes, once, in mode replace. It returns the entries whose
// annotations are to be stored.
func (p *plan) admit(doc *document) []*entry {
	if p.superseded(doc) {
		for _, e := range doc.entries {
			if rejects(e.findings) {
				continue
			}
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
	if len(stored) == 0 {
		return nil
	}
	switch {
	case !doc.state.HomeKnown:
		p.changes.Homes = append(p.changes.Homes, Home{ID: doc.state.Home, Key: doc.Key, Document: doc.state.ID})
		if p.job.Mode == store.ModeSkip {
			p.changes.Skips = append(p.changes.Skips, Skip{doc.state.Home, false})
		}
	case p.replaces(doc):
		p.changes.Replaced = append(p.changes.Replaced, doc.state.Home)
	case doc.state.LastJob < p.job.ID || p.job.Mode == store.ModeMerge && doc.state.MergedBy < p.job.ID:
		p.changes.Used = append(p.changes.Used, doc.state.Home)
	}
	return stored
}
