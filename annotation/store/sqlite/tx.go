package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// engine is a [write.Engine]: one connection, which one transaction has at a time, and its prepared statements. What
// writes nothing is read by other connections.
type engine struct {
	turn       chan struct{} // holds a token while somebody has the connection
	closed     chan struct{}
	group      *group // that is open; nil: none. Of who has the turn
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
	if e.group != nil {
		e.end()
	}
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
	return owner, tx.commit(nil)
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
	if err := tx.commit(nil); err != nil {
		return fmt.Errorf("raise fence: %w", err)
	}
	if !found {
		return fmt.Errorf("%w: a later attempt has begun, or the batch was split", store.ErrFenced)
	}
	return nil
}

// Begin implements [write.Engine].
func (e *engine) Begin(ctx context.Context) (write.Tx, error) { return e.begin(ctx) }

// Fault implements [write.Engine].
func (e *engine) Fault(err error) (write.Fault, string) { return fault(err) }

// tx is a [write.Tx].
type tx struct {
	engine *engine
	ctx    context.Context
	group  *group
	began  time.Time
	busy   time.Duration // that it had the connection; set when it is added to its group
	open   bool
	failed error // the last of its statements
}

func (t *tx) statement(query string) (*sql.Stmt, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	return t.engine.prepared(query)
}

func (e *engine) prepared(query string) (*sql.Stmt, error) {
	if s := e.statements[query]; s != nil {
		return s, nil
	}
	s, err := e.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", err)
	}
	e.statements[query] = s
	return s, nil
}

func (t *tx) exec(query string, args ...any) error {
	s, err := t.statement(query) //nolint:sqlclosecheck // it is kept for the transactions to come
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.WithoutCancel(t.ctx), args...)
	return t.note(err)
}

// note remembers an error of a statement.
func (t *tx) note(err error) error {
	if err != nil {
		t.failed = err
	}
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
		return 0, t.note(err)
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
	return err == nil, t.note(err)
}

// rows calls each for every row that a query gives, after it was read into the variables.
func (t *tx) rows(query string, args, into []any, each func()) error {
	s, err := t.statement(query) //nolint:sqlclosecheck // it is kept for the transactions to come
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.WithoutCancel(t.ctx), args...)
	if err != nil {
		return t.note(err)
	}
	return t.note(scan(rows, into, each))
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

	sqlKnownHome = `
SELECT id, replaced_by, last_job, merged_by FROM project_documents WHERE project = ? AND sourcedb = ? AND sourceid = ?`

	sqlDecided = `SELECT item, outcome, coalesce(findings, '') FROM store_items WHERE job_id = ? AND item BETWEEN ? AND ?`

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
	if err := t.decided(job, items, state.Decided); err != nil {
		return write.State{}, fmt.Errorf("look for first answers: %w", err)
	}
	if err := t.documents(job, drafts, state.Documents); err != nil {
		return write.State{}, fmt.Errorf("load documents: %w", err)
	}
	return state, nil
}

// decided looks for the first answers of items. These are in order and, but for those that are not stored, all that are
// between the first and the last.
func (t *tx) decided(job store.Job, items []int64, into map[int64]store.Result) error {
	var item int64
	var outcome uint8
	var findings string
	var invalid error
	err := t.rows(sqlDecided, []any{job.ID, items[0], items[len(items)-1]}, []any{&item, &outcome, &findings}, func() {
		if _, ours := slices.BinarySearch(items, item); !ours {
			return
		}
		list, err := write.DecodeFindings(findings)
		if err != nil {
			invalid = err
		}
		into[item] = store.Result{Outcome: annotation.Outcome(outcome), Findings: list}
	})
	return cmp.Or(err, invalid)
}

// documents loads documents and creates those that are unknown.
func (t *tx) documents(job store.Job, drafts []write.Draft, into []write.Document) error {
	var home, last int64
	if _, err := t.row(`SELECT coalesce(max(id), 0) FROM project_documents`, nil, &home); err != nil {
		return err
	}
	if _, err := t.row(`SELECT coalesce(max(id), 0) FROM documents`, nil, &last); err != nil {
		return err
	}
	var created []int
	for i := range drafts {
		d := &into[i]
		known, err := t.document(job, &drafts[i], d)
		if err != nil {
			return fmt.Errorf("document %s: %w", drafts[i].Key, err)
		}
		if !known {
			last++
			d.ID = last
			created = append(created, i)
		}
		if home++; !d.HomeKnown {
			d.Home = home
		}
	}
	err := insert(t, &intoDocuments, created, func(values []any, i int) []any {
		d, draft := &into[i], &drafts[i]
		return append(values, d.ID, draft.Key.SourceDB, draft.Key.SourceID, draft.Text, int64(draft.Length), draft.Hash[:],
			d.ComposedBy, d.ComposedUntil)
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return nil
}

// document loads a document, or says how it will be created.
func (t *tx) document(job store.Job, draft *write.Draft, d *write.Document) (known bool, err error) {
	known, err = t.row(sqlDocument, []any{draft.Hash[:], draft.Key.SourceDB, draft.Key.SourceID},
		&d.ID, &d.Same, &d.Length, &d.ComposedBy, &d.ComposedUntil)
	if err != nil {
		return known, err
	}
	if !known {
		by := draft.Composer(job.ID)
		*d = write.Document{Created: true, Same: true, Length: draft.Length, ComposedBy: by, ComposedUntil: by}
		return false, nil
	}
	d.HomeKnown, err = t.row(sqlKnownHome, []any{job.Project, draft.Key.SourceDB, draft.Key.SourceID},
		&d.Home, &d.ReplacedBy, &d.LastJob, &d.MergedBy)
	if err != nil {
		return true, err
	}
	if job.Mode == store.ModeSkip && d.HomeKnown {
		if d.SkipDecided, err = t.row(sqlSkipped, []any{job.ID, d.Home}, &d.Skip); err != nil {
			return true, err
		}
		if _, err := t.row(sqlAnnotated, []any{d.Home}, &d.Annotated); err != nil {
			return true, err
		}
	}
	var a passages.Anchor
	into := []any{&a.Item, &a.Begin, &a.Length, (*uint8)(&a.Level)}
	return true, t.rows(sqlAnchors, []any{d.ID, job.ID}, into, func() { d.Anchors = append(d.Anchors, a) })
}

// Commit implements [write.Tx]. Nobody else can raise the fence while the transaction is open.
func (t *tx) Commit(_ context.Context, changes *write.Changes, deadline func() time.Time) error {
	if err := t.apply(changes); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	if !time.Now().Before(deadline()) {
		return fmt.Errorf("%w: it has run out", store.ErrFenced)
	}
	if err := t.commit(deadline); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	return nil
}

// Busy implements [write.Tx].
func (t *tx) Busy() time.Duration { return t.busy }
