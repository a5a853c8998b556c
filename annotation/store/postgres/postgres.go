// Package postgres keeps annotations in PostgreSQL.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
	migrations "github.com/tallyman-dev/tallyman/migrations/store"
)

// Store is a [store.Store] in PostgreSQL 14 or later. Several stores in several processes may share a database.
type Store struct {
	pool   *pgxpool.Pool
	limits limits
}

var _ store.Store = (*Store)(nil)

// Open opens the store in the database that a connection string or URL names, and brings its schema up to date; several
// may do so at once. The parameters of pgxpool, like pool_max_conns, may be part of the string.
func Open(ctx context.Context, dsn string) (*Store, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open annotation store: %w", err) // pgx leaves the password out
	}
	if err := migrate(ctx, config.ConnConfig); err != nil {
		return nil, fmt.Errorf("migrate annotation store: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open annotation store: %w", err)
	}
	return &Store{pool: pool, limits: defaultLimits}, nil
}

// migrateLock is the number of the advisory lock that is held while the schema is being brought up to date.
const migrateLock = 0x7461_6c6c_7973_746f

// migrateSeconds bounds how long another process's migration is waited for.
const migrateSeconds = 300

var errNewer = errors.New("the schema is newer than this program; use a later release")

func migrate(ctx context.Context, config *pgx.ConnConfig) error {
	db := stdlib.OpenDB(*config)
	defer db.Close()
	files, err := fs.Sub(migrations.FS, "postgres")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	versions, err := database.NewStore(database.DialectPostgres, migrations.VersionTable)
	if err != nil {
		return fmt.Errorf("describe version table: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrateLock), lock.WithLockTimeout(1, migrateSeconds))
	if err != nil {
		return fmt.Errorf("prepare lock: %w", err)
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(versions), goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	sources := provider.ListSources()
	wanted := sources[len(sources)-1].Version
	current, err := schemaVersion(ctx, db)
	switch {
	case err != nil:
		return err
	case current == wanted:
		return nil
	case current > wanted:
		return fmt.Errorf("schema version %d, known up to %d: %w", current, wanted, errNewer)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("apply migrations: %w", err)
	}
	return nil
}

// schemaVersion returns 0 for a database without a schema.
func schemaVersion(ctx context.Context, db *sql.DB) (int64, error) {
	var table sql.NullString
	if err := db.QueryRowContext(ctx, "SELECT to_regclass($1)::text", migrations.VersionTable).Scan(&table); err != nil {
		return 0, fmt.Errorf("look for schema: %w", err)
	}
	if !table.Valid {
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
	var owner string
	err := s.pool.QueryRow(ctx, `
		WITH mine AS (
			INSERT INTO store_owner (cluster_id) VALUES ($1) ON CONFLICT (singleton) DO UPDATE SET cluster_id = store_owner.cluster_id
			RETURNING cluster_id)
		SELECT cluster_id FROM mine`, cluster).Scan(&owner)
	if err != nil {
		return nil, fmt.Errorf("open writer: %w", err)
	}
	if owner != cluster {
		return nil, fmt.Errorf("open writer for %s: %w (%s)", cluster, store.ErrOwner, owner)
	}
	return write.New(&engine{pool: s.pool, limits: s.limits}), nil
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// The SQLSTATEs that mean something here; the migrations define codeDeadline.
const (
	codeDeadline     = "TM001"
	codeLockTimeout  = "55P03"
	codeQueryTimeout = "57014"
	codeIdleTimeout  = "25P03"
	codeDiskFull     = "53100"
	codeReadOnly     = "25006" // a standby, or a primary that was demoted
)

// fault says what an error means.
func fault(err error) (write.Fault, string) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return faultOf(pg)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return write.Transient, ""
	}
	return write.Broken, ""
}

func faultOf(pg *pgconn.PgError) (write.Fault, string) {
	switch pg.Code {
	case codeLockTimeout, codeQueryTimeout, codeIdleTimeout, codeReadOnly, "40001", "40P01", "57P01", "57P02", "57P03", "57P05":
		return write.Transient, ""
	}
	switch {
	case pg.Code == codeDiskFull:
		return write.Full, ""
	// The connection, the server's resources (memory, connections), its files.
	case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "58"):
		return write.Transient, ""
	case strings.HasPrefix(pg.Code, "23") && pg.ConstraintName != "":
		return write.Refused, "it violates the constraint " + pg.ConstraintName
	case strings.HasPrefix(pg.Code, "22"), strings.HasPrefix(pg.Code, "23"), strings.HasPrefix(pg.Code, "54"):
		return write.Refused, "SQLSTATE " + pg.Code
	default:
		return write.Broken, ""
	}
}
