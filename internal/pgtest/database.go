//go:build unix

package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable names the environment variable that holds the DSN of the server to use. The role needs the right to create
// databases; leftovers of test processes that were killed are dropped there by later ones.
const Variable = "TALLYMAN_TEST_POSTGRES"

const (
	prefix         = "tallyman_test_"
	cloneTimeout   = time.Minute
	migrateTimeout = 2 * time.Minute
)

// DSN returns the connection string of a new database that belongs to t and is dropped, with any connection still open
// to it, when t ends. The database is a copy of a template, which the first call with that name in this process makes
// by running migrate on an empty database; migrate must close its connections. A nil migrate leaves it empty. Calls
// with the same name must mean the same migration.
//
// It fails t when there is no server; it never skips. Safe for use by parallel tests.
func DSN(t testing.TB, template string, migrate func(ctx context.Context, dsn string) error) string {
	t.Helper()
	h, err := process()
	if err != nil {
		t.Fatalf("find a PostgreSQL for the test: %v", err)
	}
	source, err := h.template(template, migrate)
	if err != nil {
		t.Fatalf("migrate template %q: %v", template, err)
	}
	name, err := h.create(source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.drop(name); err != nil {
			t.Errorf("%v", err)
		}
	})
	return h.dsn(name)
}

// host is the server that the tests of this process share.
type host struct {
	maintenance string    // DSN of a database that always exists
	private     *Server   // nil if the server is given; kept, since a handle that is collected takes its server along
	run         string    // this process's part in the names of its databases
	life        *pgx.Conn // holds the advisory lock that says the process lives

	mu        sync.Mutex
	databases int
	templates map[string]*template
}

// template is a migrated database that others are copied from.
type template struct {
	once sync.Once
	name string
	err  error
}

// process returns the server of this process, found or started on the first call. The private one it may start is left
// to its supervisor: no code runs after a process's last test.
var process = sync.OnceValues(func() (*host, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	h := &host{
		maintenance: os.Getenv(Variable),
		run:         strings.ToLower(rand.Text()[:12]),
		templates:   map[string]*template{},
	}
	if h.maintenance == "" {
		var err error
		if h.private, err = Start(ctx, Config{}); err != nil {
			return nil, err
		}
		h.maintenance = h.private.DSN("postgres")
	}
	if u, err := url.Parse(h.maintenance); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, fmt.Errorf("read %s: want a URL, postgres://…", Variable)
	}
	return h, h.register(ctx)
})

// register takes the lock that marks this process's databases as in use, and drops those of processes that are gone.
func (h *host) register(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, h.maintenance)
	if err != nil {
		return fmt.Errorf("connect to test server: %w", err)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey(h.run)); err != nil {
		return fmt.Errorf("lock test databases: %w", err)
	}
	h.life = conn
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database WHERE starts_with(datname, $1)`, prefix)
	if err != nil {
		return fmt.Errorf("list test databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list test databases: %w", err)
	}
	for _, name := range names {
		run, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "_")
		var orphan bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lockKey(run)).Scan(&orphan); err != nil {
			return fmt.Errorf("lock test databases: %w", err)
		}
		if !orphan {
			continue // its process lives
		}
		// Another process may be doing the same just before or after us: gone is what we want.
		if _, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`); err != nil {
			return fmt.Errorf("drop leftover test database: %w", err)
		}
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, lockKey(run)); err != nil {
			return fmt.Errorf("unlock test databases: %w", err)
		}
	}
	return nil
}

// lockKey turns a run into the key of an advisory lock.
func lockKey(run string) int64 {
	var key [8]byte // of the 12 letters, 8 are enough to tell runs apart
	copy(key[:], run)
	return int64(binary.BigEndian.Uint64(key[:]))
}

func (h *host) template(name string, migrate func(context.Context, string) error) (string, error) {
	h.mu.Lock()
	tpl := h.templates[name]
	if tpl == nil {
		tpl = &template{}
		h.templates[name] = tpl
	}
	h.mu.Unlock()
	tpl.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), migrateTimeout)
		defer cancel()
		if tpl.name, tpl.err = h.create("template1"); tpl.err == nil && migrate != nil {
			tpl.err = migrate(ctx, h.dsn(tpl.name))
		}
	})
	return tpl.name, tpl.err
}

// create copies the database source under a new name.
func (h *host) create(source string) (string, error) {
	h.mu.Lock()
	h.databases++
	name := fmt.Sprintf("%s%s_%d", prefix, h.run, h.databases)
	h.mu.Unlock()
	if err := h.exec(`CREATE DATABASE ` + name + ` TEMPLATE ` + source); err != nil {
		return "", fmt.Errorf("create test database: %w", err)
	}
	return name, nil
}

func (h *host) drop(name string) error {
	if err := h.exec(`DROP DATABASE IF EXISTS ` + name + ` WITH (FORCE)`); err != nil {
		return fmt.Errorf("drop test database: %w", err)
	}
	return nil
}

// exec runs one statement on a connection of its own. A pool would leave a goroutine behind, which a test that looks
// for leaked ones would find.
func (h *host) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cloneTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, h.maintenance)
	if err != nil {
		return fmt.Errorf("connect to test server: %w", err)
	}
	if _, err = conn.Exec(ctx, statement); err != nil {
		_ = conn.Close(ctx) // the statement's error is the one to report
		return err
	}
	return conn.Close(ctx)
}

// dsn returns the connection string of another database of the server.
func (h *host) dsn(database string) string {
	u, err := url.Parse(h.maintenance)
	if err != nil {
		panic(err) // parsed before in process
	}
	u.Path = "/" + database
	return u.String()
}
