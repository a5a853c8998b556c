package sqlite

import (
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

// The statements that follow a text that grows: ?1 document, ?2 where, ?3 by how much, ?4 the job that composes it.
const (
	sqlGrowSpans = `
UPDATE annotation_spans AS s
SET begins = CASE WHEN i.text_begin + s.begins >= ?2 THEN s.begins + ?3 ELSE s.begins END, ends = s.ends + ?3
FROM store_items i
WHERE i.document_id = ?1 AND i.job_id <> ?4 AND i.text_begin < ?2 AND i.text_begin + i.text_length > ?2
  AND s.project_document_id = i.project_document_id AND s.job_id = i.job_id AND s.item = i.item AND i.text_begin + s.ends > ?2`

	sqlGrowItems = `
UPDATE store_items SET text_length = text_length + ?3
WHERE document_id = ?1 AND job_id <> ?4 AND text_begin < ?2 AND text_begin + text_length > ?2`

	sqlMoveOthers = `
UPDATE store_items SET text_begin = text_begin + ?3 WHERE document_id = ?1 AND job_id <> ?4 AND text_begin >= ?2`
)

const (
	sqlHome = `
INSERT INTO project_documents (id, project, sourcedb, sourceid, document_id, replaced_by) VALUES (?, ?, ?, ?, ?, ?)`

	sqlItem = `
INSERT INTO store_items (job_id, item, document_id, project_document_id, outcome, text_begin, text_length, findings)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

	sqlSpan = `
INSERT INTO annotation_spans (project_document_id, id, job_id, item, ordinal, given_id, block, begins, ends, obj)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlRelation = `
INSERT INTO annotation_relations (project_document_id, id, job_id, item, ordinal, given_id, subj, pred, obj)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlAttribute = `
INSERT INTO annotation_attributes (project_document_id, id, job_id, item, ordinal, given_id, of_relation, subj, pred, obj)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

// apply applies changes, in the order of their fields.
func (t *tx) apply(c *write.Changes) error {
	for _, step := range []func(*write.Changes) error{
		t.texts, t.replace, t.rename, t.homes, t.items, t.spans, t.relations, t.attributes,
	} {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) texts(c *write.Changes) error {
	for _, x := range c.Texts {
		err := t.exec(`UPDATE documents SET text = ?, length = ?, text_sha256 = ? WHERE id = ?`, x.Text, x.Length, x.Hash[:], x.Document)
		if err != nil {
			return err
		}
	}
	for _, in := range c.Insertions {
		for _, statement := range []string{sqlGrowSpans, sqlGrowItems, sqlMoveOthers} {
			if err := t.exec(statement, in.Document, in.At, in.Length, c.Job.ID); err != nil {
				return err
			}
		}
	}
	for _, a := range c.Moved {
		if err := t.exec(`UPDATE store_items SET text_begin = ? WHERE job_id = ? AND item = ?`, a.Begin, c.Job.ID, a.Item); err != nil {
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
		if err := t.exec(`UPDATE project_documents SET replaced_by = ? WHERE id = ?`, c.Job.ID, home); err != nil {
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
	for _, h := range c.Homes {
		if err := t.exec(sqlHome, h.ID, c.Job.Project, h.Key.SourceDB, h.Key.SourceID, h.Document, c.Job.ID); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) items(c *write.Changes) error {
	for _, row := range c.Items {
		var begin, length any
		if row.Document != 0 {
			begin, length = row.Begin, row.Length
		}
		err := t.exec(sqlItem, c.Job.ID, row.Item, null(row.Document), null(row.Home), uint8(row.Outcome), begin, length, null(row.Findings))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) spans(c *write.Changes) error {
	for _, s := range c.Spans {
		err := t.exec(sqlSpan, s.Home, s.ID, c.Job.ID, s.Item, s.Ordinal, null(s.Given), s.Block, s.Begin, s.End, s.Obj)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) relations(c *write.Changes) error {
	for _, r := range c.Relations {
		err := t.exec(sqlRelation, r.Home, r.ID, c.Job.ID, r.Item, r.Ordinal, null(r.Given), r.Subj, r.Pred, r.Obj)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) attributes(c *write.Changes) error {
	for _, a := range c.Attributes {
		err := t.exec(sqlAttribute, a.Home, a.ID, c.Job.ID, a.Item, a.Ordinal, null(a.Given), a.OfRelation, a.Subj, a.Pred, a.Obj)
		if err != nil {
			return err
		}
	}
	return nil
}

// null returns NULL for a zero value.
func null[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
