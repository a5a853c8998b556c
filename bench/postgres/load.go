package postgres

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// Load copies the rows of tables from one database to another, where these tables are there and empty, by COPY in one
// transaction, through files in a folder. What is timed is that of the target, the commit included.
func Load(ctx context.Context, from, to, folder string, tables []string, timed func(func() error) error) (rows int64, err error) {
	files := make(map[string]*os.File)
	defer func() {
		for _, f := range files {
			_ = f.Close() // what it holds has been read, or is of no use
		}
	}()
	err = connected(ctx, from, func(conn *pgx.Conn) error {
		for _, table := range tables {
			f, err := os.Create(filepath.Join(folder, table+".copy"))
			if err != nil {
				return err
			}
			files[table] = f
			if _, err := conn.PgConn().CopyTo(ctx, f, "COPY "+table+" TO STDOUT (FORMAT binary)"); err != nil {
				return err
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read what is to be loaded: %w", err)
	}
	err = connected(ctx, to, func(conn *pgx.Conn) error {
		return timed(func() error {
			return pgx.BeginFunc(ctx, conn, func(pgx.Tx) error {
				for _, table := range tables {
					tag, err := conn.PgConn().CopyFrom(ctx, files[table], "COPY "+table+" FROM STDIN (FORMAT binary)")
					if err != nil {
						return err
					}
					rows += tag.RowsAffected()
				}
				return nil
			})
		})
	})
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	return rows, nil
}
