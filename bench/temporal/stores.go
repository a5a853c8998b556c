package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/tools/sql"
)

// stores are the DSNs of a server's two databases.
type stores struct{ main, visibility string }

// migrate makes Temporal's tables, by its own tool.
func (s stores) migrate() error {
	for _, one := range []struct{ dsn, schema string }{{s.main, "temporal"}, {s.visibility, "visibility"}} {
		to, err := reached(one.dsn)
		if err != nil {
			return err
		}
		host, port, err := net.SplitHostPort(to.ConnectAddr)
		if err != nil {
			return fmt.Errorf("read the address: %w", err)
		}
		attributes := url.Values{}
		for name, value := range to.ConnectAttributes {
			attributes.Set(name, value)
		}
		tool := []string{
			"temporal-sql-tool", "--plugin", to.PluginName, "--ep", host, "-p", port, "-u", to.User, "--pw", to.Password,
			"--db", to.DatabaseName, "--ca", attributes.Encode(), "-q",
		}
		for _, command := range [][]string{{"setup-schema", "-v", "0.0"}, {"update-schema", "--schema-name", "postgresql/v12/" + one.schema}} {
			if err := sql.RunTool(append(tool[:len(tool):len(tool)], command...)); err != nil {
				return fmt.Errorf("migrate %s: %w", one.schema, err)
			}
		}
	}
	return nil
}

// written returns how many bytes of log the database server has written since it was made.
func (s stores) written(ctx context.Context) (bytes int64, err error) {
	conn, err := pgx.Connect(ctx, s.main)
	if err == nil {
		defer conn.Close(context.WithoutCancel(ctx))
		err = conn.QueryRow(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&bytes)
	}
	if err != nil {
		return 0, fmt.Errorf("count what was written: %w", err)
	}
	return bytes, nil
}

// reached says how Temporal reaches a database.
func reached(dsn string) (*config.SQL, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, errors.New("the address of the database cannot be read") // its error would repeat the password
	}
	attributes := map[string]string{"sslmode": "disable"}
	for name, values := range u.Query() {
		attributes[name] = values[0]
	}
	host, port := u.Hostname(), u.Port()
	if attributes["host"] != "" { // a socket, which goes before what stands in front of the path
		host = "localhost"
	}
	if given := attributes["port"]; given != "" {
		port = given
	}
	if port == "" {
		port = "5432"
	}
	password, _ := u.User.Password()
	return &config.SQL{
		PluginName: postgresql.PluginNamePGX, ConnectAddr: net.JoinHostPort(host, port), ConnectProtocol: "tcp",
		User: u.User.Username(), Password: password, DatabaseName: strings.TrimPrefix(u.Path, "/"),
		ConnectAttributes: attributes, MaxConns: 20, MaxIdleConns: 20,
	}, nil
}
