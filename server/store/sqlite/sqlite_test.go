package sqlite

import (
	"path/filepath"
	"testing"

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
	storetest.Model(t, open, modelRuns)
}

func BenchmarkClaimSettle(b *testing.B) { storetest.BenchmarkClaimSettle(b, open) }
