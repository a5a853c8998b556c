package sqlite

import (
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// tables are those of the classes.
var tables = map[ids.Class]string{
	ids.Spans:      "annotation_spans",
	ids.Relations:  "annotation_relations",
	ids.Attributes: "annotation_attributes",
}

// reference is a column that holds ids of a class.
type reference struct {
	table, column, condition string
}

var references = map[ids.Class][]reference{
	ids.Spans: {
		{"annotation_relations", "subj", ""},
		{"annotation_relations", "obj", ""},
		{"annotation_attributes", "subj", " AND NOT of_relation"},
	},
	ids.Relations: {
		{"annotation_attributes", "subj", " AND of_relation"},
	},
}

var classes = []ids.Class{ids.Spans, ids.Relations, ids.Attributes}

const (
	sqlText = `
UPDATE documents SET text = ?, length = ?, text_sha256 = ?, composed_by = ?, composed_until = ? WHERE id = ?`

	sqlReplace = `
UPDATE project_documents
SET replaced_by = ?1, last_job = max(last_job, ?1), merged_by = CASE WHEN merged_by > ?1 THEN merged_by ELSE 0 END
WHERE id = ?2`

	sqlUse = `
UPDATE project_documents
SET last_job = max(last_job, ?1), merged_by = CASE WHEN ?2 THEN max(merged_by, ?1) ELSE merged_by END
WHERE id = ?3`
)

// apply applies changes, in the order of their fields.
func (t *tx) apply(c *write.Changes) error {
	for _, step := range []func(*write.Changes) error{
		t.texts, t.replace, t.remove, t.rename, t.homes, t.items, t.spans, t.relations, t.attributes,
	} {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) texts(c *write.Changes) error {
	for _, document := range c.Dropped {
		if err := t.exec(`DELETE FROM documents WHERE id = ?`, document); err != nil {
			return err
		}
	}
	for _, x := range c.Texts {
		if err := t.exec(sqlText, x.Text, x.Length, x.Hash[:], x.ComposedBy, x.ComposedUntil, x.Document); err != nil {
			return err
		}
	}
	for _, a := range c.Moved {
		if err := t.exec(`UPDATE store_items SET text_begin = ? WHERE job_id = ? AND item = ?`, a.Begin, a.Job, a.Item); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) replace(c *write.Changes) error {
	for _, home := range c.Replaced {
		for _, class := range classes {
			err := t.exec(`DELETE FROM `+tables[class]+` WHERE project_document_id = ? AND job_id < ?`, home, c.Job.ID)
			if err != nil {
				return err
			}
		}
		if err := t.exec(sqlReplace, c.Job.ID, home); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) remove(c *write.Changes) error {
	for _, r := range c.Removed {
		if err := t.exec(`DELETE FROM `+tables[r.Class]+` WHERE project_document_id = ? AND id = ?`, r.Home, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// rename moves ids, and the references to them inside their items, in two steps over names that no id can have, since
// one may take what another gives up.
func (t *tx) rename(c *write.Changes) error {
	for _, r := range c.Renamed {
		const set = ` SET id = char(1) || ? WHERE project_document_id = ? AND id = ?`
		if err := t.exec(`UPDATE `+tables[r.Claim.Class]+set, r.To, r.Home, r.From); err != nil {
			return err
		}
		if err := t.follow(r, `char(1) || ?`, `?`, r.To, r.From); err != nil {
			return err
		}
	}
	for _, r := range c.Renamed {
		const set = ` SET id = ?1, given_id = ?2 WHERE project_document_id = ?3 AND id = char(1) || ?1`
		if err := t.exec(`UPDATE `+tables[r.Claim.Class]+set, r.To, r.Claim.Given, r.Home); err != nil {
			return err
		}
		if err := t.follow(r, `?`, `char(1) || ?`, r.To, r.To); err != nil {
			return err
		}
	}
	return nil
}

// follow sets the references to a renamed annotation. New and old are expressions of one parameter each.
func (t *tx) follow(r write.Rename, newer, older, to, from string) error {
	for _, ref := range references[r.Claim.Class] {
		err := t.exec(`UPDATE `+ref.table+` SET `+ref.column+` = `+newer+`
			WHERE project_document_id = ? AND job_id = ? AND item = ? AND `+ref.column+` = `+older+ref.condition,
			to, r.Home, r.Claim.Job, r.Claim.Item, from)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) homes(c *write.Changes) error {
	replacedBy, mergedBy := int64(0), int64(0)
	switch c.Job.Mode {
	case store.ModeReplace:
		replacedBy = c.Job.ID
	case store.ModeMerge:
		mergedBy = c.Job.ID
	}
	err := insert(t, &intoHomes, c.Homes, func(values []any, h write.Home) []any {
		return append(values, h.ID, c.Job.Project, h.Key.SourceDB, h.Key.SourceID, h.Document, c.Job.ID, replacedBy, mergedBy)
	})
	if err != nil {
		return err
	}
	for _, home := range c.Used {
		if err := t.exec(sqlUse, c.Job.ID, mergedBy > 0, home); err != nil {
			return err
		}
	}
	for _, s := range c.Skips {
		err := t.exec(`INSERT INTO store_skips (job_id, project_document_id, skipped) VALUES (?, ?, ?)`, c.Job.ID, s.Home, s.Skip)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) items(c *write.Changes) error {
	return insert(t, &intoItems, c.Items, func(values []any, row write.Row) []any {
		var begin, length any
		if row.Document != 0 {
			begin, length = int64(row.Begin), int64(row.Length)
		}
		return append(values, c.Job.ID, row.Item, null(row.Document), null(row.Home), int64(row.Outcome), begin, length, int64(row.Level),
			null(row.Findings))
	})
}

func (t *tx) spans(c *write.Changes) error {
	return insert(t, &intoSpans, c.Spans, func(values []any, s write.Span) []any {
		return append(ofValues(values, &s.Of), s.Block, int64(s.Begin), int64(s.End), s.Obj)
	})
}

func (t *tx) relations(c *write.Changes) error {
	return insert(t, &intoRelations, c.Relations, func(values []any, r write.Relation) []any {
		return append(ofValues(values, &r.Of), r.Subj, r.Pred, r.Obj, null(r.GivenSubj), null(r.GivenObj))
	})
}

func (t *tx) attributes(c *write.Changes) error {
	return insert(t, &intoAttributes, c.Attributes, func(values []any, a write.Attribute) []any {
		return append(ofValues(values, &a.Of), a.OfRelation, a.Subj, a.Pred, a.Obj, null(a.GivenSubj))
	})
}

// null returns NULL for a zero value.
func null[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
