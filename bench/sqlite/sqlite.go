// Package sqlite is what a bench needs of a SQLite database that no coordinator has open.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// File is the path of a coordinator's database.
type File string

// Multiply adds copies of a job that has ended, with all that belongs to it, as if it had been run so often before: each a
// step earlier than the last, with documents of its own. No other rows may have been added after those of the job. What
// the rows consist of is taken from the tables as they are.
func (f File) Multiply(ctx context.Context, job int64, copies int, step time.Duration) error {
	err := f.opened(func(db *sql.DB) error {
		m := &multiplication{db: db, job: job, step: step}
		err := db.QueryRowContext(ctx, "SELECT max(id) - min(id) + 1 FROM batches WHERE job_id = ?", job).Scan(&m.batches)
		if err != nil {
			return err
		}
		var statements []string
		for _, table := range []string{"jobs", "uploads", "batches", "batch_payloads", "batch_documents", "job_minutes", "slowest_batches"} {
			statement, err := m.statement(ctx, table)
			if err != nil {
				return err
			}
			statements = append(statements, statement)
		}
		for n := 1; n <= copies; n++ {
			if err := m.once(ctx, statements, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("multiply job %d: %w", job, err)
	}
	return nil
}

// opened has one connection do something. What it writes is flushed when it is closed, not before.
func (f File) opened(use func(*sql.DB) error) error {
	db, err := sql.Open("sqlite", "file:"+string(f)+"?_pragma=synchronous(off)&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	return errors.Join(use(db), db.Close())
}

type multiplication struct {
	db      *sql.DB
	job     int64
	batches int64 // numbers that those of the job take up
	step    time.Duration
}

// once adds one copy.
func (m *multiplication) once(ctx context.Context, statements []string, n int) error {
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, statement := range statements {
		_, err := tx.ExecContext(ctx, statement, sql.Named("n", n), sql.Named("job", m.job), sql.Named("batches", m.batches),
			sql.Named("step", m.step.Microseconds()))
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// statement returns what adds copy number :n of the job's rows of a table. It sets these rows apart: among more and more
// others they would take longer and longer to find.
func (m *multiplication) statement(ctx context.Context, table string) (string, error) {
	where := "job_id = :job"
	switch table {
	case "jobs":
		where = "id = :job"
	case "batch_documents":
		where = "batch_id IN (SELECT id FROM batches WHERE job_id = :job)"
	}
	_, err := m.db.ExecContext(ctx, "CREATE TEMPORARY TABLE multiplied_"+table+" AS SELECT * FROM "+table+" WHERE "+where,
		sql.Named("job", m.job))
	if err != nil {
		return "", err
	}
	rows, err := m.db.QueryContext(ctx, "SELECT name FROM pragma_table_info(?) ORDER BY cid", table)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var columns, values []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return "", err
		}
		value := name
		switch {
		case name == "job_id" || table == "jobs" && name == "id":
			value += " + :n"
		case name == "batch_id" || table == "batches" && name == "id":
			value += " + :n * :batches"
		case name == "upload_id" || name == "document":
			value += " || '-' || :n"
		case table == "batch_payloads" && name == "documents":
			value = "(SELECT json_group_array(value || '-' || :n) FROM json_each(documents))"
		case name == "minute" || strings.HasSuffix(name, "_at"):
			value += " - :n * :step"
		}
		columns, values = append(columns, name), append(values, value)
	}
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") SELECT " + strings.Join(values, ", ") +
		" FROM multiplied_" + table, rows.Err()
}

// Completed returns how many batches are completed by the counters of the jobs, and how many by the batches themselves.
func (f File) Completed(ctx context.Context) (counted, there int64, err error) {
	err = f.opened(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT (SELECT sum(batches_completed) FROM jobs),
			(SELECT count(*) FROM batches WHERE state = 2)`).Scan(&counted, &there)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count the completed batches: %w", err)
	}
	return counted, there, nil
}
