package postgres

import (
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// copyRows adds the rows that changes bring.
func copyRows(c *copying, changes *write.Changes) {
	if len(changes.Homes) > 0 {
		copyHomes(c, changes)
	}
	copyItems(c, changes)
	if len(changes.Spans) > 0 {
		copySpans(c, changes.Spans)
	}
	if len(changes.Relations) > 0 {
		copyRelations(c, changes.Relations)
	}
	if len(changes.Attributes) > 0 {
		copyAttributes(c, changes.Attributes)
	}
}

func copyHomes(c *copying, changes *write.Changes) {
	job, replaced, merged := changes.Job.ID, int64(0), int64(0)
	switch changes.Job.Mode {
	case store.ModeReplace:
		replaced = job
	case store.ModeMerge:
		merged = job
	}
	c.begin("project_documents", "id, project, sourcedb, sourceid, document_id, replaced_by, last_job, merged_by")
	for _, h := range changes.Homes {
		c.row(8)
		c.bigint(h.ID)
		c.text(changes.Job.Project)
		c.text(h.Key.SourceDB)
		c.text(h.Key.SourceID)
		c.bigint(h.Document)
		c.bigint(replaced)
		c.bigint(job)
		c.bigint(merged)
	}
	c.end()
}

func copyItems(c *copying, changes *write.Changes) {
	c.begin("store_items", "job_id, item, document_id, project_document_id, outcome, text_begin, text_length, text_level, findings")
	for _, row := range changes.Items {
		c.row(9)
		c.bigint(changes.Job.ID)
		c.bigint(row.Item)
		c.reference(row.Document)
		c.reference(row.Home)
		c.smallint(int(row.Outcome))
		if row.Document != 0 {
			c.integer(row.Begin)
			c.integer(row.Length)
		} else {
			c.null()
			c.null()
		}
		c.smallint(int(row.Level))
		c.optional(row.Findings)
	}
	c.end()
}

// reference adds an id, or null if it is 0.
func (c *copying) reference(id int64) {
	if id == 0 {
		c.null()
		return
	}
	c.bigint(id)
}

// The columns that the tables of annotations have in common.
const (
	columnsOf   = "project_document_id, job_id, item, ordinal, id, given_id, traits, "
	columnsOfNo = 7
)

// annotation begins a row of a table of annotations, with so many columns behind those that all have.
func (c *copying) annotation(of *write.Of, more int16) {
	c.row(columnsOfNo + more)
	c.bigint(of.Home)
	c.bigint(of.Job)
	c.bigint(of.Item)
	c.integer(of.Ordinal)
	c.text(of.ID)
	c.optional(of.Given)
	c.smallint(int(of.Traits))
}

func copySpans(c *copying, spans []write.Span) {
	c.begin("annotation_spans", columnsOf+"block, begins, ends, obj")
	for i := range spans {
		s := &spans[i]
		c.annotation(&s.Of, 4)
		c.boolean(s.Block)
		c.integer(s.Begin)
		c.integer(s.End)
		c.text(s.Obj)
	}
	c.end()
}

func copyRelations(c *copying, relations []write.Relation) {
	c.begin("annotation_relations", columnsOf+"subj, pred, obj, given_subj, given_obj")
	for i := range relations {
		r := &relations[i]
		c.annotation(&r.Of, 5)
		c.text(r.Subj)
		c.text(r.Pred)
		c.text(r.Obj)
		c.optional(r.GivenSubj)
		c.optional(r.GivenObj)
	}
	c.end()
}

func copyAttributes(c *copying, attributes []write.Attribute) {
	c.begin("annotation_attributes", columnsOf+"of_relation, subj, pred, obj, given_subj")
	for i := range attributes {
		a := &attributes[i]
		c.annotation(&a.Of, 5)
		c.boolean(a.OfRelation)
		c.text(a.Subj)
		c.text(a.Pred)
		c.text(a.Obj)
		c.optional(a.GivenSubj)
	}
	c.end()
}
