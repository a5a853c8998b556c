package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallyman-dev/tallyman/server/store"
)

// SQLSTATE codes that something is done about.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	uniqueViolation      = "23505"
	diskFull             = "53100"
	undefinedTable       = "42P01"
)

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func isCode(err error, c string) bool { return code(err) == c }

// repeatable reports whether the transaction that failed with err may succeed when it is run again.
func repeatable(err error) bool {
	switch code(err) {
	case serializationFailure, deadlockDetected:
		return true
	}
	return false
}

// unavailable reports whether err says that the database cannot be worked with at the moment.
func unavailable(err error) bool {
	switch c := code(err); {
	case strings.HasPrefix(c, "08"), // connection exceptions
		strings.HasPrefix(c, "57P"), // being shut down, started, or the session was terminated
		strings.HasPrefix(c, "58"),  // the server's own input and output
		c == "53300",                // too many connections
		c == "25006",                // read-only: a standby, or a primary that was demoted
		c == "25P03",                // idle in transaction for too long
		c == "57014":                // a statement for too long
		return true
	case c != "":
		return false
	}
	var (
		connect *pgconn.ConnectError
		network net.Error
	)
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) // the connection was found closed
}

// translate turns a driver's error into one of package store's where it has one.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case isCode(err, diskFull):
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	case isCode(err, undefinedTable):
		return fmt.Errorf("%w: %w", store.ErrSchema, err)
	case unavailable(err):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}
