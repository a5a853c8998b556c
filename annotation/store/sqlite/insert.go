package sqlite

import (
	"strings"

	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// insertion is a statement that inserts rows of so many columns, several at a time: calling SQLite once for each costs
// twice as much.
type insertion struct {
	columns int
	queries [len(insertRows)]string
}

// insertRows are how many rows a statement inserts, the most first.
var insertRows = [...]int{32, 8, 1}

// newInsertion returns the insertion into a table with its columns.
func newInsertion(table string, columns ...string) insertion {
	in := insertion{columns: len(columns)}
	row := "(?" + strings.Repeat(", ?", len(columns)-1) + ")"
	for i, n := range insertRows {
		in.queries[i] = "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES " + row + strings.Repeat(", "+row, n-1)
	}
	return in
}

// of are the columns that annotations have in common.
func of(columns ...string) []string {
	return append([]string{"project_document_id", "id", "job_id", "item", "ordinal", "given_id", "traits"}, columns...)
}

var (
	intoDocuments = newInsertion("documents", "id", "sourcedb", "sourceid", "text", "length", "text_sha256", "composed_by", "composed_until")
	intoHomes     = newInsertion("project_documents",
		"id", "project", "sourcedb", "sourceid", "document_id", "last_job", "replaced_by", "merged_by")
	intoItems = newInsertion("store_items",
		"job_id", "item", "document_id", "project_document_id", "outcome", "text_begin", "text_length", "text_level", "findings")
	intoSpans      = newInsertion("annotation_spans", of("block", "begins", "ends", "obj")...)
	intoRelations  = newInsertion("annotation_relations", of("subj", "pred", "obj", "given_subj", "given_obj")...)
	intoAttributes = newInsertion("annotation_attributes", of("of_relation", "subj", "pred", "obj", "given_subj")...)
)

// insert inserts a row for each of a list, with the values that row appends.
func insert[T any](t *tx, into *insertion, list []T, row func(values []any, of T) []any) error {
	if len(list) == 0 {
		return nil
	}
	values := make([]any, 0, into.columns*min(len(list), insertRows[0]))
	for i, n := range insertRows {
		for ; len(list) >= n; list = list[n:] {
			values = values[:0]
			for _, x := range list[:n] {
				values = row(values, x)
			}
			if err := t.exec(into.queries[i], values...); err != nil {
				return err
			}
		}
	}
	return nil
}

func ofValues(values []any, of *write.Of) []any {
	return append(values, of.Home, of.ID, of.Job, of.Item, int64(of.Ordinal), null(of.Given), int64(of.Traits))
}
