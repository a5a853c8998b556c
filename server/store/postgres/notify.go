package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	channel = "tallyman"
	// payloadBytes is the most that a notification may carry; the server refuses 8000.
	payloadBytes = 7900
	// everything stands for a change that names no jobs.
	everything = "*"

	backoffFirst = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
	// listenProbe is how long a listening connection may be silent before it is asked whether it lives.
	listenProbe = 15 * time.Second
)

// Notify implements store.Wakeups. The payload is the sender's id, a space, and the ids of jobs with commas.
func (s *Store) Notify(ctx context.Context, c store.Change) error {
	return s.call(ctx, "notify coordinators", func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, s.payload(c))
		return err
	})
}

func (s *Store) payload(c store.Change) string {
	b := append([]byte(s.sender), ' ')
	if !c.All {
		start := len(b)
		for i, id := range c.Jobs {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, id, 10)
			if len(b) > payloadBytes {
				return string(b[:start]) + everything
			}
		}
		return string(b)
	}
	return string(b) + everything
}

// change reads a payload; ok is false for our own. One that is not understood, since a newer coordinator may say more,
// means that everything may have changed.
func (s *Store) change(payload string) (c store.Change, ok bool) {
	sender, list, _ := strings.Cut(payload, " ")
	if sender == s.sender {
		return c, false
	}
	for text := range strings.SplitSeq(list, ",") {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return store.Change{All: true}, true
		}
		c.Jobs = append(c.Jobs, id)
	}
	return c, true
}

// Listen implements store.Wakeups. It returns nil when ctx ends and no other error: while the database cannot be reached
// it tries again, at least every few seconds.
func (s *Store) Listen(ctx context.Context, f func(store.Change)) error {
	wait, before := backoffFirst, false
	for ctx.Err() == nil {
		listened := s.listen(ctx, func() {
			wait = backoffFirst
			if before {
				f(store.Change{All: true})
			}
			before = true
		}, f)
		if !listened {
			before = true // what was missed meanwhile must be looked for
		}
		_ = pause(ctx, wait/2+rand.N(wait/2)) // the loop looks at ctx itself
		wait = min(2*wait, backoffMost)
	}
	return nil
}

// listen calls ready once it listens, and f for every change, until the connection breaks or ctx ends. It tells whether
// it came to listen.
func (s *Store) listen(ctx context.Context, ready func(), f func(store.Change)) (listened bool) {
	config := s.pool.Config().ConnConfig
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		_ = conn.Close(clean) // nothing is lost with it
	}()
	if err := probe(ctx, conn, `LISTEN `+channel); err != nil {
		return false
	}
	ready()
	for {
		n, err := next(ctx, conn)
		if ctx.Err() != nil {
			return true
		}
		if err != nil && !pgconn.Timeout(err) {
			return true
		}
		if err != nil {
			if err := probe(ctx, conn, `SELECT 1`); err != nil {
				return true
			}
			continue
		}
		if c, ok := s.change(n.Payload); ok {
			f(c)
		}
	}
}

// next waits for a notification, for a bounded time.
func next(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	ctx, cancel := context.WithTimeout(ctx, listenProbe)
	defer cancel()
	return conn.WaitForNotification(ctx)
}

// probe runs a statement that answers at once, if the connection lives.
func probe(ctx context.Context, conn *pgx.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("probe listening connection: %w", errors.Join(err, ctx.Err()))
	}
	return nil
}
