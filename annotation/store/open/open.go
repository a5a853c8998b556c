// Package open opens the annotation store that a --store flag names.
package open

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/postgres"
	"github.com/tallyman-dev/tallyman/annotation/store/sqlite"
)

// ErrScheme is returned for a name that is none of a store.
var ErrScheme = errors.New("a store is sqlite:PATH or postgres://…")

// Open opens a store: sqlite:PATH a file, which is created if need be, postgres://… or postgresql://… a database. The
// schema is brought up to date, which may take a while and waits for others that do the same.
func Open(ctx context.Context, name string) (store.Store, error) {
	scheme, rest, _ := strings.Cut(name, ":")
	switch scheme {
	case "sqlite":
		return opened(sqlite.Open(ctx, rest))
	case "postgres", "postgresql":
		return opened(postgres.Open(ctx, name))
	default:
		return nil, fmt.Errorf("open annotation store: %w", ErrScheme) // the name may hold a password
	}
}

// opened keeps a nil pointer from becoming an interface that is not nil.
func opened[S store.Store](s S, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
