package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// What happens seldom is one statement for each row; they go in the same round trip. What every item brings is one
// statement for all.
const (
	sqlText = `
UPDATE documents SET text = $2, length = $3, text_sha256 = $4, composed_by = $5, composed_until = $6 WHERE id = $1`

	sqlDrop = `DELETE FROM documents WHERE id = ANY($1::bigint[])`

	sqlMove = `
UPDATE store_items i SET text_begin = x.begin
FROM unnest($1::bigint[], $2::bigint[], $3::integer[]) x (job, item, begin)
WHERE i.job_id = x.job AND i.item = x.item`

	sqlReplace = `
UPDATE project_documents
SET replaced_by = $2, last_job = greatest(last_job, $2), merged_by = CASE WHEN merged_by > $2 THEN merged_by ELSE 0 END
WHERE id = ANY($1::bigint[])`

	sqlUse = `
UPDATE project_documents
SET last_job = greatest(last_job, $2), merged_by = CASE WHEN $3 THEN greatest(merged_by, $2) ELSE merged_by END
WHERE id = ANY($1::bigint[])`

	sqlHomes = `
INSERT INTO project_documents (id, project, sourcedb, sourceid, document_id, replaced_by, last_job, merged_by)
SELECT x.id, $1, x.db, x.source, x.document, CASE WHEN $3 THEN $2 ELSE 0 END, $2, CASE WHEN $4 THEN $2 ELSE 0 END
FROM unnest($5::bigint[], $6::text[], $7::text[], $8::bigint[]) x (id, db, source, document)`

	sqlSkip = `
INSERT INTO store_skips (job_id, project_document_id, skipped)
SELECT $1, x.home, x.skipped FROM unnest($2::bigint[], $3::boolean[]) x (home, skipped)`

	sqlItems = `
INSERT INTO store_items (job_id, item, document_id, project_document_id, outcome, text_begin, text_length, text_level, findings)
SELECT $1, x.item, nullif(x.document, 0), nullif(x.home, 0), x.outcome,
       CASE WHEN x.document <> 0 THEN x.begin END, CASE WHEN x.document <> 0 THEN x.length END, x.level, nullif(x.findings, '')
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::integer[], $7::integer[], $8::smallint[], $9::text[])
     x (item, document, home, outcome, begin, length, level, findings)`

	sqlSpans = `
INSERT INTO annotation_spans (project_document_id, job_id, item, ordinal, id, given_id, traits, block, begins, ends, obj)
SELECT x.home, x.job, x.item, x.ordinal, x.id, nullif(x.given, ''), x.traits, x.block, x.begins, x.ends, x.obj
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::smallint[],
            $8::boolean[], $9::integer[], $10::integer[], $11::text[])
     x (home, job, item, ordinal, id, given, traits, block, begins, ends, obj)`

	sqlRelations = `
INSERT INTO annotation_relations (project_document_id, job_id, item, ordinal, id, given_id, traits, subj, pred, obj, given_subj, given_obj)
SELECT x.home, x.job, x.item, x.ordinal, x.id, nullif(x.given, ''), x.traits, x.subj, x.pred, x.obj,
       nullif(x.given_subj, ''), nullif(x.given_obj, '')
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::smallint[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
     x (home, job, item, ordinal, id, given, traits, subj, pred, obj, given_subj, given_obj)`

	sqlAttributes = `
INSERT INTO annotation_attributes (project_document_id, job_id, item, ordinal, id, given_id, traits, of_relation, subj, pred, obj, given_subj)
SELECT x.home, x.job, x.item, x.ordinal, x.id, nullif(x.given, ''), x.traits, x.of_relation, x.subj, x.pred, x.obj::json,
       nullif(x.given_subj, '')
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::smallint[],
            $8::boolean[], $9::text[], $10::text[], $11::text[], $12::text[])
     x (home, job, item, ordinal, id, given, traits, of_relation, subj, pred, obj, given_subj)`
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
	if len(c.Dropped) > 0 {
		b.Queue(sqlDrop, c.Dropped)
	}
	for _, x := range c.Texts {
		b.Queue(sqlText, x.Document, x.Text, x.Length, x.Hash[:], x.ComposedBy, x.ComposedUntil)
	}
	if n := len(c.Moved); n > 0 {
		jobs, items, begins := make([]int64, n), make([]int64, n), make([]int32, n)
		for i, a := range c.Moved {
			jobs[i], items[i], begins[i] = a.Job, a.Item, int32(a.Begin)
		}
		b.Queue(sqlMove, jobs, items, begins)
	}
	if len(c.Replaced) > 0 {
		for _, class := range classes {
			b.Queue(`DELETE FROM `+tables[class]+` WHERE project_document_id = ANY($1::bigint[]) AND job_id < $2`, c.Replaced, c.Job.ID)
		}
		b.Queue(sqlReplace, c.Replaced, c.Job.ID)
	}
	queueRemovals(b, c.Removed)
	queueRenames(b, c.Renamed)
	queueHomes(b, c)
	queueItems(b, c)
	queueAnnotations(b, c)
}

func queueRemovals(b *pgx.Batch, removed []write.Name) {
	for _, class := range classes {
		var homes []int64
		var names []string
		for _, r := range removed {
			if r.Class == class {
				homes, names = append(homes, r.Home), append(names, r.ID)
			}
		}
		if len(homes) > 0 {
			b.Queue(`DELETE FROM `+tables[class]+` a USING unnest($1::bigint[], $2::text[]) x (home, id)
				WHERE a.project_document_id = x.home AND a.id = x.id`, homes, names)
		}
	}
}

func queueHomes(b *pgx.Batch, c *write.Changes) {
	merges := c.Job.Mode == store.ModeMerge
	if n := len(c.Homes); n > 0 {
		homes, documents := make([]int64, n), make([]int64, n)
		dbs, sources := make([]string, n), make([]string, n)
		for i, h := range c.Homes {
			homes[i], documents[i], dbs[i], sources[i] = h.ID, h.Document, h.Key.SourceDB, h.Key.SourceID
		}
		b.Queue(sqlHomes, c.Job.Project, c.Job.ID, c.Job.Mode == store.ModeReplace, merges, homes, dbs, sources, documents)
	}
	if len(c.Used) > 0 {
		b.Queue(sqlUse, c.Used, c.Job.ID, merges)
	}
	if n := len(c.Skips); n > 0 {
		homes, skipped := make([]int64, n), make([]bool, n)
		for i, s := range c.Skips {
			homes[i], skipped[i] = s.Home, s.Skip
		}
		b.Queue(sqlSkip, c.Job.ID, homes, skipped)
	}
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
	outcomes, levels := make([]int16, n), make([]int16, n)
	begins, lengths := make([]int32, n), make([]int32, n)
	findings := make([]string, n)
	for i, row := range c.Items {
		numbers[i], documents[i], homes[i], outcomes[i] = row.Item, row.Document, row.Home, int16(row.Outcome)
		begins[i], lengths[i], levels[i], findings[i] = int32(row.Begin), int32(row.Length), int16(row.Level), row.Findings
	}
	b.Queue(sqlItems, c.Job.ID, numbers, documents, homes, outcomes, begins, lengths, levels, findings)
}

func queueAnnotations(b *pgx.Batch, c *write.Changes) {
	if n := len(c.Spans); n > 0 {
		of, obj := newOfColumns(n), make([]string, n)
		blocks, begins, ends := make([]bool, n), make([]int32, n), make([]int32, n)
		for i, s := range c.Spans {
			of.set(i, s.Of)
			blocks[i], begins[i], ends[i], obj[i] = s.Block, int32(s.Begin), int32(s.End), s.Obj
		}
		b.Queue(sqlSpans, of.with(blocks, begins, ends, obj)...)
	}
	if n := len(c.Relations); n > 0 {
		of, subj, pred, obj := newOfColumns(n), make([]string, n), make([]string, n), make([]string, n)
		givenSubj, givenObj := make([]string, n), make([]string, n)
		for i, r := range c.Relations {
			of.set(i, r.Of)
			subj[i], pred[i], obj[i], givenSubj[i], givenObj[i] = r.Subj, r.Pred, r.Obj, r.GivenSubj, r.GivenObj
		}
		b.Queue(sqlRelations, of.with(subj, pred, obj, givenSubj, givenObj)...)
	}
	if n := len(c.Attributes); n > 0 {
		of, subj, pred, obj := newOfColumns(n), make([]string, n), make([]string, n), make([]string, n)
		ofRelation, givenSubj := make([]bool, n), make([]string, n)
		for i, a := range c.Attributes {
			of.set(i, a.Of)
			ofRelation[i], subj[i], pred[i], obj[i], givenSubj[i] = a.OfRelation, a.Subj, a.Pred, a.Obj, a.GivenSubj
		}
		b.Queue(sqlAttributes, of.with(ofRelation, subj, pred, obj, givenSubj)...)
	}
}

// ofColumns are the columns that the tables of annotations have in common.
type ofColumns struct {
	homes, jobs, items []int64
	ordinals           []int32
	ids, given         []string
	traits             []int16
}

func newOfColumns(n int) ofColumns {
	return ofColumns{
		homes: make([]int64, n), jobs: make([]int64, n), items: make([]int64, n), ordinals: make([]int32, n),
		ids: make([]string, n), given: make([]string, n), traits: make([]int16, n),
	}
}

func (c ofColumns) set(i int, of write.Of) {
	c.homes[i], c.jobs[i], c.items[i], c.ordinals[i] = of.Home, of.Job, of.Item, int32(of.Ordinal)
	c.ids[i], c.given[i], c.traits[i] = of.ID, of.Given, int16(of.Traits)
}

// with returns the columns as parameters, and more behind them.
func (c ofColumns) with(more ...any) []any {
	return append([]any{c.homes, c.jobs, c.items, c.ordinals, c.ids, c.given, c.traits}, more...)
}

// documentColumns are drafts by column.
type documentColumns struct {
	dbs, ids, texts []string
	lengths         []int32
	hashes          [][]byte
	composers       []int64
}

func newDocumentColumns(job int64, drafts []write.Draft) documentColumns {
	n := len(drafts)
	c := documentColumns{
		make([]string, n), make([]string, n), make([]string, n), make([]int32, n), make([][]byte, n), make([]int64, n),
	}
	for i, d := range drafts {
		c.dbs[i], c.ids[i], c.texts[i], c.lengths[i], c.hashes[i] = d.Key.SourceDB, d.Key.SourceID, d.Text, int32(d.Length), d.Hash[:]
		c.composers[i] = d.Composer(job)
	}
	return c
}
