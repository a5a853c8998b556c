package sqlite

import (
	"context"
	"fmt"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

const (
	sqlKnown = `SELECT EXISTS (SELECT 1 FROM documents WHERE sourcedb = ? AND sourceid = ?)`

	sqlAllAnchors = `
SELECT job_id, item, text_begin, text_length, text_level FROM store_items WHERE document_id = ? ORDER BY job_id, item`

	sqlMerging = `SELECT id FROM project_documents WHERE document_id = ? AND merged_by > 0`

	sqlContentSpans = `
SELECT s.job_id, s.item, s.ordinal, s.id, coalesce(s.given_id, ''), s.traits, s.block, s.begins, s.ends, s.obj, coalesce(i.text_begin, 0)
FROM annotation_spans s LEFT JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE s.project_document_id = ?`

	sqlContentRelations = `
SELECT job_id, item, ordinal, id, coalesce(given_id, ''), traits, subj, pred, obj, coalesce(given_subj, ''), coalesce(given_obj, '')
FROM annotation_relations WHERE project_document_id = ?`

	sqlContentAttributes = `
SELECT job_id, item, ordinal, id, coalesce(given_id, ''), traits, of_relation, subj, pred, obj, coalesce(given_subj, '')
FROM annotation_attributes WHERE project_document_id = ?`
)

// Unknown implements [write.Engine].
func (e *engine) Unknown(ctx context.Context, keys []annotation.Key) ([]annotation.Key, error) {
	conn, err := e.reading.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	known, err := conn.PrepareContext(ctx, sqlKnown)
	if err != nil {
		return nil, err
	}
	defer known.Close()
	var unknown []annotation.Key
	for _, key := range keys {
		var found bool
		if err := known.QueryRowContext(ctx, key.SourceDB, key.SourceID).Scan(&found); err != nil {
			return nil, err
		}
		if !found {
			unknown = append(unknown, key)
		}
	}
	return unknown, nil
}

// Anchors implements [write.Tx].
func (t *tx) Anchors(_ context.Context, documents []int64) ([][]write.Anchor, error) {
	anchors := make([][]write.Anchor, len(documents))
	for i, id := range documents {
		var a write.Anchor
		into := []any{&a.Job, &a.Item, &a.Begin, &a.Length, (*uint8)(&a.Level)}
		err := t.rows(sqlAllAnchors, []any{id}, into, func() { anchors[i] = append(anchors[i], a) })
		if err != nil {
			return nil, fmt.Errorf("read places of items: %w", err)
		}
	}
	return anchors, nil
}

// Merging implements [write.Tx].
func (t *tx) Merging(_ context.Context, documents []int64) ([][]int64, error) {
	homes := make([][]int64, len(documents))
	for i, id := range documents {
		var home int64
		if err := t.rows(sqlMerging, []any{id}, []any{&home}, func() { homes[i] = append(homes[i], home) }); err != nil {
			return nil, fmt.Errorf("look for merged annotations: %w", err)
		}
	}
	return homes, nil
}

// Contents implements [write.Tx].
func (t *tx) Contents(_ context.Context, homes []int64) ([]write.Content, error) {
	contents := make([]write.Content, len(homes))
	for i, home := range homes {
		if err := t.content(home, &contents[i]); err != nil {
			return nil, fmt.Errorf("read annotations: %w", err)
		}
	}
	return contents, nil
}

func (t *tx) content(home int64, c *write.Content) error {
	into := func(of *write.Of, more ...any) []any {
		return append([]any{&of.Job, &of.Item, &of.Ordinal, &of.ID, &of.Given, &of.Traits}, more...)
	}
	var s write.PlacedSpan
	err := t.rows(sqlContentSpans, []any{home}, into(&s.Of, &s.Block, &s.Begin, &s.End, &s.Obj, &s.At), func() {
		c.Spans = append(c.Spans, s)
	})
	if err != nil {
		return err
	}
	var r write.Relation
	err = t.rows(sqlContentRelations, []any{home}, into(&r.Of, &r.Subj, &r.Pred, &r.Obj, &r.GivenSubj, &r.GivenObj), func() {
		c.Relations = append(c.Relations, r)
	})
	if err != nil {
		return err
	}
	var a write.Attribute
	return t.rows(sqlContentAttributes, []any{home}, into(&a.Of, &a.OfRelation, &a.Subj, &a.Pred, &a.Obj, &a.GivenSubj), func() {
		c.Attributes = append(c.Attributes, a)
	})
}

// Texts implements [write.Tx].
func (t *tx) Texts(_ context.Context, documents []int64) ([]string, error) {
	texts := make([]string, len(documents))
	for i, id := range documents {
		found, err := t.row(`SELECT text FROM documents WHERE id = ?`, []any{id}, &texts[i])
		if err != nil {
			return nil, fmt.Errorf("read texts: %w", err)
		}
		if !found {
			return nil, fmt.Errorf("read texts: document %d is gone", id)
		}
	}
	return texts, nil
}

// Holders implements [write.Tx].
func (t *tx) Holders(_ context.Context, queries []write.Names) ([][]*ids.Claim, error) {
	holders := make([][]*ids.Claim, len(queries))
	for n, q := range queries {
		for _, name := range q.Names {
			block := "0"
			if name.Class == ids.Spans {
				block = "block"
			}
			c := &ids.Claim{Class: name.Class}
			var traits write.Traits
			found, err := t.row(`
				SELECT job_id, item, `+block+`, ordinal, coalesce(given_id, id), id, traits
				FROM `+tables[name.Class]+` WHERE project_document_id = ? AND id = ?`,
				[]any{q.Home, name.ID}, &c.Job, &c.Item, &c.Block, &c.Ordinal, &c.Given, &c.ID, &traits)
			if err != nil {
				return nil, fmt.Errorf("look up ids: %w", err)
			}
			if found {
				c.Unnamed = traits&write.Unnamed != 0
				holders[n] = append(holders[n], c)
			}
		}
	}
	return holders, nil
}
