// Package postgres is what a bench needs of a PostgreSQL server: a database of its own, and how much was written there.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Database is an empty database that was made for a measurement.
type Database struct {
	DSN  string
	home string // DSN of the database from which it was made
	name string
}

// Create makes a database on the server of a DSN, as its user, who must be permitted to.
func Create(ctx context.Context, dsn string) (*Database, error) {
	d := &Database{home: dsn, name: "tallyman_bench_" + strings.ToLower(rand.Text())}
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		// The error of url.Parse would repeat the password.
		return nil, errors.New("the address of the database server must be a URL like postgres://user@host:5432/name")
	}
	u.Path = "/" + d.name
	d.DSN = u.String()
	if err := d.atHome(ctx, "CREATE DATABASE "+pgx.Identifier{d.name}.Sanitize()); err != nil {
		return nil, fmt.Errorf("make a database: %w", err)
	}
	return d, nil
}

// Drop removes the database and ends every connection to it.
func (d *Database) Drop(ctx context.Context) error {
	if err := d.atHome(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{d.name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("remove the database: %w", err)
	}
	return nil
}

func (d *Database) atHome(ctx context.Context, statement string) error {
	return connected(ctx, d.home, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
}

func connected(ctx context.Context, dsn string, use func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return use(conn)
}

// Version returns that of the server of a DSN.
func Version(ctx context.Context, dsn string) (version string, err error) {
	err = connected(ctx, dsn, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	})
	if err != nil {
		return "", fmt.Errorf("ask for the version of the database server: %w", err)
	}
	return version, nil
}

// Writes is what was written on a server since it began to count. Other databases of the server count for Bytes.
type Writes struct {
	Bytes   int64 // of the write-ahead log
	Rows    int64 // inserted, updated and deleted
	Updated int64
	Hot     int64 // updated without a new entry in any index
}

// Since returns what was written after an earlier count.
func (w Writes) Since(before Writes) Writes {
	return Writes{w.Bytes - before.Bytes, w.Rows - before.Rows, w.Updated - before.Updated, w.Hot - before.Hot}
}

// Writes counts. The statistics of the tables may lag behind by a second, the log's bytes do not.
func (d *Database) Writes(ctx context.Context) (Writes, error) {
	var w Writes
	err := connected(ctx, d.DSN, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT (SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint),
				coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint, coalesce(sum(n_tup_upd), 0)::bigint,
				coalesce(sum(n_tup_hot_upd), 0)::bigint
			FROM pg_stat_user_tables`).Scan(&w.Bytes, &w.Rows, &w.Updated, &w.Hot)
	})
	if err != nil {
		return w, fmt.Errorf("count what was written: %w", err)
	}
	return w, nil
}

// Processes returns the server's processes that are there now, but for the one that answers, by which their processor time
// can be looked up if the server is on this machine.
func (d *Database) Processes(ctx context.Context) ([]int, error) {
	var pids []int
	err := connected(ctx, d.DSN, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()`)
		if err != nil {
			return err
		}
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the processes of the database: %w", err)
	}
	return pids, nil
}

// Hold begins a transaction that sees the database as it is now until it is released, and keeps what dies meanwhile from
// being cleaned up.
func (d *Database) Hold(ctx context.Context) (release func() error, err error) {
	conn, err := pgx.Connect(ctx, d.DSN)
	if err != nil {
		return nil, fmt.Errorf("hold a snapshot: %w", err)
	}
	release = func() error { return conn.Close(context.WithoutCancel(ctx)) }
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class"); err != nil {
		return nil, errors.Join(fmt.Errorf("hold a snapshot: %w", err), release())
	}
	return release, nil
}
