package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// writer owns the one connection that writes. Whoever holds the queue's right may use it.
type writer struct {
	queue queue
	db    *sql.DB
	conn  *sql.Conn // nil after a failure from which it could not be brought back
	stmts map[string]*sql.Stmt

	relaxed bool // commits do not wait for the disk
}

// tx is one write transaction. Its statements are not bound to the caller's context: they are short, and a statement
// that was interrupted would leave the connection in doubt.
type tx struct {
	ctx context.Context
	w   *writer
	now time.Time // of the whole transaction
}

// write runs f in a transaction, once it is its turn. It returns after the commit, or nothing has changed.
func (s *Store) write(ctx context.Context, p priority, f func(*tx) error) error {
	return s.writer.run(ctx, p, true, f)
}

// renew is write for renewals of leases alone: the commit does not wait for the disk. A renewal that a power failure
// undoes costs an attempt at most; the next commit that does wait carries all that came before it.
func (s *Store) renew(ctx context.Context, f func(*tx) error) error {
	return s.writer.run(ctx, renewing, false, f)
}

func (w *writer) run(ctx context.Context, p priority, durable bool, f func(*tx) error) (err error) {
	if err := w.queue.acquire(ctx, p); err != nil {
		return err
	}
	defer w.queue.release()
	ctx = context.WithoutCancel(ctx)
	if err := w.ready(ctx, durable); err != nil {
		return err
	}
	t := &tx{ctx: ctx, w: w}
	if err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // an error or a panic
			if rollback := w.rollback(ctx); rollback != nil {
				err = errors.Join(err, rollback)
			}
		}
	}()
	t.now = time.Now().UTC().Truncate(time.Microsecond)
	if err := f(t); err != nil {
		return err
	}
	if err := t.exec("COMMIT"); err != nil {
		return err
	}
	done = true
	return nil
}

// ready makes sure of the connection and sets whether its commits wait for the disk.
func (w *writer) ready(ctx context.Context, durable bool) error {
	if w.conn == nil {
		conn, err := w.db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		w.conn, w.stmts, w.relaxed = conn, map[string]*sql.Stmt{}, false
	}
	if w.relaxed == !durable {
		return nil
	}
	level := "FULL"
	if !durable {
		level = "NORMAL"
	}
	if _, err := w.conn.ExecContext(ctx, "PRAGMA synchronous = "+level); err != nil {
		return fmt.Errorf("set how commits wait for the disk: %w", err)
	}
	w.relaxed = !durable
	return nil
}

// rollback ends a transaction that failed. SQLite has often done so itself.
func (w *writer) rollback(ctx context.Context) error {
	if _, err := w.conn.ExecContext(ctx, "ROLLBACK"); err == nil {
		return nil
	}
	var open bool
	if _, err := w.conn.ExecContext(ctx, "BEGIN"); err == nil {
		_, err = w.conn.ExecContext(ctx, "ROLLBACK")
		open = err != nil
	} else {
		open = true
	}
	if !open {
		return nil // there was no transaction left to end
	}
	return w.close()
}

// close gives up the connection.
func (w *writer) close() error {
	if w.conn == nil {
		return nil
	}
	var err error
	for _, s := range w.stmts {
		err = errors.Join(err, s.Close())
	}
	err = errors.Join(err, w.conn.Close())
	w.conn, w.stmts = nil, nil
	return err
}

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if s, ok := t.w.stmts[query]; ok {
		return s, nil
	}
	s, err := t.w.conn.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, err
	}
	t.w.stmts[query] = s
	return s, nil
}

// exec runs a statement. Its text must come from a bounded set: it stays prepared.
func (t *tx) exec(query string, args ...any) error {
	_, err := t.change(query, args...)
	return err
}

// change runs a statement and returns how many rows it changed.
func (t *tx) change(query string, args ...any) (int64, error) {
	r, err := t.run(query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// only runs a statement that must change exactly one row: that it does not is a bug, or another process's doing.
func (t *tx) only(query string, args ...any) error {
	n, err := t.change(query, args...)
	if err == nil && n != 1 {
		err = fmt.Errorf("changed %d rows instead of 1", n)
	}
	return err
}

// insert runs a statement and returns the id of the row that it inserted.
func (t *tx) insert(query string, args ...any) (int64, error) {
	r, err := t.run(query, args...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

func (t *tx) run(query string, args ...any) (sql.Result, error) {
	s, err := t.stmt(query) //nolint:sqlclosecheck // it stays prepared, as long as the connection lives
	if err != nil {
		return nil, err
	}
	return s.ExecContext(t.ctx, args...)
}

// query implements querier.
func (t *tx) query(query string, args ...any) (*sql.Rows, error) {
	s, err := t.stmt(query) //nolint:sqlclosecheck // it stays prepared, as long as the connection lives
	if err != nil {
		return nil, err
	}
	return s.QueryContext(t.ctx, args...)
}

// snapshot is a read transaction, whose queries all see the same state. Each is prepared once, however often it is made.
type snapshot struct {
	ctx   context.Context
	tx    *sql.Tx
	stmts map[string]*sql.Stmt // closed with tx
}

// query implements querier.
func (s *snapshot) query(query string, args ...any) (*sql.Rows, error) {
	stmt, ok := s.stmts[query]
	if !ok {
		var err error
		if stmt, err = s.tx.PrepareContext(s.ctx, query); err != nil {
			return nil, err
		}
		s.stmts[query] = stmt
	}
	return stmt.QueryContext(s.ctx, args...)
}

// read runs f on one state of the database. It never waits for a writer. Reads have their turn in the order in which they
// came: the pool of connections would choose by chance, which among thousands is as good as never.
func (s *Store) read(ctx context.Context, f func(*snapshot) error) error {
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	tx, err := s.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	err = f(&snapshot{ctx, tx, map[string]*sql.Stmt{}})
	if rollback := tx.Rollback(); err == nil && !errors.Is(rollback, sql.ErrTxDone) {
		err = rollback
	}
	return err
}

// querier is what reading needs: a write transaction or a snapshot.
type querier interface {
	query(query string, args ...any) (*sql.Rows, error)
}

// scanner reads one row.
type scanner interface {
	Scan(dest ...any) error
}

// scan is a function that is a scanner.
type scan func(dest ...any) error

func (f scan) Scan(dest ...any) error { return f(dest...) }

// each calls f for every row of a query.
func each(q querier, f func(scanner) error, query string, args ...any) (err error) {
	rows, err := q.query(query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one scans the only row of a query into dest; sql.ErrNoRows when there is none.
func one(q querier, dest []any, query string, args ...any) error {
	found := false
	err := each(q, func(row scanner) error {
		found = true
		return row.Scan(dest...)
	}, query, args...)
	if err == nil && !found {
		err = sql.ErrNoRows
	}
	return err
}

// collect returns f's value of every row.
func collect[T any](q querier, f func(scanner) (T, error), query string, args ...any) ([]T, error) {
	var list []T
	err := each(q, func(row scanner) error {
		v, err := f(row)
		if err == nil {
			list = append(list, v)
		}
		return err
	}, query, args...)
	return list, err
}

// number scans a row of one integer.
func number(row scanner) (n int64, err error) {
	err = row.Scan(&n)
	return n, err
}
