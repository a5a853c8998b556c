// Package migrations holds the schema of the coordinator's database: numbered goose migrations for each engine, forward
// only. A migration that was released never changes.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// VersionTable is where goose keeps which migrations a database has. It is not goose's default, so that the coordinator
// may share a database with other programs' tables.
const VersionTable = "tallyman_goose_version"

// Engine is a database engine. The text is the name of its folder here.
type Engine string

// The engines.
const (
	Postgres Engine = "postgres"
	SQLite   Engine = "sqlite"
)

// Up brings a database to the schema of this program. It waits for others that do the same, within ctx (on Postgres
// they take turns by an advisory lock), and does nothing when the schema is current or newer. A migration that fails
// leaves the database as it was before that migration.
func Up(ctx context.Context, e Engine, db *sql.DB) error {
	if e == SQLite {
		if err := begin(ctx, db); err != nil {
			return fmt.Errorf("migrate %s database: %w", e, err)
		}
	}
	p, err := provider(e, db)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate %s database: %w", e, err)
	}
	return nil
}

// Wanted returns the version of the schema that this program needs.
func Wanted(e Engine) (int64, error) {
	entries, err := fs.ReadDir(files, string(e))
	if err != nil {
		return 0, fmt.Errorf("list migrations: %w", err)
	}
	var wanted int64
	for _, entry := range entries {
		v, err := goose.NumericComponent(entry.Name())
		if err != nil {
			return 0, fmt.Errorf("read migration's number: %w", err)
		}
		wanted = max(wanted, v)
	}
	return wanted, nil
}

// Current returns the version of the schema that a database has, 0 when it has none. It changes nothing.
func Current(ctx context.Context, e Engine, db *sql.DB) (int64, error) {
	s, err := versions(e)
	if err != nil {
		return 0, err
	}
	// Asking goose would create the table that says so.
	exists := `SELECT to_regclass('` + VersionTable + `') IS NOT NULL`
	if e == SQLite {
		exists = `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '` + VersionTable + `')`
	}
	var found bool
	if err := db.QueryRowContext(ctx, exists).Scan(&found); err != nil {
		return 0, fmt.Errorf("look for the schema's version: %w", err)
	}
	if !found {
		return 0, nil
	}
	v, err := s.GetLatestVersion(ctx, db)
	if errors.Is(err, database.ErrVersionNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return v, nil
}

func versions(e Engine) (database.Store, error) {
	dialect := database.DialectPostgres
	if e == SQLite {
		dialect = database.DialectSQLite3
	}
	s, err := database.NewStore(dialect, VersionTable)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return s, nil
}

func provider(e Engine, db *sql.DB) (*goose.Provider, error) {
	folder, err := fs.Sub(files, string(e))
	if err != nil {
		return nil, fmt.Errorf("open migrations: %w", err)
	}
	s, err := versions(e)
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithStore(s), goose.WithDisableGlobalRegistry(true)}
	if e == Postgres {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // every second, five minutes
		if err != nil {
			return nil, fmt.Errorf("prepare lock of migrations: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider("", db, folder, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return p, nil
}
