package postgres_test

import (
	"context"
	"testing"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
	"github.com/tallyman-dev/tallyman/server/store/storetest"
)

// open opens a store on a migrated database of its own.
func open(tb testing.TB) store.Store {
	tb.Helper()
	return openAt(tb, pgtest.DSN(tb, "coordinator", postgres.Migrate), 4)
}

func openAt(tb testing.TB, dsn string, conns int32) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(context.WithoutCancel(tb.Context()), postgres.Config{DSN: dsn, MaxConns: conns, MinConns: 1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Test(t, open)
}

func TestModel(t *testing.T) {
	t.Parallel()
	storetest.Model(t, open, 10)
}

func BenchmarkClaimSettle(b *testing.B) {
	storetest.BenchmarkClaimSettle(b, open)
}
