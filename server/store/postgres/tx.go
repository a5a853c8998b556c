package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tallyman-dev/tallyman/server/store"
)

// attempts bounds how often a transaction is run that lost against others.
const attempts = 10

// tx is a transaction whose BEGIN travels with its first statements and whose COMMIT with its last ones. Statements are
// queued; send runs what is queued, in one round trip, and calls what was set for their answers.
type tx struct {
	conn  *pgxpool.Conn
	batch *pgx.Batch
	begun bool
}

// begin opens the transaction, unless it is. Every statement must see what was committed before it, whatever the
// database's default is.
func (t *tx) begin() {
	if !t.begun {
		t.begun = true
		t.batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	}
}

// queue adds a statement to what is sent next.
func (t *tx) queue(sql string, args ...any) *pgx.QueuedQuery {
	t.begin()
	return t.batch.Queue(sql, args...)
}

// send runs what is queued. After an error the transaction must be given up.
func (t *tx) send(ctx context.Context) error {
	if t.batch.Len() == 0 {
		return nil
	}
	b := t.batch
	t.batch = new(pgx.Batch)
	return t.conn.SendBatch(ctx, b).Close()
}

// copy sends what is queued and then rows into a table.
func (t *tx) copy(ctx context.Context, table string, columns []string, n int, row func(int) ([]any, error)) error {
	if n == 0 {
		return nil
	}
	t.begin()
	if err := t.send(ctx); err != nil {
		return err
	}
	_, err := t.conn.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(n, row))
	if err != nil {
		return fmt.Errorf("copy into %s: %w", table, err)
	}
	return nil
}

// commit sends what is queued together with COMMIT.
func (t *tx) commit(ctx context.Context) error {
	if !t.begun {
		return nil
	}
	var answer string
	t.batch.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		answer = tag.String()
		return nil
	})
	if err := t.send(ctx); err != nil {
		return err
	}
	if answer != "COMMIT" { // what a failed transaction is answered
		return fmt.Errorf("commit was answered with %q", answer)
	}
	return nil
}

// errNothing, returned by the function of a transaction, undoes it without being an error.
var errNothing = errors.New("nothing to change")

// write runs f in a transaction and commits what it did, with all that f left queued. It is the one place where a
// transaction that lost against others is run again, so f starts from nothing each time. what says what is being done,
// for errors.
func (s *Store) write(ctx context.Context, what string, f func(ctx context.Context, t *tx) error) error {
	err := s.bounded(ctx, func(ctx context.Context) error {
		for n := 1; ; n++ {
			err := s.once(ctx, f)
			if err == nil || !repeatable(err) || n == attempts {
				return err
			}
			// Those that lost together must not meet again.
			if err := pause(ctx, rand.N(time.Duration(n)*5*time.Millisecond)); err != nil {
				return err
			}
		}
	})
	if err != nil && !errors.Is(err, errNothing) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) once(ctx context.Context, f func(context.Context, *tx) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	t := &tx{conn: conn, batch: new(pgx.Batch)}
	err = f(ctx, t)
	if err == nil {
		err = t.commit(ctx)
	}
	if err != nil && conn.Conn().PgConn().TxStatus() != 'I' && !conn.Conn().IsClosed() {
		// The caller's context may have ended, and a connection left in a transaction would have to be thrown away.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		// Its own error says nothing that the first one does not; Release looks at the connection's state.
		_, _ = conn.Exec(clean, "ROLLBACK")
	}
	return err
}

// call runs f, which reads or is one statement, and translates its error. what says what is being done, for errors.
func (s *Store) call(ctx context.Context, what string, f func(ctx context.Context) error) error {
	if err := s.bounded(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// bounded runs f for at most callTimeout and translates its error.
func (s *Store) bounded(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := f(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the caller gave up; what the driver says about it is a consequence
	case limited.Err() != nil:
		return fmt.Errorf("%w: no answer within %v", store.ErrUnavailable, callTimeout)
	}
	return translate(err)
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each has scan called for every row of a queued statement's answer.
func each(q *pgx.QueuedQuery, scan func(row pgx.Rows) error) {
	q.Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// ids has the one number in each row of a queued statement's answer added to into.
func ids(q *pgx.QueuedQuery, into *[]int64) {
	each(q, func(row pgx.Rows) error {
		var id int64
		if err := row.Scan(&id); err != nil {
			return err
		}
		*into = append(*into, id)
		return nil
	})
}
