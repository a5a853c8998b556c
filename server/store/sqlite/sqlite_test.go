package sqlite

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/storetest"
)

// opened opens a new store that belongs to tb.
func opened(tb testing.TB) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), Config{Path: filepath.Join(tb.TempDir(), "tallyman.db"), Migrate: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close store: %v", err)
		}
	})
	return s
}

func open(tb testing.TB) store.Store {
	tb.Helper()
	return opened(tb)
}

func TestStore(t *testing.T) { storetest.Test(t, open) }

func TestStoreModel(t *testing.T) {
	t.Parallel()
	storetest.Model(t, cluster, modelRuns)
}

func TestCrowd(t *testing.T) {
	t.Parallel()
	storetest.Crowd(t, cluster)
}

// cluster gives the one store to every coordinator: a database belongs to one process here.
func cluster(tb testing.TB, coordinators int) storetest.Cluster {
	tb.Helper()
	s := opened(tb)
	return storetest.Cluster{
		Handles: slices.Repeat([]store.Store{s}, coordinators),
		Postpone: func(ctx context.Context, batchID int64, d time.Duration) error {
			return s.write(ctx, settling, func(t *tx) error {
				return t.only("UPDATE batches SET available_at = ? WHERE id = ? AND state = 0 AND available_at IS NOT NULL",
					micros(t.now.Add(d)), batchID)
			})
		},
		Shun: func(ctx context.Context, batchID int64, d time.Duration) error {
			return s.write(ctx, settling, func(t *tx) error {
				return t.only("UPDATE batches SET avoid_until = ? WHERE id = ? AND state = 0 AND avoid_until IS NOT NULL",
					micros(t.now.Add(d)), batchID)
			})
		},
		Looks: true,
	}
}

func TestStoreLives(t *testing.T) {
	t.Parallel()
	storetest.Lives(t, open, modelRuns)
}

func BenchmarkClaimSettle(b *testing.B) { storetest.BenchmarkClaimSettle(b, open) }
