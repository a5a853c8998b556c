package server

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/store"
)

// healthInterval is the time between looks at the database.
const healthInterval = 5 * time.Second

// fullFor is for how long the database counts as full after somebody was told so. Those who are told so try again more
// often than that; and what is small may be written where something larger was not.
const fullFor = 3 * healthInterval

// room is whether the database has space left. It is also the handler of the coordinator's log, from which it learns of
// every call that was told that there is none, and to which it lets none of these through: that the disk is full is said
// once, by who looks after the health.
type room struct {
	slog.Handler
	told  *atomic.Pointer[time.Time] // when somebody was told so last; nil for never
	doubt chan struct{}
}

var _ slog.Handler = room{}

// newRoom returns a room whose log goes on to next.
func newRoom(next slog.Handler) room {
	return room{Handler: next, told: new(atomic.Pointer[time.Time]), doubt: make(chan struct{}, 1)}
}

// Handle implements slog.Handler.
func (r room) Handle(ctx context.Context, record slog.Record) error {
	full := false
	record.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		full = ok && errors.Is(err, store.ErrFull)
		return !full
	})
	if !full {
		return r.Handler.Handle(ctx, record)
	}
	now := time.Now()
	r.told.Store(&now)
	select {
	case r.doubt <- struct{}{}:
	default:
	}
	if !r.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return r.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (r room) WithAttrs(attrs []slog.Attr) slog.Handler {
	r.Handler = r.Handler.WithAttrs(attrs)
	return r
}

// WithGroup implements slog.Handler.
func (r room) WithGroup(name string) slog.Handler {
	r.Handler = r.Handler.WithGroup(name)
	return r
}

// checkHealth keeps the answers of the health service: serving while the database is reachable, its schema is ours, and it
// can be written.
func (s *Server) checkHealth(ctx context.Context) {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	full := false
	for {
		reachable := s.reachable(ctx)
		// What cannot be reached is neither: nothing new is known about its disk.
		if reachable {
			full = s.isFull(ctx, full)
		}
		s.health.SetServingStatus("", serving(reachable && !full))
		s.health.SetServingStatus(api.HealthDatabase, serving(reachable))
		s.health.SetServingStatus(api.HealthSpace, serving(!full))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.doubts(full):
		}
	}
}

// doubts returns what ends the wait for the next look early: somebody was told that the database is full, which was not
// known.
func (s *Server) doubts(full bool) <-chan struct{} {
	if full {
		return nil
	}
	return s.room.doubt
}

func serving(yes bool) grpc_health_v1.HealthCheckResponse_ServingStatus {
	if yes {
		return grpc_health_v1.HealthCheckResponse_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_NOT_SERVING
}

func (s *Server) reachable(ctx context.Context) bool {
	look, cancel := context.WithTimeout(ctx, healthInterval)
	defer cancel()
	return s.store.Check(look) == nil
}

// isFull looks whether the database has no space left, and says so when that has changed.
func (s *Server) isFull(ctx context.Context, before bool) bool {
	look, cancel := context.WithTimeout(ctx, healthInterval)
	defer cancel()
	err := s.store.CheckRoom(look)
	told := s.room.told.Load()
	full := errors.Is(err, store.ErrFull) || told != nil && time.Since(*told) < fullFor
	switch {
	case full == before || ctx.Err() != nil:
	case full:
		s.cfg.Logger.Error("the database has no space left: nothing is taken in, given out or recorded", "database",
			redact(s.cfg.Database), "reason", "make room on its disk; all goes on by itself then")
	case err != nil: // nobody knows
		return before
	default:
		s.cfg.Logger.Warn("the database has space again: all goes on", "database", redact(s.cfg.Database))
		select {
		case <-s.room.doubt: // it was about before
		default:
		}
	}
	return full
}
