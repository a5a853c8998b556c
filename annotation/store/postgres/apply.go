package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// What happens seldom is one statement for each row; they go in the same round trip. What every item brings is one
// statement for all.
const (
	sqlText = `UPDATE documents SET text = $2, length = $3, text_sha256 = $4 WHERE id = $1`

	// What other jobs' items say across and behind a place that grows.
	sqlGrowSpans = `
UPDATE annotation_spans s
SET begins = CASE WHEN i.text_begin + s.begins >= $2 THEN s.begins + $3 ELSE s.begins END, ends = s.ends + $3
FROM store_items i
WHERE i.document_id = $1 AND i.job_id <> $4 AND i.text_begin < $2 AND i.text_begin + i.text_length > $2
  AND s.project_document_id = i.project_document_id AND s.job_id = i.job_id AND s.item = i.item AND i.text_begin + s.ends > $2`

	sqlGrowItems = `
UPDATE store_items SET text_length = text_length + $3
WHERE document_id = $1 AND job_id <> $4 AND text_begin < $2 AND text_begin + text_length > $2`

	sqlMoveOthers = `
UPDATE store_items SET text_begin = text_begin + $3
WHERE document_id = $1 AND job_id <> $4 AND text_begin >= $2`

	sqlMove = `UPDATE store_items SET text_begin = $3 WHERE job_id = $1 AND item = $2`

	sqlReplace = `UPDATE project_documents SET replaced_by = $2 WHERE id = ANY($1::bigint[])`

	sqlHomes = `
INSERT INTO project_documents (id, project, sourcedb, sourceid, document_id, replaced_by)
SELECT x.id, $1, x.db, x.source, x.document, $2
FROM unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[]) x (id, db, source, document)`

	sqlItems = `
INSERT INTO store_items (job_id, item, document_id, project_document_id, outcome, text_begin, text_length, findings)
SELECT $1, x.item, nullif(x.document, 0), nullif(x.home, 0), x.outcome,
       CASE WHEN x.document <> 0 THEN x.begin END, CASE WHEN x.document <> 0 THEN x.length END, nullif(x.findings, '')
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::integer[], $7::integer[], $8::text[])
     x (item, document, home, outcome, begin, length, findings)`

	sqlSpans = `
INSERT INTO annotation_spans (project_document_id, id, job_id, item, ordinal, block, begins, ends, given_id, obj)
SELECT x.home, x.id, $1, x.item, x.ordinal, x.block, x.begins, x.ends, nullif(x.given, ''), x.obj
FROM unnest($2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::boolean[], $8::integer[], $9::integer[], $10::text[])
     x (home, item, ordinal, id, given, block, begins, ends, obj)`

	sqlRelations = `
INSERT INTO annotation_relations (project_document_id, id, job_id, item, ordinal, given_id, subj, pred, obj)
SELECT x.home, x.id, $1, x.item, x.ordinal, nullif(x.given, ''), x.subj, x.pred, x.obj
FROM unnest($2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
     x (home, item, ordinal, id, given, subj, pred, obj)`

	sqlAttributes = `
INSERT INTO annotation_attributes (project_document_id, id, job_id, item, ordinal, given_id, of_relation, subj, pred, obj)
SELECT x.home, x.id, $1, x.item, x.ordinal, nullif(x.given, ''), x.of_relation, x.subj, x.pred, x.obj::json
FROM unnest($2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::boolean[], $8::text[], $9::text[], $10::text[])
     x (home, item, ordinal, id, given, of_relation, subj, pred, obj)`
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

// queue queues the statements that apply changes.
func queue(b *pgx.Batch, c *write.Changes) {
	for _, x := range c.Texts {
		b.Queue(sqlText, x.Document, x.Text, x.Length, x.Hash[:])
	}
	for _, in := range c.Insertions {
		for _, statement := range []string{sqlGrowSpans, sqlGrowItems, sqlMoveOthers} {
			b.Queue(statement, in.Document, in.At, in.Length, c.Job.ID)
		}
	}
	for _, a := range c.Moved {
		b.Queue(sqlMove, c.Job.ID, a.Item, a.Begin)
	}
	if len(c.Replaced) > 0 {
		for _, class := range classes {
			b.Queue(`DELETE FROM `+tables[class]+` WHERE project_document_id = ANY($1::bigint[]) AND job_id < $2`, c.Replaced, c.Job.ID)
		}
		b.Queue(sqlReplace, c.Replaced, c.Job.ID)
	}
	queueRenames(b, c.Renamed)
	if len(c.Homes) > 0 {
		var homes, documents []int64
		var dbs, sources []string
		for _, h := range c.Homes {
			homes, documents = append(homes, h.ID), append(documents, h.Document)
			dbs, sources = append(dbs, h.Key.SourceDB), append(sources, h.Key.SourceID)
		}
		b.Queue(sqlHomes, c.Job.Project, c.Job.ID, homes, dbs, sources, documents)
	}
	queueItems(b, c)
	queueAnnotations(b, c)
}

// queueRenames moves ids, and the references to them inside their items, in two steps over names that no id can have,
// since one may take what another gives up.
func queueRenames(b *pgx.Batch, renames []write.Rename) {
	for _, r := range renames {
		const set = ` SET id = chr(1) || $3 WHERE project_document_id = $1 AND id = $2`
		b.Queue(`UPDATE `+tables[r.Claim.Class]+set, r.Home, r.From, r.To)
		for _, ref := range references[r.Claim.Class] {
			b.Queue(`UPDATE `+ref.table+` SET `+ref.column+` = chr(1) || $5
				WHERE project_document_id = $1 AND job_id = $2 AND item = $3 AND `+ref.column+` = $4`+ref.condition,
				r.Home, r.Claim.Job, r.Claim.Item, r.From, r.To)
		}
	}
	for _, r := range renames {
		const set = ` SET id = $2, given_id = $3 WHERE project_document_id = $1 AND id = chr(1) || $2`
		b.Queue(`UPDATE `+tables[r.Claim.Class]+set, r.Home, r.To, r.Claim.Given)
		for _, ref := range references[r.Claim.Class] {
			b.Queue(`UPDATE `+ref.table+` SET `+ref.column+` = $4
				WHERE project_document_id = $1 AND job_id = $2 AND item = $3 AND `+ref.column+` = chr(1) || $4`+ref.condition,
				r.Home, r.Claim.Job, r.Claim.Item, r.To)
		}
	}
}

func queueItems(b *pgx.Batch, c *write.Changes) {
	n := len(c.Items)
	numbers, documents, homes := make([]int64, n), make([]int64, n), make([]int64, n)
	outcomes := make([]int16, n)
	begins, lengths := make([]int32, n), make([]int32, n)
	findings := make([]string, n)
	for i, row := range c.Items {
		numbers[i], documents[i], homes[i], outcomes[i] = row.Item, row.Document, row.Home, int16(row.Outcome)
		begins[i], lengths[i], findings[i] = int32(row.Begin), int32(row.Length), row.Findings
	}
	b.Queue(sqlItems, c.Job.ID, numbers, documents, homes, outcomes, begins, lengths, findings)
}

func queueAnnotations(b *pgx.Batch, c *write.Changes) {
	if n := len(c.Spans); n > 0 {
		of, obj := newOfColumns(n), make([]string, n)
		blocks, begins, ends := make([]bool, n), make([]int32, n), make([]int32, n)
		for i, s := range c.Spans {
			of.set(i, s.Of)
			blocks[i], begins[i], ends[i], obj[i] = s.Block, int32(s.Begin), int32(s.End), s.Obj
		}
		b.Queue(sqlSpans, c.Job.ID, of.homes, of.items, of.ordinals, of.ids, of.given, blocks, begins, ends, obj)
	}
	if n := len(c.Relations); n > 0 {
		of, subj, pred, obj := newOfColumns(n), make([]string, n), make([]string, n), make([]string, n)
		for i, r := range c.Relations {
			of.set(i, r.Of)
			subj[i], pred[i], obj[i] = r.Subj, r.Pred, r.Obj
		}
		b.Queue(sqlRelations, c.Job.ID, of.homes, of.items, of.ordinals, of.ids, of.given, subj, pred, obj)
	}
	if n := len(c.Attributes); n > 0 {
		of, subj, pred, obj := newOfColumns(n), make([]string, n), make([]string, n), make([]string, n)
		ofRelation := make([]bool, n)
		for i, a := range c.Attributes {
			of.set(i, a.Of)
			ofRelation[i], subj[i], pred[i], obj[i] = a.OfRelation, a.Subj, a.Pred, a.Obj
		}
		b.Queue(sqlAttributes, c.Job.ID, of.homes, of.items, of.ordinals, of.ids, of.given, ofRelation, subj, pred, obj)
	}
}

// ofColumns are the columns that the tables of annotations have in common.
type ofColumns struct {
	homes, items []int64
	ordinals     []int32
	ids, given   []string
}

func newOfColumns(n int) ofColumns {
	return ofColumns{make([]int64, n), make([]int64, n), make([]int32, n), make([]string, n), make([]string, n)}
}

func (c ofColumns) set(i int, of write.Of) {
	c.homes[i], c.items[i], c.ordinals[i], c.ids[i], c.given[i] = of.Home, of.Item, int32(of.Ordinal), of.ID, of.Given
}

// documentColumns are drafts by column.
type documentColumns struct {
	dbs, ids, texts []string
	lengths         []int32
	hashes          [][]byte
}

func newDocumentColumns(drafts []write.Draft) documentColumns {
	n := len(drafts)
	c := documentColumns{make([]string, n), make([]string, n), make([]string, n), make([]int32, n), make([][]byte, n)}
	for i, d := range drafts {
		c.dbs[i], c.ids[i], c.texts[i], c.lengths[i], c.hashes[i] = d.Key.SourceDB, d.Key.SourceID, d.Text, int32(d.Length), d.Hash[:]
	}
	return c
}
