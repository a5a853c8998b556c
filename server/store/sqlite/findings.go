package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tallyman-dev/tallyman/server/store"
)

var errToken = errors.New("the page token is not one of this list's")

// ListFindings implements store.Listings. The token is item and id of the last finding of a page.
func (s *Store) ListFindings(ctx context.Context, f store.FindingFilter, size int, token string) (list []store.Finding, next string, err error) {
	size = max(size, 1)
	where := []string{"job_id = ?", "EXISTS (SELECT 1 FROM jobs j WHERE j.id = job_id AND j.deleted_at IS NULL)"}
	args := []any{f.JobID}
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if token != "" {
		var item, id int64
		if _, err := fmt.Sscanf(token, "%d.%d", &item, &id); err != nil {
			return nil, "", fmt.Errorf("list findings: %w", errToken)
		}
		add("(item, id) > (?, ?)", item, id)
	}
	if f.BatchID != 0 {
		add("batch_id = ?", f.BatchID)
	}
	if f.Item != 0 {
		add("item = ?", f.Item)
	}
	if f.Code != "" {
		add("code = ?", f.Code)
	}
	if f.Severity != 0 {
		add("severity = ?", f.Severity)
	}
	err = s.read(ctx, func(q *snapshot) (err error) {
		list, err = collect(q, scanFinding, `SELECT id, job_id, coalesce(batch_id, 0), item, severity, code, file, line,
				byte_offset, document, path, message
			FROM findings WHERE `+strings.Join(where, " AND ")+" ORDER BY item, id LIMIT ?", append(args, size+1)...)
		return err
	})
	if err != nil {
		return nil, "", wrap("list findings", err)
	}
	if len(list) > size {
		list = list[:size]
		next = fmt.Sprintf("%d.%d", list[size-1].Item, list[size-1].ID)
	}
	return list, next, nil
}

func scanFinding(row scanner) (f store.Finding, err error) {
	err = row.Scan(&f.ID, &f.JobID, &f.BatchID, &f.Item, &f.Severity, &f.Code, &f.File, &f.Line, &f.Offset, &f.Document,
		&f.Path, &f.Message)
	return f, err
}
