package migrations

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"
)

var write = flag.Bool("snapshot", false, "write the schema that new SQLite databases begin with anew")

// New databases begin with a schema that migrations before made: it is the same as when all of them run.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	migrated := openSQLite(t)
	p, err := provider(SQLite, migrated)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if *write {
		if err := os.WriteFile("snapshot/sqlite.sql", snapshot(t, migrated), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("WRITTEN, AND NOTHING COMPARED: run the test again without -snapshot")
	}
	begun := openSQLite(t)
	if err := Up(t.Context(), SQLite, begun); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		`SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY type, name`,
		`SELECT version_id, is_applied, '', '' FROM ` + VersionTable + ` ORDER BY version_id`,
		`SELECT name, seq, '', '' FROM sqlite_sequence WHERE name <> '` + VersionTable + `' ORDER BY name`,
		`SELECT count(*), min(length(id)), '', '' FROM cluster`,
	} {
		if diff := cmp.Diff(rows(t, migrated, query), rows(t, begun, query)); diff != "" {
			t.Errorf("%s (-migrated +begun with the snapshot):\n%s", query, diff)
		}
	}
}

// Two databases that begin with the snapshot are two.
func TestSnapshotsAreClustersOfTheirOwn(t *testing.T) {
	t.Parallel()
	var ids [2]string
	for i := range ids {
		db := openSQLite(t)
		for range 2 { // the second time changes nothing
			if err := Up(t.Context(), SQLite, db); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.QueryRowContext(t.Context(), `SELECT id FROM cluster`).Scan(&ids[i]); err != nil {
			t.Fatal(err)
		}
	}
	if ids[0] == ids[1] {
		t.Errorf("both have the id %s", ids[0])
	}
}

func openSQLite(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "new.db")+"?_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	db.SetMaxOpenConns(1)
	return db
}

// rows returns what a query of four columns finds.
func rows(t *testing.T, db *sql.DB, query string) [][4]string {
	t.Helper()
	found, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	var all [][4]string
	for found.Next() {
		var row [4]string
		if err := found.Scan(&row[0], &row[1], &row[2], &row[3]); err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// snapshot writes a migrated database without anything in it as statements.
func snapshot(t *testing.T, db *sql.DB) []byte {
	t.Helper()
	var b strings.Builder
	b.WriteString("-- What migrations make of an empty database: written by go test ./migrations -run TestSnapshot -args -snapshot.\n\n")
	for _, row := range rows(t, db, `SELECT sql, '', '', '' FROM sqlite_master
		WHERE sql IS NOT NULL AND name <> 'sqlite_sequence' ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 ELSE 3 END, rowid`) {
		b.WriteString(row[0] + ";\n\n")
	}
	first, err := files.ReadFile("sqlite/00001_init.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, row, _ := strings.Cut(string(first), "INSERT INTO cluster ")
	row, _, found := strings.Cut(row, "\n);\n")
	if !found {
		t.Fatal("the first migration does not name the cluster")
	}
	b.WriteString("INSERT INTO cluster " + row + "\n);\n")
	for _, row := range rows(t, db, `SELECT version_id, '', '', '' FROM `+VersionTable+` ORDER BY version_id`) {
		fmt.Fprintf(&b, "INSERT INTO %s (version_id, is_applied) VALUES (%s, 1);\n", VersionTable, row[0])
	}
	return []byte(b.String())
}
