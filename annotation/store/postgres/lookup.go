package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

const (
	sqlUnknown = `
SELECT k.n
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY k (db, id, n)
LEFT JOIN LATERAL (SELECT true AS known FROM documents WHERE sourcedb = k.db AND sourceid = k.id OFFSET 0) d ON true
WHERE d.known IS NULL
ORDER BY k.n`

	sqlAllAnchors = `
SELECT k.n, i.job_id, i.item, i.text_begin, i.text_length, i.text_level
FROM unnest($1::bigint[]) WITH ORDINALITY k (id, n)
CROSS JOIN LATERAL (
	SELECT job_id, item, text_begin, text_length, text_level FROM store_items WHERE document_id = k.id OFFSET 0) i
ORDER BY k.n, i.job_id, i.item`

	sqlMerging = `
SELECT k.n, p.id
FROM unnest($1::bigint[]) WITH ORDINALITY k (id, n)
CROSS JOIN LATERAL (SELECT id FROM project_documents WHERE document_id = k.id AND merged_by > 0 OFFSET 0) p`

	sqlContentSpans = `
SELECT k.n, s.job_id, s.item, s.ordinal, s.id, coalesce(s.given_id, ''), s.traits, s.block, s.begins, s.ends, s.obj, coalesce(i.text_begin, 0)
FROM unnest($1::bigint[]) WITH ORDINALITY k (home, n)
CROSS JOIN LATERAL (
	SELECT job_id, item, ordinal, id, given_id, traits, block, begins, ends, obj
	FROM annotation_spans WHERE project_document_id = k.home OFFSET 0) s
LEFT JOIN LATERAL (SELECT text_begin FROM store_items WHERE job_id = s.job_id AND item = s.item OFFSET 0) i ON true`

	sqlContentRelations = `
SELECT k.n, r.job_id, r.item, r.ordinal, r.id, coalesce(r.given_id, ''), r.traits, r.subj, r.pred, r.obj,
       coalesce(r.given_subj, ''), coalesce(r.given_obj, '')
FROM unnest($1::bigint[]) WITH ORDINALITY k (home, n)
CROSS JOIN LATERAL (
	SELECT job_id, item, ordinal, id, given_id, traits, subj, pred, obj, given_subj, given_obj
	FROM annotation_relations WHERE project_document_id = k.home OFFSET 0) r`

	sqlContentAttributes = `
SELECT k.n, a.job_id, a.item, a.ordinal, a.id, coalesce(a.given_id, ''), a.traits, a.of_relation, a.subj, a.pred, a.obj::text,
       coalesce(a.given_subj, '')
FROM unnest($1::bigint[]) WITH ORDINALITY k (home, n)
CROSS JOIN LATERAL (
	SELECT job_id, item, ordinal, id, given_id, traits, of_relation, subj, pred, obj, given_subj
	FROM annotation_attributes WHERE project_document_id = k.home OFFSET 0) a`
)

// each queues a query whose rows are read into variables, after each of which add is called.
func each(b *pgx.Batch, query string, args, into []any, add func()) {
	b.Queue(query, args...).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, into, func() error { add(); return nil })
		return err
	})
}

// Unknown implements [write.Engine].
func (e *engine) Unknown(ctx context.Context, keys []annotation.Key) ([]annotation.Key, error) {
	tx, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	dbs, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		dbs[i], ids[i] = key.SourceDB, key.SourceID
	}
	var unknown []annotation.Key
	var n int
	b := &pgx.Batch{}
	b.Queue("begin read only")
	b.Queue(sqlSettings, e.limits.settings()...)
	each(b, sqlUnknown, []any{dbs, ids}, []any{&n}, func() { unknown = append(unknown, keys[n-1]) })
	b.Queue("commit")
	return unknown, tx.send(ctx, b)
}

// Anchors implements [write.Tx].
func (t *tx) Anchors(ctx context.Context, documents []int64) ([][]write.Anchor, error) {
	anchors := make([][]write.Anchor, len(documents))
	b := &pgx.Batch{}
	var n int
	var a write.Anchor
	each(b, sqlAllAnchors, []any{documents}, []any{&n, &a.Job, &a.Item, &a.Begin, &a.Length, (*uint8)(&a.Level)}, func() {
		anchors[n-1] = append(anchors[n-1], a)
	})
	if err := t.send(ctx, b); err != nil {
		return nil, fmt.Errorf("read places of items: %w", err)
	}
	return anchors, nil
}

// Merging implements [write.Tx].
func (t *tx) Merging(ctx context.Context, documents []int64) ([][]int64, error) {
	homes := make([][]int64, len(documents))
	b := &pgx.Batch{}
	var n int
	var home int64
	each(b, sqlMerging, []any{documents}, []any{&n, &home}, func() { homes[n-1] = append(homes[n-1], home) })
	if err := t.send(ctx, b); err != nil {
		return nil, fmt.Errorf("look for merged annotations: %w", err)
	}
	return homes, nil
}

// Contents implements [write.Tx].
func (t *tx) Contents(ctx context.Context, homes []int64) ([]write.Content, error) {
	contents := make([]write.Content, len(homes))
	b := &pgx.Batch{}
	var n int
	var s write.PlacedSpan
	into := func(of *write.Of, more ...any) []any {
		return append([]any{&n, &of.Job, &of.Item, &of.Ordinal, &of.ID, &of.Given, &of.Traits}, more...)
	}
	each(b, sqlContentSpans, []any{homes}, into(&s.Of, &s.Block, &s.Begin, &s.End, &s.Obj, &s.At), func() {
		contents[n-1].Spans = append(contents[n-1].Spans, s)
	})
	var r write.Relation
	each(b, sqlContentRelations, []any{homes}, into(&r.Of, &r.Subj, &r.Pred, &r.Obj, &r.GivenSubj, &r.GivenObj), func() {
		contents[n-1].Relations = append(contents[n-1].Relations, r)
	})
	var a write.Attribute
	each(b, sqlContentAttributes, []any{homes}, into(&a.Of, &a.OfRelation, &a.Subj, &a.Pred, &a.Obj, &a.GivenSubj), func() {
		contents[n-1].Attributes = append(contents[n-1].Attributes, a)
	})
	if err := t.send(ctx, b); err != nil {
		return nil, fmt.Errorf("read annotations: %w", err)
	}
	return contents, nil
}

// Texts implements [write.Tx].
func (t *tx) Texts(ctx context.Context, documents []int64) ([]string, error) {
	texts := make([]string, 0, len(documents))
	b := &pgx.Batch{}
	for _, id := range documents {
		b.Queue(`SELECT text FROM documents WHERE id = $1`, id).Query(func(rows pgx.Rows) error {
			var text string
			_, err := pgx.ForEachRow(rows, []any{&text}, func() error { texts = append(texts, text); return nil })
			return err
		})
	}
	if err := t.send(ctx, b); err != nil {
		return nil, fmt.Errorf("read texts: %w", err)
	}
	if len(texts) != len(documents) {
		return nil, fmt.Errorf("read texts: %d of %d documents are there", len(texts), len(documents))
	}
	return texts, nil
}

// sqlHolders finds annotations of a class by id.
func sqlHolders(class ids.Class) string {
	block := "false"
	if class == ids.Spans {
		block = "block"
	}
	return `
SELECT q.n, a.job_id, a.item, a.block, a.ordinal, coalesce(a.given_id, a.id), a.id, a.traits
FROM unnest($1::integer[], $2::bigint[], $3::text[]) q (n, home, id)
CROSS JOIN LATERAL (
	SELECT job_id, item, ` + block + ` AS block, ordinal, given_id, id, traits FROM ` + tables[class] + `
	WHERE project_document_id = q.home AND id = q.id OFFSET 0) a`
}

// Holders implements [write.Tx].
func (t *tx) Holders(ctx context.Context, queries []write.Names) ([][]*ids.Claim, error) {
	holders := make([][]*ids.Claim, len(queries))
	b := &pgx.Batch{}
	for _, class := range classes {
		var ns []int32
		var homes []int64
		var names []string
		for n, q := range queries {
			for _, name := range q.Names {
				if name.Class == class {
					ns, homes, names = append(ns, int32(n)), append(homes, q.Home), append(names, name.ID)
				}
			}
		}
		if len(ns) == 0 {
			continue
		}
		b.Queue(sqlHolders(class), ns, homes, names).Query(func(rows pgx.Rows) error {
			var n int
			var c ids.Claim
			var traits write.Traits
			_, err := pgx.ForEachRow(rows, []any{&n, &c.Job, &c.Item, &c.Block, &c.Ordinal, &c.Given, &c.ID, &traits}, func() error {
				holder := c
				holder.Class, holder.Unnamed = class, traits&write.Unnamed != 0
				holders[n] = append(holders[n], &holder)
				return nil
			})
			return err
		})
	}
	if err := t.send(ctx, b); err != nil {
		return nil, fmt.Errorf("look up ids: %w", err)
	}
	return holders, nil
}
