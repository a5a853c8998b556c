package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// Changes reach the other coordinators, in order and whole; one's own do not come back; after a broken connection
// everything may have changed.
func TestWakeups(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	a, b := openAt(t, dsn, 2), openAt(t, dsn, 2)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan store.Change, 10)
	ended := make(chan error, 1)
	go func() { ended <- a.Listen(ctx, func(c store.Change) { heard <- c }) }()
	admin := connect(t, dsn)
	const listening = `SELECT count(*) = 1 FROM pg_stat_activity
		WHERE datname = current_database() AND query = 'LISTEN tallyman' AND state = 'idle'`
	waitFor(t, admin, listening)

	many := make([]int64, 1000)
	for i := range many {
		many[i] = 1<<60 + int64(i)
	}
	for _, c := range []struct {
		from *postgres.Store
		sent store.Change
		want []store.Change
	}{
		{b, store.Change{Jobs: []int64{1, 2, 1 << 60}}, []store.Change{{Jobs: []int64{1, 2, 1 << 60}}}},
		{a, store.Change{Jobs: []int64{3}}, nil},
		{b, store.Change{All: true}, []store.Change{{All: true}}},
		{b, store.Change{Jobs: many[:300]}, []store.Change{{Jobs: many[:300]}}},
		{b, store.Change{Jobs: many}, []store.Change{{All: true}}},
	} {
		if err := c.from.Notify(t.Context(), c.sent); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if diff := cmp.Diff(want, receive(t, heard)); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
		}
	}
	// What another program sends on the channel means anything.
	execute(t, admin, `NOTIFY tallyman, 'unheard of'`)
	if c := receive(t, heard); !c.All {
		t.Errorf("heard %+v, want All", c)
	}

	execute(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND query = 'LISTEN tallyman'`)
	if c := receive(t, heard); !c.All {
		t.Errorf("heard %+v after the connection broke, want All", c)
	}
	if err := b.Notify(t.Context(), store.Change{Jobs: []int64{7}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(store.Change{Jobs: []int64{7}}, receive(t, heard)); diff != "" {
		t.Errorf("heard afterwards (-want +got):\n%s", diff)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Listen: %v", err)
	}
}

func receive(t *testing.T, heard <-chan store.Change) store.Change {
	t.Helper()
	select {
	case c := <-heard:
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("nothing heard")
		return store.Change{}
	}
}
