package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// The bounds of what an export holds in memory: documents are listed by pages and read by groups.
const (
	pageDocuments = 1000
	groupLength   = 4 << 20 // code points of text; one document may have more
	groupSize     = 100     // documents
)

const (
	sqlPage = `
SELECT p.id, p.sourcedb, p.sourceid, d.length
FROM project_documents p JOIN documents d ON d.id = p.document_id
WHERE p.project = $1 AND (p.sourcedb, p.sourceid) > ($2, $3)
ORDER BY p.sourcedb, p.sourceid LIMIT $4`

	sqlTextsOfHomes = `
SELECT p.id, d.text, d.length FROM project_documents p JOIN documents d ON d.id = p.document_id WHERE p.id = ANY($1)`

	sqlSpansOfHomes = `
SELECT s.project_document_id, s.block, s.id, coalesce(i.text_begin, 0) + s.begins, coalesce(i.text_begin, 0) + s.ends, s.obj
FROM annotation_spans s LEFT JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE s.project_document_id = ANY($1) AND s.traits < 4 ORDER BY s.job_id, s.item, s.ordinal`

	sqlRelationsOfHomes = `
SELECT project_document_id, id, subj, pred, obj FROM annotation_relations
WHERE project_document_id = ANY($1) AND traits < 4 ORDER BY job_id, item, ordinal`

	sqlAttributesOfHomes = `
SELECT project_document_id, id, of_relation, subj, pred, obj::text FROM annotation_attributes
WHERE project_document_id = ANY($1) AND traits < 4 ORDER BY job_id, item, ordinal`
)

// listed is a document of a project.
type listed struct {
	home   int64
	key    annotation.Key
	length int
}

// Export implements [store.Reader].
func (s *Store) Export(ctx context.Context, project string, yield func(*annotation.Item) error) error {
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
		after = page[len(page)-1].key
		for len(page) > 0 {
			n, length := 0, 0
			for n < min(len(page), groupSize) && (n == 0 || length+page[n].length <= groupLength) {
				length += page[n].length
				n++
			}
			var items []*annotation.Item
			err := write.Retry(ctx, fault, func(ctx context.Context) (err error) {
				items, err = s.group(ctx, page[:n])
				return err
			})
			if err != nil {
				return fmt.Errorf("read documents of project %s: %w", project, err)
			}
			for _, item := range items {
				if err := yield(item); err != nil {
					return err
				}
			}
			page = page[n:]
		}
	}
}

func (s *Store) page(ctx context.Context, project string, after annotation.Key) ([]listed, error) {
	rows, err := s.pool.Query(ctx, sqlPage, project, after.SourceDB, after.SourceID, pageDocuments)
	if err != nil {
		return nil, err
	}
	var page []listed
	var d listed
	_, err = pgx.ForEachRow(rows, []any{&d.home, &d.key.SourceDB, &d.key.SourceID, &d.length}, func() error {
		page = append(page, d)
		return nil
	})
	return page, err
}

// group reads documents in one snapshot, in one round trip.
func (s *Store) group(ctx context.Context, group []listed) ([]*annotation.Item, error) {
	homes := make([]int64, len(group))
	items := make([]*annotation.Item, len(group))
	byHome := make(map[int64]*annotation.Item, len(group))
	for i, d := range group {
		homes[i], items[i] = d.home, &annotation.Item{Key: d.key}
		byHome[d.home] = items[i]
	}
	b := &pgx.Batch{}
	b.Queue("begin isolation level repeatable read read only")
	b.Queue(sqlSettings, s.limits.settings()...)
	b.Queue(sqlTextsOfHomes, homes).Query(func(rows pgx.Rows) error {
		var home int64
		var text string
		var length int
		_, err := pgx.ForEachRow(rows, []any{&home, &text, &length}, func() error {
			byHome[home].Text, byHome[home].Length = text, length
			return nil
		})
		return err
	})
	b.Queue(sqlSpansOfHomes, homes).Query(func(rows pgx.Rows) error {
		var home int64
		var block bool
		var span annotation.Span
		_, err := pgx.ForEachRow(rows, []any{&home, &block, &span.ID, &span.Begin, &span.End, &span.Obj}, func() error {
			list := &byHome[home].Denotations
			if block {
				list = &byHome[home].Blocks
			}
			*list = append(*list, span)
			return nil
		})
		return err
	})
	b.Queue(sqlRelationsOfHomes, homes).Query(func(rows pgx.Rows) error {
		var home int64
		var r annotation.Relation
		_, err := pgx.ForEachRow(rows, []any{&home, &r.ID, &r.Subj, &r.Pred, &r.Obj}, func() error {
			byHome[home].Relations = append(byHome[home].Relations, r)
			return nil
		})
		return err
	})
	aboutRelations := make(map[int64][]int)
	b.Queue(sqlAttributesOfHomes, homes).Query(func(rows pgx.Rows) error {
		var home int64
		var ofRelation bool
		var a annotation.Attribute
		var value string
		_, err := pgx.ForEachRow(rows, []any{&home, &a.ID, &ofRelation, &a.Subj, &a.Pred, &value}, func() (err error) {
			if a.Value, err = annotation.ParseValue([]byte(value)); err != nil {
				return fmt.Errorf("read attribute %s: %w", a.ID, err)
			}
			if ofRelation {
				aboutRelations[home] = append(aboutRelations[home], len(byHome[home].Attributes))
			}
			byHome[home].Attributes = append(byHome[home].Attributes, a)
			return nil
		})
		return err
	})
	b.Queue("commit")
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	for home, indexes := range aboutRelations {
		ids.Distinguish(byHome[home], indexes)
	}
	return items, nil
}

// Count implements [store.Reader].
func (s *Store) Count(ctx context.Context, project string) (store.Counts, error) {
	var c store.Counts
	const query = `
		WITH homes AS (SELECT id FROM project_documents WHERE project = $1)
		SELECT (SELECT count(*) FROM homes),
		       (SELECT count(*) FROM annotation_spans WHERE NOT block AND traits < 4 AND project_document_id IN (SELECT id FROM homes)),
		       (SELECT count(*) FROM annotation_spans WHERE block AND traits < 4 AND project_document_id IN (SELECT id FROM homes)),
		       (SELECT count(*) FROM annotation_relations WHERE traits < 4 AND project_document_id IN (SELECT id FROM homes)),
		       (SELECT count(*) FROM annotation_attributes WHERE traits < 4 AND project_document_id IN (SELECT id FROM homes))`
	err := write.Retry(ctx, fault, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, query, project).Scan(&c.Documents, &c.Denotations, &c.Blocks, &c.Relations, &c.Attributes)
	})
	if err != nil {
		return store.Counts{}, fmt.Errorf("count annotations of project %s: %w", project, err)
	}
	return c, nil
}
