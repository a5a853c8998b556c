package server

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

// brim is a store whose disk may be full: for what is large, or for everything.
type brim struct {
	store.Store
	large, all, unknown atomic.Bool
}

func (b *brim) CommitIngest(ctx context.Context, g store.IngestGroup) error {
	if b.large.Load() || b.all.Load() {
		return store.ErrFull
	}
	return b.Store.CommitIngest(ctx, g)
}

func (b *brim) CheckRoom(ctx context.Context) error {
	switch {
	case b.unknown.Load():
		return errors.New("no answer")
	case b.all.Load():
		return store.ErrFull
	}
	return b.Store.CheckRoom(ctx)
}

// healthy returns what the health service says of the whole, the database and its space.
func (c *coordinator) healthy() [3]bool {
	c.t.Helper()
	var all [3]bool
	for i, name := range []string{"", pb.HealthDatabase, pb.HealthSpace} {
		r, err := grpc_health_v1.NewHealthClient(c.conn).Check(c.ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
		c.must(err)
		all[i] = r.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
	}
	return all
}

const (
	fullMessage  = "the database has no space left: nothing is taken in, given out or recorded"
	againMessage = "the database has space again: all goes on"
)

// TestFullDiskIsNoticed fills the disk of an idle coordinator, and makes room again.
func TestFullDiskIsNoticed(t *testing.T) {
	inMemory(t, func(t *scene) {
		b := &brim{}
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			b.Store = s
			return b
		})
		want := func(when string, said, again int, health [3]bool) {
			t.Helper()
			if diff := cmp.Diff(health, c.healthy()); diff != "" {
				t.Errorf("%s: health (-want +got):\n%s", when, diff)
			}
			got := [2]int{len(c.log.lines(t, fullMessage)), len(c.log.lines(t, againMessage))}
			if diff := cmp.Diff([2]int{said, again}, got); diff != "" {
				t.Errorf("%s: said (-want +got):\n%s", when, diff)
			}
		}
		pass(2 * healthInterval)
		want("at first", 0, 0, [3]bool{true, true, true})
		b.all.Store(true)
		pass(2 * healthInterval)
		want("full", 1, 0, [3]bool{false, true, false})
		b.unknown.Store(true)
		pass(2 * healthInterval)
		want("full, when nobody knows", 1, 0, [3]bool{false, true, false})
		b.unknown.Store(false)
		b.all.Store(false)
		pass(2 * healthInterval)
		want("with room", 1, 1, [3]bool{true, true, true})
	})
}

// TestFullDiskIsSaidOnce has calls meet a disk that is full for all but what is very small.
func TestFullDiskIsSaidOnce(t *testing.T) {
	inMemory(t, func(t *scene) {
		b := &brim{}
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			b.Store = s
			return b
		})
		pass(healthInterval + time.Second)
		b.large.Store(true)
		for range 20 {
			u := c.open(c.ctx, header("squeezed"))
			u.chunk(lines(1, 9))
			c.must(u.Send(finish(u.at)))
			c.wantError("full", u.failure(), codes.Unavailable, "DATABASE_FULL")
			pass(100 * time.Millisecond)
		}
		if diff := cmp.Diff([3]bool{false, true, false}, c.healthy()); diff != "" {
			t.Errorf("health right after (-want +got):\n%s", diff)
		}
		if said, each := len(c.log.lines(t, fullMessage)), len(c.log.lines(t, "database has no space left")); said != 1 || each != 0 {
			t.Errorf("said %d times, and %d times of single calls; want once and never", said, each)
		}
		b.large.Store(false)
		pass(fullFor + healthInterval)
		if diff := cmp.Diff([3]bool{true, true, true}, c.healthy()); diff != "" {
			t.Errorf("health after a while (-want +got):\n%s", diff)
		}
		if n := len(c.log.lines(t, againMessage)); n != 1 {
			t.Errorf("said %d times that it goes on, want once", n)
		}
	})
}
