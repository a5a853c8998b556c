package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// engine is a [write.Engine].
type engine struct {
	pool   *pgxpool.Pool
	limits limits
}

// limits bounds waits inside the database. Their order matters: who waits for a lock gives up, and gives whoever holds
// it away if that one is silent for too long, several times within the writer's patience.
type limits struct {
	lock      time.Duration // for a lock
	idle      time.Duration // for the next statement of a transaction
	statement time.Duration // for the end of a statement
	silent    time.Duration // age of a transaction that says nothing, from which on it may be ended to get its locks
}

var defaultLimits = limits{lock: 5 * time.Second, idle: 10 * time.Second, statement: 2 * time.Minute, silent: 15 * time.Second}

// application names connections while they write.
const application = "tallyman store"

// settings are the parameters of sqlSettings.
func (l limits) settings() []any {
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	return []any{application, ms(l.lock), ms(l.statement), ms(l.idle)}
}

// sqlSettings bounds every wait of the transaction, and makes the planner walk indexes: statistics of young tables are
// missing, and a plan made while a table was empty stays in the connection while it grows.
const sqlSettings = `
SELECT set_config('application_name', $1, true),
       set_config('lock_timeout', $2, true),
       set_config('statement_timeout', $3, true),
       set_config('idle_in_transaction_session_timeout', $4, true),
       set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true),
       set_config('jit', 'off', true)`

// sqlEvict ends transactions of writers that have not said anything for long: a frozen process keeps its connection, and
// its transaction would keep the fence. One that is frozen in the middle of a statement is not idle to Postgres.
const sqlEvict = `
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = $1
  AND pid <> pg_backend_pid() AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - $2::interval`

const (
	sqlRaise = `
INSERT INTO fences (batch_id, attempt, job_id) VALUES ($1, $2, $3)
ON CONFLICT (batch_id) DO UPDATE SET attempt = excluded.attempt
WHERE fences.attempt <= excluded.attempt AND NOT fences.closed
RETURNING attempt`

	sqlCloseFences = `
INSERT INTO fences (batch_id, attempt, closed, job_id)
SELECT b, 0, true, $2 FROM unnest($1::bigint[]) b GROUP BY b ORDER BY b
ON CONFLICT (batch_id) DO UPDATE SET closed = true WHERE NOT fences.closed`

	sqlFence = `SELECT true FROM fences WHERE batch_id = $1 AND attempt = $2 AND NOT closed FOR NO KEY UPDATE`

	// The drafts come in order of their keys, and are inserted in it.
	sqlCreate = `
INSERT INTO documents (sourcedb, sourceid, text, length, text_sha256, composed_by, composed_until)
SELECT k.db, k.id, k.text, k.length, k.hash, k.by, k.by
FROM (SELECT unnest($1::text[]) AS db, unnest($2::text[]) AS id, unnest($3::text[]) AS text, unnest($4::integer[]) AS length,
             unnest($5::bytea[]) AS hash, unnest($6::bigint[]) AS by) k
ON CONFLICT (sourcedb, sourceid) DO NOTHING
RETURNING sourcedb, sourceid, id, nextval('project_documents_id_seq')`

	// A subquery with OFFSET 0 is run for each key, whatever the planner believes; so the keys' order is that of the locks.
	sqlLock = `
SELECT count(*) FROM unnest($1::text[], $2::text[]) k (db, id)
CROSS JOIN LATERAL (SELECT FROM documents WHERE sourcedb = k.db AND sourceid = k.id OFFSET 0 FOR NO KEY UPDATE) d`

	sqlDocuments = `
SELECT k.n, d.id, d.text_sha256 = k.hash, d.length, d.composed_by, d.composed_until,
       coalesce(p.id, nextval('project_documents_id_seq')), p.id IS NOT NULL,
       coalesce(p.replaced_by, 0), coalesce(p.last_job, 0), coalesce(p.merged_by, 0)
FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY k (db, id, hash, n)
CROSS JOIN LATERAL (
	SELECT id, text_sha256, length, composed_by, composed_until FROM documents WHERE sourcedb = k.db AND sourceid = k.id OFFSET 0) d
LEFT JOIN LATERAL (
	SELECT id, replaced_by, last_job, merged_by FROM project_documents WHERE project = $4 AND sourcedb = k.db AND sourceid = k.id OFFSET 0) p ON true`

	sqlDecided = `
SELECT i.item, i.outcome, coalesce(i.findings, '')
FROM unnest($2::bigint[]) k (item)
CROSS JOIN LATERAL (SELECT item, outcome, findings FROM store_items WHERE job_id = $1 AND item = k.item OFFSET 0) i`

	sqlAnchors = `
SELECT k.n, i.item, i.text_begin, i.text_length, i.text_level
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY k (db, id, n)
CROSS JOIN LATERAL (SELECT id FROM documents WHERE sourcedb = k.db AND sourceid = k.id OFFSET 0) d
CROSS JOIN LATERAL (
	SELECT item, text_begin, text_length, text_level FROM store_items WHERE document_id = d.id AND job_id = $3 OFFSET 0) i
ORDER BY k.n, i.item`

	sqlSkips = `
SELECT k.n, EXISTS (SELECT FROM annotation_spans WHERE project_document_id = p.id OFFSET 0), s.skipped
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY k (db, id, n)
CROSS JOIN LATERAL (
	SELECT id FROM project_documents WHERE project = $3 AND sourcedb = k.db AND sourceid = k.id OFFSET 0) p
LEFT JOIN LATERAL (SELECT skipped FROM store_skips WHERE job_id = $4 AND project_document_id = p.id OFFSET 0) s ON true`

	sqlClock = `SELECT clock_timestamp()`
)

// Raise implements [write.Engine].
func (e *engine) Raise(ctx context.Context, lease store.Lease) error {
	tx, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	raised := false
	b := &pgx.Batch{}
	b.Queue("begin")
	b.Queue(sqlSettings, e.limits.settings()...)
	if len(lease.Ancestors) > 0 {
		b.Queue(sqlCloseFences, lease.Ancestors, lease.Job)
	}
	b.Queue(sqlRaise, lease.Batch, lease.Attempt, lease.Job).Query(func(rows pgx.Rows) error {
		raised = rows.Next()
		rows.Close()
		return rows.Err()
	})
	b.Queue("commit")
	if err := tx.send(ctx, b); err != nil {
		return fmt.Errorf("raise fence: %w", err)
	}
	if !raised {
		return fmt.Errorf("%w: a later attempt has begun, or the batch was split", store.ErrFenced)
	}
	return nil
}

// Begin implements [write.Engine].
func (e *engine) Begin(ctx context.Context) (write.Tx, error) { return e.begin(ctx) }

func (e *engine) begin(ctx context.Context) (*tx, error) {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to annotation store: %w", err)
	}
	return &tx{engine: e, conn: conn, began: time.Now()}, nil
}

// Fault implements [write.Engine].
func (e *engine) Fault(err error) (write.Fault, string) { return fault(err) }

// evict makes way for the next try. That it failed shows in that try.
func (e *engine) evict(ctx context.Context) {
	_, _ = e.pool.Exec(ctx, sqlEvict, application, e.limits.silent)
}

// tx is a [write.Tx]. Statements are sent in batches, each in one round trip.
type tx struct {
	engine *engine
	conn   *pgxpool.Conn // nil once the transaction has ended
	began  time.Time
	busy   time.Duration // until it was committed

	// The database's clock showed clock no later than this process's showed read. What is left of a lease, counted from
	// read on, therefore ends in the database no later than the lease does.
	clock, read time.Time
}

// send sends a batch and reads its answers.
func (t *tx) send(ctx context.Context, b *pgx.Batch) error {
	return t.failed(ctx, t.conn.SendBatch(ctx, b).Close())
}

// failed does what an error of a statement asks for, and returns what it means.
func (t *tx) failed(ctx context.Context, err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case codeDeadline:
			return fmt.Errorf("%w: it has run out", store.ErrFenced)
		case codeLockTimeout:
			t.Rollback()
			t.engine.evict(ctx)
		}
	}
	return err
}

// Load implements [write.Tx]. Of a document that the transaction creates nothing else is there, and nobody else sees it, so
// that more is only asked, in a second round trip, about those that were known.
func (t *tx) Load(ctx context.Context, lease store.Lease, job store.Job, items []int64, drafts []write.Draft) (write.State, error) {
	state := write.State{Decided: make(map[int64]store.Result), Documents: make([]write.Document, len(drafts))}
	fenced := true
	b := &pgx.Batch{}
	b.Queue("begin")
	b.Queue(sqlSettings, t.engine.limits.settings()...)
	b.Queue(sqlFence, lease.Batch, lease.Attempt).Query(func(rows pgx.Rows) error {
		fenced = !rows.Next()
		rows.Close()
		return rows.Err()
	})
	if len(drafts) > 0 {
		queueCreation(b, job, drafts, &state)
	}
	b.Queue(sqlDecided, job.ID, items).Query(func(rows pgx.Rows) error {
		var item int64
		var outcome annotation.Outcome
		var findings string
		_, err := pgx.ForEachRow(rows, []any{&item, (*uint8)(&outcome), &findings}, func() error {
			list, err := write.DecodeFindings(findings)
			state.Decided[item] = store.Result{Outcome: outcome, Findings: list}
			return err
		})
		return err
	})
	b.Queue(sqlClock).QueryRow(func(row pgx.Row) error { return row.Scan(&t.clock) })
	if err := t.send(ctx, b); err != nil {
		return write.State{}, fmt.Errorf("load documents: %w", err)
	}
	t.read = time.Now()
	if fenced {
		return write.State{}, fmt.Errorf("%w: a later attempt has begun, or the batch was split", store.ErrFenced)
	}
	var known []int // of the drafts
	for i := range state.Documents {
		if !state.Documents[i].Created {
			known = append(known, i)
		}
	}
	if len(known) == 0 {
		return state, nil
	}
	b = &pgx.Batch{}
	read := queueDocuments(b, job, drafts, known, &state)
	if err := t.send(ctx, b); err != nil {
		return write.State{}, fmt.Errorf("load documents: %w", err)
	}
	if *read != len(known) {
		return write.State{}, fmt.Errorf("load documents: %d of %d are there", *read, len(known))
	}
	return state, nil
}

// queueCreation queues the creation of the documents that are unknown.
func queueCreation(b *pgx.Batch, job store.Job, drafts []write.Draft, state *write.State) {
	c := newDocumentColumns(job.ID, drafts)
	b.Queue(sqlCreate, c.dbs, c.ids, c.texts, c.lengths, c.hashes, c.composers).Query(func(rows pgx.Rows) error {
		var key annotation.Key
		var id, home int64
		next := 0 // rows come in the order of the drafts
		_, err := pgx.ForEachRow(rows, []any{&key.SourceDB, &key.SourceID, &id, &home}, func() error {
			for next < len(drafts) && drafts[next].Key != key {
				next++
			}
			if next == len(drafts) {
				return fmt.Errorf("document %s was not to be created, or not then", key)
			}
			by := drafts[next].Composer(job.ID)
			state.Documents[next] = write.Document{
				ID: id, Created: true, Same: true, Length: drafts[next].Length, ComposedBy: by, ComposedUntil: by, Home: home,
			}
			return nil
		})
		return err
	})
}

// queueDocuments queues what locks and reads documents that are known, those of some of the drafts. When it has been sent,
// it returns how many there were.
func queueDocuments(b *pgx.Batch, job store.Job, drafts []write.Draft, known []int, state *write.State) *int {
	n := len(known)
	dbs, ids, hashes := make([]string, n), make([]string, n), make([][]byte, n)
	for i, k := range known {
		d := &drafts[k]
		dbs[i], ids[i], hashes[i] = d.Key.SourceDB, d.Key.SourceID, d.Hash[:]
	}
	read := new(int)
	b.Queue(sqlLock, dbs, ids)
	b.Queue(sqlDocuments, dbs, ids, hashes, job.Project).Query(func(rows pgx.Rows) error {
		var n int
		var d write.Document
		into := []any{
			&n, &d.ID, &d.Same, &d.Length, &d.ComposedBy, &d.ComposedUntil, &d.Home, &d.HomeKnown, &d.ReplacedBy, &d.LastJob, &d.MergedBy,
		}
		_, err := pgx.ForEachRow(rows, into, func() error {
			state.Documents[known[n-1]] = d
			*read++
			return nil
		})
		return err
	})
	b.Queue(sqlAnchors, dbs, ids, job.ID).Query(func(rows pgx.Rows) error {
		var n int
		var a passages.Anchor
		_, err := pgx.ForEachRow(rows, []any{&n, &a.Item, &a.Begin, &a.Length, (*uint8)(&a.Level)}, func() error {
			d := &state.Documents[known[n-1]]
			d.Anchors = append(d.Anchors, a)
			return nil
		})
		return err
	})
	if job.Mode != store.ModeSkip {
		return read
	}
	b.Queue(sqlSkips, dbs, ids, job.Project, job.ID).Query(func(rows pgx.Rows) error {
		var n int
		var annotated bool
		var skip *bool
		_, err := pgx.ForEachRow(rows, []any{&n, &annotated, &skip}, func() error {
			d := &state.Documents[known[n-1]]
			d.Annotated, d.SkipDecided, d.Skip = annotated, skip != nil, skip != nil && *skip
			return nil
		})
		return err
	})
	return read
}

// Commit implements [write.Tx].
func (t *tx) Commit(ctx context.Context, changes *write.Changes, deadline func() time.Time) error {
	b := &pgx.Batch{}
	queue(b, changes)
	if b.Len() > 0 {
		if err := t.send(ctx, b); err != nil {
			return fmt.Errorf("write annotations: %w", err)
		}
	}
	c := &copying{}
	copyRows(c, changes)
	end := t.clock.Add(deadline().Sub(t.read)).UTC()
	c.statement("SELECT store_check_deadline('" + end.Format(timestampFormat) + "')")
	c.statement("COMMIT")
	tag, err := c.run(ctx, t.conn.Conn())
	if err = t.failed(ctx, err); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	if tag != "COMMIT" {
		return errors.New("write annotations: the transaction was rolled back")
	}
	t.busy = time.Since(t.began)
	t.release()
	return nil
}

// timestampFormat is that of PostgreSQL, whose times are in microseconds. What is behind them is left out, so that a
// deadline comes no later.
const timestampFormat = "2006-01-02 15:04:05.999999+00"

// Busy implements [write.Tx].
func (t *tx) Busy() time.Duration { return t.busy }

// rollbackTime bounds giving up a transaction; a connection that does not answer is closed.
const rollbackTime = 5 * time.Second

// Rollback implements [write.Tx].
func (t *tx) Rollback() {
	if t.conn == nil {
		return
	}
	if c := t.conn.Conn(); !c.IsClosed() && c.PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackTime)
		defer cancel()
		_, _ = t.conn.Exec(ctx, "rollback") // a connection on which it fails is not put back into the pool
	}
	t.release()
}

func (t *tx) release() {
	t.conn.Release()
	t.conn = nil
}
