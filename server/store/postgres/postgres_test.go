package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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
	storetest.Model(t, cluster, modelRuns)
}

func TestCrowd(t *testing.T) {
	t.Parallel()
	storetest.Crowd(t, cluster)
}

// modelRuns is how many sequences the model tries by itself.
const modelRuns = 30

// cluster gives each coordinator a pool of its own on one database.
func cluster(tb testing.TB, coordinators int) storetest.Cluster {
	tb.Helper()
	dsn := pgtest.DSN(tb, "coordinator", postgres.Migrate)
	set := func(ctx context.Context, column string, batchID int64, d time.Duration) error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		tag, err := conn.Exec(ctx, `UPDATE batches SET `+column+` = clock_timestamp() + $2::interval
			WHERE id = $1 AND state = 0 AND `+column+` IS NOT NULL`, batchID, d)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("batch %d has no %s", batchID, column)
		}
		return err
	}
	c := storetest.Cluster{
		Postpone: func(ctx context.Context, batchID int64, d time.Duration) error {
			return set(ctx, "available_at", batchID, d)
		},
		Shun: func(ctx context.Context, batchID int64, d time.Duration) error {
			return set(ctx, "avoid_until", batchID, d)
		},
	}
	for range coordinators {
		c.Handles = append(c.Handles, openAt(tb, dsn, 4))
	}
	handles := c.Handles
	c.Reopen = func(i int) (store.Store, error) {
		if err := handles[i].Close(); err != nil {
			return nil, err
		}
		handles[i] = openAt(tb, dsn, 4)
		return handles[i], nil
	}
	return c
}

func TestLives(t *testing.T) {
	t.Parallel()
	storetest.Lives(t, open, 10)
}

func BenchmarkClaimSettle(b *testing.B) {
	storetest.BenchmarkClaimSettle(b, open)
}
