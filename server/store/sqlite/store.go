// Package sqlite keeps what a coordinator must remember in one SQLite file: the embedded default, and the engine of
// fast, deterministic tests.
//
// One connection writes, and hands itself to the most urgent waiter (renewals, settlements, claims, ingest, upkeep); a
// few others read, each list from one state of the database. Commits wait for the disk, except those of mere renewals.
// Time is the process's clock, so that a whole coordinator can run under testing/synctest. The file is meant for one
// process at a time; a second one gets store.ErrUnavailable where the two collide, and never corrupts anything.
package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	driver "modernc.org/sqlite"

	"github.com/tallyman-dev/tallyman/migrations"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Defaults of a Config.
const (
	DefaultReaders     = 4
	DefaultBusyTimeout = 5 * time.Second
)

// Config says how to open a store. Zero values work, but for Path.
type Config struct {
	Path        string        // of the database file; its folder must exist
	Migrate     bool          // bring the schema up to date, creating it in a new file
	Readers     int           // connections that read; 0 means DefaultReaders
	BusyTimeout time.Duration // most time to wait for another process that holds the file; 0 means DefaultBusyTimeout
}

// Validate returns what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Path == "":
		return errors.New("the path of the database file is missing")
	case c.Readers < 0:
		return fmt.Errorf("the number of readers is %d, at least 1 is needed", c.Readers)
	case c.BusyTimeout < 0:
		return fmt.Errorf("the busy timeout is %v, it must not be negative", c.BusyTimeout)
	}
	return nil
}

// Store implements store.Store. It is safe for concurrent use.
type Store struct {
	writer  writer
	joint   joint
	readers *sql.DB
	turns   chan struct{} // as many as there are readers
	frames  *sql.Stmt     // selectFrame, of readers

	deliverEnds atomic.Bool // of jobs
}

var _ store.Store = (*Store)(nil)

// Open opens a database file. With c.Migrate it is created and brought up to date; without, a schema that is not this
// program's is store.ErrSchema. A schema newer than this program's always is.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if c.Readers == 0 {
		c.Readers = DefaultReaders
	}
	if c.BusyTimeout == 0 {
		c.BusyTimeout = DefaultBusyTimeout
	}
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	c.Path = path
	s := &Store{turns: make(chan struct{}, c.Readers)}
	if s.writer.db, err = c.pool(1, "rwc"); err != nil {
		return nil, wrap("open database", err)
	}
	if s.readers, err = c.pool(c.Readers, "rw"); err != nil {
		return nil, wrap("open database", errors.Join(err, s.Close()))
	}
	if err := s.prepare(ctx, c.Migrate); err != nil {
		return nil, wrap("open database "+c.Path, errors.Join(err, s.Close()))
	}
	return s, nil
}

// pool returns a pool of at most n connections, which stay open.
func (c Config) pool(n int, mode string) (*sql.DB, error) {
	q := url.Values{"mode": {mode}, "_txlock": {"deferred"}}
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", c.BusyTimeout.Milliseconds()), "foreign_keys(1)", "temp_store(memory)",
		"cache_size(-16384)",
	}
	if mode == "rw" {
		pragmas = append(pragmas, "query_only(1)")
	} else {
		pragmas = append(pragmas, "journal_mode(wal)", "synchronous(full)", "journal_size_limit(67108864)")
	}
	q["_pragma"] = pragmas
	u := url.URL{Path: filepath.ToSlash(c.Path)}
	connector, err := driver.NewConnector("file:" + u.EscapedPath() + "?" + q.Encode())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

func (s *Store) prepare(ctx context.Context, migrate bool) error {
	if migrate {
		if err := s.migrate(ctx); err != nil {
			return err
		}
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	var err error
	s.frames, err = s.readers.PrepareContext(ctx, selectFrame)
	return err
}

// migrate brings the schema up to date. Newer ones are left alone, and found out later. The commits of its many steps do not
// wait for the disk: the first one that waits carries them all, and until then nothing was told to anybody.
func (s *Store) migrate(ctx context.Context) (err error) {
	db := s.writer.db // has one connection
	if _, err := db.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); err != nil {
		return err
	}
	defer func() {
		_, restored := db.ExecContext(ctx, "PRAGMA synchronous = FULL")
		err = errors.Join(err, restored)
	}()
	return migrations.Up(ctx, migrations.SQLite, db)
}

// Check implements store.Store.
func (s *Store) Check(ctx context.Context) error {
	wanted, err := migrations.Wanted(migrations.SQLite)
	if err != nil {
		return wrap("check database", err)
	}
	current, err := migrations.Current(ctx, migrations.SQLite, s.readers)
	if err != nil {
		return wrap("check database", err)
	}
	switch {
	case current < wanted:
		return fmt.Errorf("check database: %w: it has version %d, this program needs %d: run the migration",
			store.ErrSchema, current, wanted)
	case current > wanted:
		return fmt.Errorf("check database: %w: it has version %d, this program knows %d: run a newer program",
			store.ErrSchema, current, wanted)
	}
	return nil
}

// CheckRoom implements store.Store: a page of the log.
func (s *Store) CheckRoom(ctx context.Context) error {
	err := s.writer.run(ctx, keeping, false, func(t *tx) error {
		return t.exec("PRAGMA user_version = 0") // it is not used, and written whatever it was
	})
	return wrap("write a page", err)
}

// ClusterID implements store.Store.
func (s *Store) ClusterID(ctx context.Context) (id string, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		return one(q, []any{&id}, "SELECT id FROM cluster")
	})
	return id, wrap("read cluster id", err)
}

// Now implements store.Upkeep: it is the process's clock.
func (s *Store) Now(context.Context) (time.Time, error) {
	return time.Now().UTC().Truncate(time.Microsecond), nil
}

// Notify implements store.Wakeups: there are no other coordinators.
func (s *Store) Notify(ctx context.Context, _ store.Change) error { return ctx.Err() }

// Listen implements store.Wakeups: there are no other coordinators, so it waits for the end of ctx.
func (s *Store) Listen(ctx context.Context, _ func(store.Change)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Close waits for the write that runs and closes the file. No other method may be called after it.
func (s *Store) Close() error {
	var err error
	if s.frames != nil {
		err = s.frames.Close()
	}
	if s.readers != nil {
		err = errors.Join(err, s.readers.Close())
	}
	if s.writer.db != nil {
		if e := s.writer.queue.acquire(context.Background(), renewing); e == nil {
			err = errors.Join(err, s.writer.close())
			s.writer.queue.release()
		}
		err = errors.Join(err, s.writer.db.Close())
	}
	return wrap("close database", err)
}

// Times are kept as microseconds since 1970; the zero time as null.

func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func moment(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return time.UnixMicro(us.Int64).UTC()
}

// placeholders returns n of them, for an IN.
func placeholders(n int) string {
	b := make([]byte, 0, 2*n)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '?')
	}
	return string(b)
}

// array is a JSON array of integers, for json_each.
func array(ids []int64) string {
	b := append(make([]byte, 0, 16*len(ids)+2), '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id, 10)
	}
	return string(append(b, ']'))
}

// texts is a JSON array of texts, for json_each.
func texts(list []string) string {
	encoded, err := json.Marshal(list)
	if err != nil {
		panic(err) // texts can always be written
	}
	return string(encoded)
}
