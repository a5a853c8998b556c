package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// engine is a [write.Engine]: one connection, which one transaction has at a time, and its prepared statements. What
// writes nothing is read by other connections.
type engine struct {
	turn       chan struct{} // holds a token while a transaction has the connection
	closed     chan struct{}
	conn       *sql.Conn
	reading    *sql.DB
	statements map[string]*sql.Stmt
}

func newEngine(conn *sql.Conn, reading *sql.DB) *engine {
	return &engine{
		turn: make(chan struct{}, 1), closed: make(chan struct{}), conn: conn, reading: reading,
		statements: make(map[string]*sql.Stmt),
	}
}

var errClosed = errors.New("the annotation store is closed")

func (e *engine) close() error {
	close(e.closed)
	e.turn <- struct{}{}
	errs := make([]error, 0, len(e.statements)+1)
	for _, s := range e.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, e.conn.Close())...)
}

// own makes the store belong to a coordinator database if it belongs to none, and returns whose it is.
func (e *engine) own(ctx context.Context, cluster string) (string, error) {
	tx, err := e.begin(ctx)
	if err != nil {
		return "", err
	}
	defer tx.Rollback()
	if err := tx.exec(`INSERT INTO store_owner (singleton, cluster_id) VALUES (1, ?) ON CONFLICT DO NOTHING`, cluster); err != nil {
		return "", err
	}
	var owner string
	if _, err := tx.row(`SELECT cluster_id FROM store_owner`, nil, &owner); err != nil {
		return "", err
	}
	return owner, tx.commit()
}

// Raise implements [write.Engine].
func (e *engine) Raise(ctx context.Context, lease store.Lease) error {
	tx, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, batch := range lease.Ancestors {
		err := tx.exec(`
			INSERT INTO fences (batch_id, attempt, closed, job_id) VALUES (?, 0, 1, ?) ON CONFLICT (batch_id) DO UPDATE SET closed = 1`,
			batch, lease.Job)
		if err != nil {
			return fmt.Errorf("close fence: %w", err)
		}
	}
	var raised int32
	found, err := tx.row(`
		INSERT INTO fences (batch_id, attempt, job_id) VALUES (?, ?, ?)
		ON CONFLICT (batch_id) DO UPDATE SET attempt = excluded.attempt
		WHERE fences.attempt <= excluded.attempt AND NOT fences.closed
		RETURNING attempt`, []any{lease.Batch, lease.Attempt, lease.Job}, &raised)
	if err != nil {
		return fmt.Errorf("raise fence: %w", err)
	}
	if err := tx.commit(); err != nil {
		return fmt.Errorf("raise fence: %w", err)
	}
	if !found {
		return fmt.Errorf("%w: a later attempt has begun, or the batch was split", store.ErrFenced)
	}
	return nil
}

// Begin implements [write.Engine].
func (e *engine) Begin(ctx context.Context) (write.Tx, error) { return e.begin(ctx) }

func (e *engine) begin(ctx context.Context) (*tx, error) {
	select {
	case <-e.closed:
		return nil, errClosed
	default:
	}
	select {
	case e.turn <- struct{}{}:
	case <-e.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the connection: %w", context.Cause(ctx))
	}
	if _, err := e.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		// An interruption may come when the transaction is open already; if it is not, there is nothing to give up.
		_, _ = e.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		<-e.turn
		return nil, fmt.Errorf("begin transaction: %w", err)
	}
	// From here on nothing waits, so a transaction is not interrupted: it is short, and looks at ctx between statements.
	return &tx{engine: e, ctx: ctx, open: true}, nil
}

// Fault implements [write.Engine].
func (e *engine) Fault(err error) (write.Fault, string) { return fault(err) }

// tx is a [write.Tx].
type tx struct {
	engine *engine
	ctx    context.Context
	open   bool
}

func (t *tx) statement(query string) (*sql.Stmt, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	if s := t.engine.statements[query]; s != nil {
		return s, nil
	}
	s, err := t.engine.conn.PrepareContext(context.WithoutCancel(t.ctx), query)
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", err)
	}
	t.engine.statements[query] = s
	return s, nil
}

func (t *tx) exec(query string, args ...any) error {
	s, err := t.statement(query) //nolint:sqlclosecheck // it is kept for the transactions to come
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.WithoutCancel(t.ctx), args...)
	return err
}

// changed is exec and returns how many rows it concerned.
func (t *tx) changed(query string, args ...any) (int64, error) {
	s, err := t.statement(query) //nolint:sqlclosecheck // it is kept for the transactions to come
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(context.WithoutCancel(t.ctx), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row reads the one row that a query gives, and reports whether there is one.
func (t *tx) row(query string, args []any, into ...any) (bool, error) {
	s, err := t.statement(query) //nolint:sqlclosecheck // it is kept for the transactions to come
	if err != nil {
		return false, err
	}
	err = s.QueryRowContext(context.WithoutCancel(t.ctx), args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// rows calls each for every row that a query gives, after it was read into the variables.
func (t *tx) rows(query string, args, into []any, each func()) error {
	s, err := t.statement(query) //nolint:sqlclosecheck // it is kept for the transactions to come
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.WithoutCancel(t.ctx), args...)
	if err != nil {
		return err
	}
	return scan(rows, into, each)
}

func scan(rows *sql.Rows, into []any, each func()) error {
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		each()
	}
	return rows.Err()
}

const (
	sqlDocument = `
SELECT id, text_sha256 = ?, length, composed_by, composed_until FROM documents WHERE sourcedb = ? AND sourceid = ?`

	sqlCreate = `
INSERT INTO documents (sourcedb, sourceid, text, length, text_sha256, composed_by, composed_until)
VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id`

	sqlKnownHome = `
SELECT id, replaced_by, last_job, merged_by FROM project_documents WHERE project = ? AND sourcedb = ? AND sourceid = ?`

	sqlSkipped   = `SELECT skipped FROM store_skips WHERE job_id = ? AND project_document_id = ?`
	sqlAnnotated = `SELECT EXISTS (SELECT 1 FROM annotation_spans WHERE project_document_id = ?)`
	sqlAnchors   = `SELECT item, text_begin, text_length, text_level FROM store_items WHERE document_id = ? AND job_id = ? ORDER BY item`
)

// Load implements [write.Tx].
func (t *tx) Load(_ context.Context, lease store.Lease, job store.Job, items []int64, drafts []write.Draft) (write.State, error) {
	state := write.State{Decided: make(map[int64]store.Result), Documents: make([]write.Document, len(drafts))}
	var attempt int32
	found, err := t.row(`SELECT attempt FROM fences WHERE batch_id = ? AND attempt = ? AND NOT closed`,
		[]any{lease.Batch, lease.Attempt}, &attempt)
	if err != nil {
		return write.State{}, fmt.Errorf("take fence: %w", err)
	}
	if !found {
		return write.State{}, fmt.Errorf("%w: a later attempt has begun, or the batch was split", store.ErrFenced)
	}
	for _, item := range items {
		var outcome uint8
		var findings string
		found, err := t.row(`SELECT outcome, coalesce(findings, '') FROM store_items WHERE job_id = ? AND item = ?`,
			[]any{job.ID, item}, &outcome, &findings)
		if err != nil {
			return write.State{}, fmt.Errorf("look for first answers: %w", err)
		}
		if !found {
			continue
		}
		list, err := write.DecodeFindings(findings)
		if err != nil {
			return write.State{}, err
		}
		state.Decided[item] = store.Result{Outcome: annotation.Outcome(outcome), Findings: list}
	}
	var home int64
	if _, err := t.row(`SELECT coalesce(max(id), 0) FROM project_documents`, nil, &home); err != nil {
		return write.State{}, fmt.Errorf("load documents: %w", err)
	}
	for i, draft := range drafts {
		home++
		d := &state.Documents[i]
		*d, err = t.document(job, draft)
		if err != nil {
			return write.State{}, fmt.Errorf("load document %s: %w", draft.Key, err)
		}
		if !d.HomeKnown {
			d.Home = home
		}
	}
	return state, nil
}

func (t *tx) document(job store.Job, draft write.Draft) (write.Document, error) {
	d := write.Document{}
	known, err := t.row(sqlDocument, []any{draft.Hash[:], draft.Key.SourceDB, draft.Key.SourceID},
		&d.ID, &d.Same, &d.Length, &d.ComposedBy, &d.ComposedUntil)
	if err != nil {
		return d, err
	}
	if !known {
		by := draft.Composer(job.ID)
		d = write.Document{Created: true, Same: true, Length: draft.Length, ComposedBy: by, ComposedUntil: by}
		_, err := t.row(sqlCreate, []any{
			draft.Key.SourceDB, draft.Key.SourceID, draft.Text, draft.Length, draft.Hash[:], by, by,
		}, &d.ID)
		return d, err
	}
	d.HomeKnown, err = t.row(sqlKnownHome, []any{job.Project, draft.Key.SourceDB, draft.Key.SourceID},
		&d.Home, &d.ReplacedBy, &d.LastJob, &d.MergedBy)
	if err != nil {
		return d, err
	}
	if job.Mode == store.ModeSkip && d.HomeKnown {
		if d.SkipDecided, err = t.row(sqlSkipped, []any{job.ID, d.Home}, &d.Skip); err != nil {
			return d, err
		}
		if _, err := t.row(sqlAnnotated, []any{d.Home}, &d.Annotated); err != nil {
			return d, err
		}
	}
	var a passages.Anchor
	into := []any{&a.Item, &a.Begin, &a.Length, (*uint8)(&a.Level)}
	err = t.rows(sqlAnchors, []any{d.ID, job.ID}, into, func() { d.Anchors = append(d.Anchors, a) })
	return d, err
}

// Commit implements [write.Tx]. Nobody else can raise the fence while the transaction is open.
func (t *tx) Commit(_ context.Context, changes *write.Changes, deadline func() time.Time) error {
	if err := t.apply(changes); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	if !time.Now().Before(deadline()) {
		return fmt.Errorf("%w: it has run out", store.ErrFenced)
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	return nil
}

func (t *tx) commit() error {
	if err := t.exec("COMMIT"); err != nil {
		return err
	}
	t.open = false
	<-t.engine.turn
	return nil
}

// Rollback implements [write.Tx].
func (t *tx) Rollback() {
	if !t.open {
		return
	}
	t.open = false
	// Where SQLite has rolled back by itself, there is nothing left to do.
	_, _ = t.engine.conn.ExecContext(context.WithoutCancel(t.ctx), "ROLLBACK")
	<-t.engine.turn
}
