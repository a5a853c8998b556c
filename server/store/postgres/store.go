package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tallyman-dev/tallyman/migrations"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Bounds of waits for the database.
const (
	callTimeout    = 30 * time.Second // one call, its retries included
	connectTimeout = 10 * time.Second
	cleanupTimeout = 5 * time.Second
	maxSilence     = 10 * time.Second // inside a transaction
)

// Config says where the database is. Zero values but the DSN's have defaults.
type Config struct {
	// DSN is a connection string as libpq understands it, URL or key=value. A pooler in between must leave sessions to
	// their clients, since statements are prepared.
	DSN string
	// MaxConns bounds the connections held at a time, the listening one apart. 0 means 16.
	MaxConns int32
	// MinConns are kept open also when idle. 0 means 2.
	MinConns int32
	// Silence is how long a transaction may say nothing before the database ends it: a coordinator that is frozen or cut
	// off in the middle of one holds locks, without which nobody else can renew or settle those leases. 0 means 10 s.
	Silence time.Duration
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if c.DSN == "" {
		return errors.New("the connection string of the database is empty")
	}
	if c.MaxConns < 0 || c.MinConns < 0 {
		return errors.New("numbers of connections cannot be negative")
	}
	if c.Silence < 0 {
		return errors.New("the silence of a transaction cannot be negative")
	}
	if _, err := pgxpool.ParseConfig(c.DSN); err != nil {
		return parseError(err)
	}
	return nil
}

// parseError drops the cause: it quotes the connection string, which may hold a password.
func parseError(error) error {
	return errors.New("the connection string of the database cannot be read; a URL looks like postgres://user@host:5432/name")
}

// Store keeps what a coordinator must remember in PostgreSQL. It is safe for concurrent use. No call takes longer than
// half a minute: a database that is silent for so long is answered as store.ErrUnavailable.
type Store struct {
	pool        *pgxpool.Pool
	sender      string // tells our own notifications from those of other coordinators
	wanted      int64
	deliverEnds atomic.Bool // of jobs

	choosy atomic.Bool // the last claim saw batches that not every session may have
}

var _ store.Store = (*Store)(nil)

// Open connects to a database that has this program's schema. store.ErrUnavailable when it cannot be reached,
// store.ErrSchema when its schema is another one.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	wanted, err := migrations.Wanted(migrations.Postgres)
	if err != nil {
		return nil, err
	}
	pc, err := poolConfig(c)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", translate(err))
	}
	s := &Store{pool: pool, sender: rand.Text()[:12], wanted: wanted}
	if err := s.Check(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return s, nil
}

func poolConfig(c Config) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, parseError(err)
	}
	pc.MaxConns = 16
	if c.MaxConns > 0 {
		pc.MaxConns = c.MaxConns
	}
	pc.MinConns = min(2, pc.MaxConns)
	if c.MinConns > 0 {
		pc.MinConns = min(c.MinConns, pc.MaxConns)
	}
	pc.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	connection(pc.ConnConfig, cmp.Or(c.Silence, maxSilence))
	return pc, nil
}

// connection sets what every connection of this package has in common.
func connection(c *pgx.ConnConfig, silence time.Duration) {
	c.ConnectTimeout = connectTimeout
	for name, value := range map[string]string{
		"application_name":                    "tallyman",
		"idle_in_transaction_session_timeout": strconv.FormatInt(silence.Milliseconds(), 10),
		"statement_timeout":                   "30s",
		"jit":                                 "off", // plans are cached for statements of a millisecond
		// Otherwise a claim is planned anew each time, which takes longer than the claim. The plans are the same whatever the
		// arguments are, and so that they are also when a connection makes them while the tables are empty, which it keeps until
		// these are analyzed, indexes are walked: TestPlans has all three kinds.
		"plan_cache_mode": "force_generic_plan",
		"enable_seqscan":  "off",
	} {
		if _, set := c.RuntimeParams[name]; !set {
			c.RuntimeParams[name] = value
		}
	}
}

// Migrate brings the database behind dsn to this program's schema, waiting for others that do the same.
func Migrate(ctx context.Context, dsn string) (err error) {
	db, err := openSQL(dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := migrations.Up(ctx, migrations.Postgres, db); err != nil {
		return translate(err)
	}
	return nil
}

// SchemaVersion returns the schema versions that the database has, 0 for none, and that this program wants.
func SchemaVersion(ctx context.Context, dsn string) (current, wanted int64, err error) {
	db, err := openSQL(dsn)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if current, err = migrations.Current(ctx, migrations.Postgres, db); err != nil {
		return 0, 0, translate(err)
	}
	wanted, err = migrations.Wanted(migrations.Postgres)
	return current, wanted, err
}

func openSQL(dsn string) (*sql.DB, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, parseError(err)
	}
	c.ConnectTimeout = connectTimeout
	return stdlib.OpenDB(*c), nil
}

// Close closes all connections, waiting for calls that use one.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

const selectVersion = `SELECT coalesce(max(version_id), 0) FROM ` + migrations.VersionTable + ` WHERE is_applied`

// Check implements store.Store.
func (s *Store) Check(ctx context.Context) error {
	var current int64
	err := s.call(ctx, "check database", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, selectVersion).Scan(&current)
	})
	if isCode(err, undefinedTable) {
		return fmt.Errorf("%w: it has none yet", store.ErrSchema)
	}
	if err != nil {
		return err
	}
	if current != s.wanted {
		return fmt.Errorf("%w: it has version %d, this program needs %d", store.ErrSchema, current, s.wanted)
	}
	return nil
}

// What is materialized and does not fit into memory goes into a temporary file, which makes no demand on the tables, the
// log or the vacuum, and which nothing is left of. It lies on the disk of the database.
const (
	spillLittle = `SELECT set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true)`
	spill       = `SELECT count(*) FROM generate_series(1, 20000)`
)

// CheckRoom implements store.Store: a temporary file of some hundred KiB.
func (s *Store) CheckRoom(ctx context.Context) error {
	return s.write(ctx, "write a temporary file", func(_ context.Context, t *tx) error {
		t.queue(spillLittle)
		t.queue(spill)
		return nil
	})
}

// ClusterID implements store.Store.
func (s *Store) ClusterID(ctx context.Context) (string, error) {
	var id string
	err := s.call(ctx, "read cluster id", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `SELECT id::text FROM cluster`).Scan(&id)
	})
	return id, err
}

const selectNow = `SELECT clock_timestamp()`

// Now implements store.Upkeep.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.call(ctx, "read clock", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, selectNow).Scan(&now)
	})
	return now, err
}
