package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Multiply adds copies of a job that has ended, with all that belongs to it, as if it had been run so often before: each a
// step earlier than the last, with documents of its own. No other rows may have been added after those of the job. What
// the rows consist of is taken from the tables as they are.
func (d *Database) Multiply(ctx context.Context, job int64, copies int, step time.Duration) error {
	err := connected(ctx, d.DSN, func(conn *pgx.Conn) error {
		m := &multiplication{conn: conn, job: job, step: step}
		err := conn.QueryRow(ctx, `SELECT max(id) - min(id) + 1 FROM batches WHERE job_id = $1`, job).Scan(&m.batches)
		if err != nil {
			return err
		}
		// A flush for each copy would be half of the time. The last ones are flushed by what comes after them.
		if _, err := conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
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
		// What autovacuum would have done in the course of a history.
		_, err = conn.Exec(ctx, "VACUUM (ANALYZE)")
		return err
	})
	if err != nil {
		return fmt.Errorf("multiply job %d: %w", job, err)
	}
	return nil
}

type multiplication struct {
	conn    *pgx.Conn
	job     int64
	batches int64 // numbers that those of the job take up
	step    time.Duration
}

// once adds one copy.
func (m *multiplication) once(ctx context.Context, statements []string, n int) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		for _, statement := range statements {
			// The simple protocol writes the values into the statement, so that one may stand where an integer and where a text is.
			_, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol, pgx.NamedArgs{
				"n": n, "job": m.job, "batches": m.batches, "step": m.step.Seconds(),
			})
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `SELECT setval(pg_get_serial_sequence('jobs', 'id'), (SELECT max(id) FROM jobs)),
			setval(pg_get_serial_sequence('batches', 'id'), (SELECT max(id) FROM batches))`)
		return err
	})
}

// statement returns what adds copy number @n of the job's rows of a table. It sets these rows apart: among more and more
// others they would take longer and longer to find.
func (m *multiplication) statement(ctx context.Context, table string) (string, error) {
	where := "job_id = @job"
	switch table {
	case "jobs":
		where = "id = @job"
	case "batch_documents":
		where = "batch_id IN (SELECT id FROM batches WHERE job_id = @job)"
	}
	_, err := m.conn.Exec(ctx, "CREATE TEMPORARY TABLE multiplied_"+table+" AS SELECT * FROM "+table+" WHERE "+where,
		pgx.QueryExecModeSimpleProtocol, pgx.NamedArgs{"job": m.job})
	if err != nil {
		return "", err
	}
	rows, err := m.conn.Query(ctx, `SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`, table)
	if err != nil {
		return "", err
	}
	var columns, values []string
	var name, kind string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		value := name
		switch {
		case name == "job_id" || table == "jobs" && name == "id":
			value += " + @n::bigint"
		case name == "batch_id" || table == "batches" && name == "id":
			value += " + @n::bigint * @batches"
		case name == "upload_id" || name == "document":
			value += " || '-' || @n::text"
		case name == "documents":
			value = "(SELECT array_agg(d || '-' || @n::text ORDER BY place) FROM unnest(documents) WITH ORDINALITY AS u (d, place))"
		case kind == "timestamp with time zone":
			value += " - @n::bigint * @step::float8 * interval '1 s'"
		}
		columns, values = append(columns, name), append(values, value)
		return nil
	})
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") OVERRIDING SYSTEM VALUE SELECT " +
		strings.Join(values, ", ") + " FROM multiplied_" + table, err
}

// Completed returns how many batches are completed by the counters of the jobs, and how many by the batches themselves.
func (d *Database) Completed(ctx context.Context) (counted, there int64, err error) {
	err = connected(ctx, d.DSN, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT (SELECT sum(batches_completed)::bigint FROM jobs),
			(SELECT count(*) FROM batches WHERE state = 2)`).Scan(&counted, &there)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count the completed batches: %w", err)
	}
	return counted, there, nil
}
