package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// loadChunk is how many rows are read before they are written, so that reading is not timed.
const loadChunk = 10_000

// Load copies the rows of tables from one file to another, where these tables are there and empty, by prepared inserts in
// one transaction, which is flushed. What is timed is the inserting and the commit.
func Load(ctx context.Context, from, to string, tables []string, timed func(func() error) error) (rows int64, err error) {
	source, err := sql.Open("sqlite", "file:"+from+"?mode=ro")
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	defer source.Close()
	target, err := sql.Open("sqlite", "file:"+to+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	defer target.Close()
	tx, err := target.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	defer tx.Rollback()
	for _, table := range tables {
		n, err := loadTable(ctx, source, tx, table, timed)
		if err != nil {
			return 0, fmt.Errorf("load %s: %w", table, err)
		}
		rows += n
	}
	if err := timed(tx.Commit); err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	return rows, nil
}

func loadTable(ctx context.Context, source *sql.DB, tx *sql.Tx, table string, timed func(func() error) error) (rows int64, err error) {
	read, err := source.QueryContext(ctx, "SELECT * FROM "+table) //nolint:gosec // the caller's, and none of a user
	if err != nil {
		return 0, err
	}
	defer read.Close()
	columns, err := read.Columns()
	if err != nil {
		return 0, err
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO "+table+" VALUES (?"+strings.Repeat(", ?", len(columns)-1)+")") //nolint:sqlclosecheck // it is, below; the linter stops at closures
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	for more := true; more; {
		var values [][]any
		for len(values) < loadChunk {
			if more = read.Next(); !more {
				break
			}
			row, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			if err := read.Scan(into...); err != nil {
				return 0, err
			}
			values = append(values, row)
		}
		err := timed(func() error {
			for _, row := range values {
				if _, err := insert.ExecContext(ctx, row...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		rows += int64(len(values))
	}
	return rows, read.Err()
}
