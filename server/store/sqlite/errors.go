package sqlite

import (
	"context"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tallyman-dev/tallyman/server/store"
)

// known are the errors that callers tell apart; they pass as they are.
var known = []error{
	store.ErrNotFound, store.ErrUploadFenced, store.ErrUploadMismatch, store.ErrSessionEnded, store.ErrJobOpen,
	store.ErrJobStopped, store.ErrUnavailable, store.ErrFull, store.ErrSchema, context.Canceled,
	context.DeadlineExceeded,
}

// wrap says what was being done when err came, and translates the driver's errors. A nil err stays nil.
func wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	for _, k := range known {
		if errors.Is(err, k) {
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	var e *driver.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", verb, err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s: %w: %s", verb, store.ErrFull, e.Error())
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s: %w: another process holds the database file: %s", verb, store.ErrUnavailable, e.Error())
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s: %w: %s", verb, store.ErrUnavailable, e.Error())
	default:
		return fmt.Errorf("%s: %w", verb, err)
	}
}
