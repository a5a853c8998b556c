package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/migrations"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // its database is dropped anyway
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func texts(t *testing.T, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// TestRoomIsLookedForByWriting forbids temporary files: nothing less than writing one meets a full disk. Another reason
// than that is no full disk.
func TestRoomIsLookedForByWriting(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	conn := connect(t, dsn)
	var database string
	if err := conn.QueryRow(t.Context(), `SELECT quote_ident(current_database())`).Scan(&database); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, `ALTER DATABASE `+database+` SET temp_file_limit = '8kB'`)
	s, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.CheckRoom(t.Context()); err == nil || errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "temp_file_limit") {
		t.Errorf("without temporary files: %v, want that these were tried", err)
	}
}

// Coordinators that start together migrate together; a schema that is not this program's is refused, and how is said.
func TestMigrate(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "", nil)
	if _, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn}); !errors.Is(err, store.ErrSchema) {
		t.Errorf("open an empty database: %v, want ErrSchema", err)
	}
	current, wanted, err := postgres.SchemaVersion(t.Context(), dsn)
	if err != nil || current != 0 || wanted < 1 {
		t.Errorf("an empty database has version %d, wanted %d, %v", current, wanted, err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := postgres.Migrate(t.Context(), dsn); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if current, wanted, err = postgres.SchemaVersion(t.Context(), dsn); err != nil || current != wanted {
		t.Errorf("a migrated database has version %d, wanted %d, %v", current, wanted, err)
	}
	s := openAt(t, dsn, 2)
	first, err := s.ClusterID(t.Context())
	if err != nil || len(first) != 36 {
		t.Errorf("cluster id %q, %v", first, err)
	}
	if again, err := openAt(t, dsn, 2).ClusterID(t.Context()); again != first || err != nil {
		t.Errorf("cluster id %q, then %q, %v", first, again, err)
	}

	execute(t, connect(t, dsn), `INSERT INTO `+migrations.VersionTable+` (version_id, is_applied) VALUES ($1, true)`, wanted+1)
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrSchema) {
		t.Errorf("check of a newer schema: %v, want ErrSchema", err)
	}
	if _, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn}); !errors.Is(err, store.ErrSchema) {
		t.Errorf("open with a newer schema: %v, want ErrSchema", err)
	}
}

// What is wrong with a connection string is said without quoting it.
func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []postgres.Config{
		{}, {DSN: "postgres://user:secret@host:port/name"}, {DSN: "postgres://host/name", MaxConns: -1},
	} {
		if err := c.Validate(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("config %+v: %v", c, err)
		}
	}
}

// People query the tables, so each table and column says what it is.
func TestComments(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.DSN(t, "coordinator", postgres.Migrate))
	tables := texts(t, conn, `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'`)
	if len(tables) < 10 {
		t.Errorf("tables are %v", tables)
	}
	missing := texts(t, conn, `
		SELECT c.relname || coalesce('.' || a.attname, '')
		FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> $1
		  AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)`, migrations.VersionTable)
	if len(missing) > 0 {
		t.Errorf("without a comment: %v", missing)
	}
}

// Whatever a program does wrong, the tables do not take what cannot be.
func TestConstraints(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.DSN(t, "coordinator", postgres.Migrate))
	execute(t, conn, `
		INSERT INTO jobs (upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, submitted_at, updated_at)
		VALUES ('a', 'p', 'k', 'm', '{}', '{}', '{}', 0, 'f', 0, now(), now())`)
	execute(t, conn, `INSERT INTO batches (job_id, ordinal, first_item, item_count, weight) VALUES (1, 0, 1, 10, 10)`)
	for _, wrong := range []string{
		`UPDATE jobs SET items_stored = -1`,
		`UPDATE jobs SET items_stored = 1`,
		`UPDATE jobs SET state = 'unheard of'`,
		`UPDATE jobs SET state = 'cancelling'`,
		`UPDATE jobs SET state = 'succeeded'`,
		`UPDATE jobs SET state = 'succeeded', ended_at = now(), batches_running = 1`,
		`UPDATE jobs SET state = 'succeeded', ended_at = now(), items_total = 1`,
		`UPDATE jobs SET deleted_at = now()`,
		`UPDATE batches SET state = 1`,
		`UPDATE batches SET state = 6`,
		`UPDATE batches SET session_id = 1`,
		`UPDATE batches SET state = 2, settled_at = now()`,
		`UPDATE batches SET state = 2, done_items = 10`,
		`UPDATE batches SET done_items = 11`,
		`UPDATE batches SET attempt = -1`,
		`UPDATE batches SET ended_as = 'unheard of'`,
		`UPDATE batches SET root_id = 1`,
		`UPDATE batches SET state = 2, done_items = 10, settled_at = now(), available_at = now()`,
		`INSERT INTO cluster (id, created_at) VALUES (gen_random_uuid(), now())`,
	} {
		if _, err := conn.Exec(t.Context(), wrong); err == nil {
			t.Errorf("taken: %s", wrong)
		}
	}
	execute(t, conn, `UPDATE batches SET state = 2, done_items = 10, settled_at = now()`)
}
