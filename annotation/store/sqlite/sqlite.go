// Package sqlite keeps annotations in an SQLite file.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
	migrations "github.com/tallyman-dev/tallyman/migrations/store"
)

// Store is a [store.Store] in an SQLite file. Several stores in several processes may share the file; each writes by one
// connection, and SQLite lets one of them write at a time.
type Store struct {
	writing *engine
	reading *sql.DB
	files   []*sql.DB
}

var _ store.Store = (*Store)(nil)

const (
	busyTimeout = 5 * time.Second // that another process's transaction is waited for before it is tried again
	readers     = 4               // connections
)

// Open opens the store in a file, which is created if it is not there, and brings its schema up to date; several may do
// so at once. Its folder must be there and on a local file system: SQLite's shared memory does not work over a network.
func Open(ctx context.Context, path string) (*Store, error) {
	if path == "" || strings.HasPrefix(path, ":") {
		return nil, fmt.Errorf("open annotation store: %q is not the path of a file", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open annotation store: %w", err)
	}
	s := &Store{}
	if err := s.open(ctx, path); err != nil {
		s.closeFiles() //nolint:errcheck // the error that is returned comes before
		return nil, fmt.Errorf("open annotation store %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	writing, err := s.file(path, "journal_mode(wal)", "synchronous(full)", "foreign_keys(1)", "temp_store(memory)")
	if err != nil {
		return err
	}
	writing.SetMaxOpenConns(1)
	// Commits of migrations do not wait for the disk one by one: the first one after them carries them all.
	for _, step := range []func() error{
		func() error { return relax(ctx, writing, "NORMAL") },
		func() error { return migrate(ctx, writing) },
		func() error { return relax(ctx, writing, "FULL") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	if s.reading, err = s.file(path, "query_only(1)"); err != nil {
		return err
	}
	s.reading.SetMaxOpenConns(readers)
	conn, err := writing.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.writing = newEngine(conn, s.reading)
	return nil
}

// file opens the file with pragmas that each connection sets.
func (s *Store) file(path string, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
	}, pragmas...)}
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(filepath.ToSlash(path))
	db, err := sql.Open("sqlite", "file:"+escaped+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, db)
	return db, nil
}

// relax sets whether commits wait for the disk, FULL, or leave that to later ones that do. db has one connection.
func relax(ctx context.Context, db *sql.DB, level string) error {
	_, err := db.ExecContext(ctx, "PRAGMA synchronous = "+level)
	return err
}

// migrateTries bounds how often a migration is tried: SQLite has no lock that goose could hold over all of it, so of two
// processes that migrate at once the later fails, and then finds the work done.
const (
	migrateTries = 20
	migratePause = 50 * time.Millisecond
)

var errNewer = errors.New("the schema is newer than this program; use a later release")

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations.FS, "sqlite")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	versions, err := database.NewStore(database.DialectSQLite3, migrations.VersionTable)
	if err != nil {
		return fmt.Errorf("describe version table: %w", err)
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(versions), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	sources := provider.ListSources()
	wanted := sources[len(sources)-1].Version
	for try := 1; ; try++ {
		current, err := schemaVersion(ctx, db)
		switch {
		case err != nil:
		case current == wanted:
			return nil
		case current > wanted:
			return fmt.Errorf("schema version %d, known up to %d: %w", current, wanted, errNewer)
		default:
			_, err = provider.Up(ctx)
		}
		if err == nil {
			return nil
		}
		if try == migrateTries {
			return fmt.Errorf("apply migrations: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(migratePause):
		}
	}
}

// schemaVersion returns 0 for a file without a schema.
func schemaVersion(ctx context.Context, db *sql.DB) (int64, error) {
	var tables int
	err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", migrations.VersionTable).Scan(&tables)
	if err != nil {
		return 0, fmt.Errorf("look for schema: %w", err)
	}
	if tables == 0 {
		return 0, nil
	}
	var version int64
	query := "SELECT coalesce(max(version_id), 0) FROM " + migrations.VersionTable + " WHERE is_applied"
	if err := db.QueryRowContext(ctx, query).Scan(&version); err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}

// Writer implements [store.Store].
func (s *Store) Writer(ctx context.Context, cluster string) (store.Writer, error) {
	if cluster == "" {
		return nil, errors.New("open writer: the coordinator database has no id")
	}
	owner, err := s.writing.own(ctx, cluster)
	if err != nil {
		return nil, fmt.Errorf("open writer: %w", err)
	}
	if owner != cluster {
		return nil, fmt.Errorf("open writer for %s: %w (%s)", cluster, store.ErrOwner, owner)
	}
	return write.New(s.writing), nil
}

// Close implements [store.Store].
func (s *Store) Close() error {
	err := errors.Join(s.writing.close(), s.closeFiles())
	if err != nil {
		return fmt.Errorf("close annotation store: %w", err)
	}
	return nil
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, db := range s.files {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// fault says what an error means.
func fault(err error) (write.Fault, string) {
	if errors.Is(err, errLate) || errors.Is(err, errEnded) {
		return write.Transient, ""
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return write.Broken, ""
	}
	switch e.Code() & 0xff { // the rest says more of the same
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return write.Transient, ""
	case sqlite3.SQLITE_FULL:
		return write.Full, ""
	case sqlite3.SQLITE_CONSTRAINT:
		return write.Refused, "it violates a constraint"
	case sqlite3.SQLITE_TOOBIG:
		return write.Refused, "it is too large"
	default:
		return write.Broken, ""
	}
}
