package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// pageDocuments is how many documents an export lists at once. It holds one of them in memory.
const pageDocuments = 1000

const (
	sqlPage = `
SELECT id, sourcedb, sourceid FROM project_documents
WHERE project = ? AND (sourcedb, sourceid) > (?, ?) ORDER BY sourcedb, sourceid LIMIT ?`

	sqlTextOfHome = `
SELECT d.text, d.length FROM project_documents p JOIN documents d ON d.id = p.document_id WHERE p.id = ?`

	sqlSpansOfHome = `
SELECT s.block, s.id, coalesce(i.text_begin, 0) + s.begins, coalesce(i.text_begin, 0) + s.ends, s.obj
FROM annotation_spans s LEFT JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE s.project_document_id = ? AND s.traits < 4 ORDER BY s.job_id, s.item, s.ordinal`

	sqlRelationsOfHome = `
SELECT id, subj, pred, obj FROM annotation_relations WHERE project_document_id = ? AND traits < 4 ORDER BY job_id, item, ordinal`

	sqlAttributesOfHome = `
SELECT id, of_relation, subj, pred, obj FROM annotation_attributes WHERE project_document_id = ? AND traits < 4 ORDER BY job_id, item, ordinal`
)

// listed is a document of a project.
type listed struct {
	home int64
	key  annotation.Key
}

// exporter reads documents by prepared statements.
type exporter struct {
	text, spans, relations, attributes *sql.Stmt
}

// Export implements [store.Reader].
func (s *Store) Export(ctx context.Context, project string, yield func(*annotation.Item) error) error {
	e := exporter{}
	for query, into := range map[string]**sql.Stmt{
		sqlTextOfHome: &e.text, sqlSpansOfHome: &e.spans, sqlRelationsOfHome: &e.relations, sqlAttributesOfHome: &e.attributes,
	} {
		prepared, err := s.reading.PrepareContext(ctx, query)
		if err != nil {
			return fmt.Errorf("export project %s: %w", project, err)
		}
		defer prepared.Close()
		*into = prepared
	}
	after := annotation.Key{}
	for {
		var page []listed
		err := write.Retry(ctx, fault, func(ctx context.Context) (err error) {
			page, err = s.page(ctx, project, after)
			return err
		})
		if err != nil {
			return fmt.Errorf("list documents of project %s: %w", project, err)
		}
		if len(page) == 0 {
			return nil
		}
		for _, d := range page {
			var item *annotation.Item
			err := write.Retry(ctx, fault, func(ctx context.Context) (err error) {
				item, err = s.document(ctx, e, d)
				return err
			})
			if err != nil {
				return fmt.Errorf("read document %s of project %s: %w", d.key, project, err)
			}
			if err := yield(item); err != nil {
				return err
			}
		}
		after = page[len(page)-1].key
	}
}

func (s *Store) page(ctx context.Context, project string, after annotation.Key) ([]listed, error) {
	rows, err := s.reading.QueryContext(ctx, sqlPage, project, after.SourceDB, after.SourceID, pageDocuments)
	if err != nil {
		return nil, err
	}
	var page []listed
	var d listed
	err = scan(rows, []any{&d.home, &d.key.SourceDB, &d.key.SourceID}, func() { page = append(page, d) })
	return page, err
}

// document reads a document in one snapshot.
func (s *Store) document(ctx context.Context, e exporter, d listed) (*annotation.Item, error) {
	tx, err := s.reading.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	item := &annotation.Item{Key: d.key}
	err = tx.StmtContext(ctx, e.text). //nolint:sqlclosecheck // the transaction closes it
						QueryRowContext(ctx, d.home).Scan(&item.Text, &item.Length)
	if err != nil {
		return nil, err
	}
	each := func(statement *sql.Stmt, into []any, add func()) error {
		rows, err := tx.StmtContext(ctx, statement).QueryContext(ctx, d.home) //nolint:sqlclosecheck // the transaction closes it
		if err != nil {
			return err
		}
		return scan(rows, into, add)
	}
	var block bool
	var span annotation.Span
	err = each(e.spans, []any{&block, &span.ID, &span.Begin, &span.End, &span.Obj}, func() {
		if block {
			item.Blocks = append(item.Blocks, span)
		} else {
			item.Denotations = append(item.Denotations, span)
		}
	})
	if err != nil {
		return nil, err
	}
	var r annotation.Relation
	err = each(e.relations, []any{&r.ID, &r.Subj, &r.Pred, &r.Obj}, func() { item.Relations = append(item.Relations, r) })
	if err != nil {
		return nil, err
	}
	var a annotation.Attribute
	var value []byte
	var invalid error
	var ofRelation bool
	var aboutRelations []int
	err = each(e.attributes, []any{&a.ID, &ofRelation, &a.Subj, &a.Pred, &value}, func() {
		if ofRelation {
			aboutRelations = append(aboutRelations, len(item.Attributes))
		}
		if a.Value, err = annotation.ParseValue(value); err != nil {
			invalid = fmt.Errorf("read attribute %s: %w", a.ID, err)
		}
		item.Attributes = append(item.Attributes, a)
	})
	if err == nil {
		err = invalid
	}
	ids.Distinguish(item, aboutRelations)
	return item, err
}

// Count implements [store.Reader].
func (s *Store) Count(ctx context.Context, project string) (store.Counts, error) {
	var c store.Counts
	const query = `
		WITH homes AS (SELECT id FROM project_documents WHERE project = ?)
		SELECT (SELECT count(*) FROM homes),
		       (SELECT count(*) FROM homes h JOIN annotation_spans a ON a.project_document_id = h.id WHERE NOT a.block AND a.traits < 4),
		       (SELECT count(*) FROM homes h JOIN annotation_spans a ON a.project_document_id = h.id WHERE a.block AND a.traits < 4),
		       (SELECT count(*) FROM homes h JOIN annotation_relations a ON a.project_document_id = h.id WHERE a.traits < 4),
		       (SELECT count(*) FROM homes h JOIN annotation_attributes a ON a.project_document_id = h.id WHERE a.traits < 4)`
	err := write.Retry(ctx, fault, func(ctx context.Context) error {
		return s.reading.QueryRowContext(ctx, query, project).Scan(&c.Documents, &c.Denotations, &c.Blocks, &c.Relations, &c.Attributes)
	})
	if err != nil {
		return store.Counts{}, fmt.Errorf("count annotations of project %s: %w", project, err)
	}
	return c, nil
}
