package migrations

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
)

// schema is what the first migrations make of an empty SQLite database, with the note that they ran. To SQLite each change
// of a table is a new reading of the whole schema: one migration after the other took half of the time that `tallyman run`
// needs to start in a new folder. Migrations that came later run on top of it, so it need not be written anew with each;
// the test that compares the two ways does that when it is called with -snapshot.
//
//go:embed snapshot/sqlite.sql
var schema string

// begin gives an empty SQLite database the schema, and leaves any other alone.
func begin(ctx context.Context, db *sql.DB) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin the schema: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin the schema: %w", err)
	}
	end := "ROLLBACK"
	defer func() {
		if _, ended := conn.ExecContext(context.WithoutCancel(ctx), end); ended != nil {
			err = errors.Join(err, fmt.Errorf("begin the schema: %w", ended))
		}
	}()
	var empty bool
	if err := conn.QueryRowContext(ctx, "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)").Scan(&empty); err != nil {
		return fmt.Errorf("begin the schema: %w", err)
	}
	if !empty {
		return nil
	}
	if _, err := conn.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("begin the schema: %w", err)
	}
	end = "COMMIT"
	return nil
}
