package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// What happens seldom is one statement for each row, or for all; they go in the same round trip. What every item brings is
// copied.
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

	sqlSkip = `
INSERT INTO store_skips (job_id, project_document_id, skipped)
SELECT $1, x.home, x.skipped FROM unnest($2::bigint[], $3::boolean[]) x (home, skipped)`
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

// queue queues the statements that apply changes, but for new rows that are copied.
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
	queueUse(b, c)
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

func queueUse(b *pgx.Batch, c *write.Changes) {
	if len(c.Used) > 0 {
		b.Queue(sqlUse, c.Used, c.Job.ID, c.Job.Mode == store.ModeMerge)
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
