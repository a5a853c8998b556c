package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// batchRow completes a common table expression "listed (id)" to a list of batches; an order follows it. A batch whose
// last ended attempt did not complete shows what that ended with; a culprit that was named as its batch was split, and had no
// attempt of its own, what that one ended with.
const batchRow = `
SELECT b.id, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.weight, b.state, b.attempt, b.failures,
       b.crashes, b.losses, b.outcomes, coalesce(b.session_id, 0), b.lease_expires_at, b.claimed_at, b.settled_at,
       b.available_at, coalesce(b.root_id, 0), coalesce(b.parent_id, 0), b.solo, b.suspect, b.beats, b.lone_deaths, b.died_on,
       coalesce((SELECT a.message FROM attempts a
                 WHERE a.batch_id = CASE WHEN b.attempt = 0 AND b.state = 4 THEN b.parent_id ELSE b.id END AND b.ended_as <> 'completed'
                 ORDER BY a.attempt DESC LIMIT 1), ''),
       coalesce((SELECT s.worker_id FROM sessions s WHERE s.id = coalesce(b.session_id, b.ended_session)), ''),
       p.documents, p.total
FROM listed l
JOIN batches b ON b.id = l.id AND b.id = ANY (ARRAY(SELECT id FROM listed))
CROSS JOIN LATERAL (
    SELECT d.documents[1:10] AS documents, cardinality(d.documents) AS total
    FROM (SELECT coalesce(b.documents, (SELECT w.documents FROM batch_payloads w WHERE w.batch_id = l.id)) AS documents OFFSET 0) d
) p
WHERE (SELECT j.deleted_at IS NULL FROM jobs j WHERE j.id = b.job_id)`

func scanBatch(row pgx.CollectableRow) (store.BatchRow, error) {
	var (
		r                                          store.BatchRow
		outcomes                                   []byte
		leaseEnds, claimedAt, settledAt, available *time.Time
	)
	b := &r.Batch
	err := row.Scan(&b.ID, &b.JobID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &b.DoneItems, &b.Weight, &b.State,
		&b.Attempt, &b.Failures, &b.Crashes, &b.Losses, &outcomes, &b.SessionID, &leaseEnds, &claimedAt, &settledAt,
		&available, &b.RootID, &b.ParentID, &b.Solo, &b.Suspect, &b.Beats, &b.LoneDeaths, &b.DiedOn, &b.Error, &r.WorkerID, &r.Documents, &r.Total)
	if err != nil {
		return r, err
	}
	b.LeaseExpiresAt, b.ClaimedAt = timeOf(leaseEnds), timeOf(claimedAt)
	b.SettledAt, b.AvailableAt = timeOf(settledAt), timeOf(available)
	if b.Outcomes, err = job.ParseRuns(outcomes); err != nil {
		return r, fmt.Errorf("batch %d: %w", b.ID, err)
	}
	return r, nil
}

// The lists of batches differ by the index that serves them. Those of a job begin behind ordinal $1 and id $2, have size $3,
// and are of job $4. Parts of one batch share its ordinal: all of an ordinal are read, so that its index says the order.
const (
	// All, or those in states that no index knows, in the order of what never changes. $5 states.
	listBatchesOfJob = `
WITH candidates AS (
    (SELECT p.batch_id AS id, p.ordinal
     FROM batch_payloads p
     WHERE p.job_id = $4 AND p.ordinal >= $1 AND (p.ordinal > $1 OR p.batch_id > $2)
       AND (cardinality($5::smallint[]) = 0
            OR (SELECT b.state = ANY ($5::smallint[]) FROM batches b WHERE b.id = p.batch_id))
     ORDER BY p.ordinal LIMIT $3)
    UNION ALL
    (SELECT b.id, b.ordinal FROM batches b
     WHERE b.job_id = $4 AND b.ordinal >= $1 AND (b.ordinal > $1 OR b.id > $2) AND b.root_id IS NOT NULL
       AND (cardinality($5::smallint[]) = 0 OR b.state = ANY ($5::smallint[]))
     ORDER BY b.ordinal FETCH FIRST $3 ROWS WITH TIES)
), listed AS (
    SELECT id FROM candidates ORDER BY ordinal, id LIMIT $3
)` + batchRow + ` ORDER BY b.ordinal, b.id`

	// In states that have indexes of their own. $5 whether pending, $6 whether running, $7 states of those that ended badly.
	listFewBatchesOfJob = `
WITH candidates AS (
    (SELECT b.id, b.ordinal FROM batches b
     WHERE $5 AND b.job_id = $4 AND b.ordinal >= $1 AND (b.ordinal > $1 OR b.id > $2) AND b.state = 0 AND b.available_at IS NULL
     ORDER BY b.ordinal FETCH FIRST $3 ROWS WITH TIES)
    UNION ALL
    (SELECT b.id, b.ordinal FROM batches b
     WHERE $5 AND b.job_id = $4 AND b.ordinal >= $1 AND (b.ordinal > $1 OR b.id > $2) AND ` + returnedBatches + `
     ORDER BY b.ordinal FETCH FIRST $3 ROWS WITH TIES)
    UNION ALL
    (SELECT b.id, b.ordinal FROM batches b
     WHERE $5 AND b.job_id = $4 AND b.ordinal >= $1 AND (b.ordinal > $1 OR b.id > $2) AND ` + choosyBatches + `
     ORDER BY b.ordinal FETCH FIRST $3 ROWS WITH TIES)
    UNION ALL
    (SELECT b.id, b.ordinal FROM batches b
     WHERE $6 AND b.job_id = $4 AND b.ordinal >= $1 AND (b.ordinal > $1 OR b.id > $2) AND b.session_id IS NOT NULL
     ORDER BY b.ordinal FETCH FIRST $3 ROWS WITH TIES)
    UNION ALL
    (SELECT b.id, b.ordinal FROM batches b
     WHERE b.job_id = $4 AND b.ordinal >= $1 AND (b.ordinal > $1 OR b.id > $2) AND b.state IN (3, 4, 5, 6)
       AND b.state = ANY ($7::smallint[])
     ORDER BY b.ordinal FETCH FIRST $3 ROWS WITH TIES)
), listed AS (
    SELECT id FROM candidates ORDER BY ordinal, id LIMIT $3
)` + batchRow + ` ORDER BY b.ordinal, b.id`

	// Those that held a document. $5 document, $6 states.
	listBatchesOfJobByDocument = `
WITH listed AS (
    SELECT b.id
    FROM batch_documents d JOIN batches b ON b.id = d.batch_id
    WHERE d.document = $5 AND b.job_id = $4 AND (b.ordinal, b.id) > ($1, $2)
      AND (cardinality($6::smallint[]) = 0 OR b.state = ANY ($6::smallint[]))
    ORDER BY b.ordinal, b.id
    LIMIT $3
)` + batchRow + ` ORDER BY b.ordinal, b.id`
)

// Those of all jobs. $1 is where the page begins and $2 its size.
const (
	// Those of all jobs that held a document, newest first. $3 document, $4 states.
	listBatchesByDocument = `
WITH listed AS (
    SELECT b.id
    FROM batch_documents d JOIN batches b ON b.id = d.batch_id
    WHERE d.document = $3 AND d.batch_id < $1
      AND (cardinality($4::smallint[]) = 0 OR b.state = ANY ($4::smallint[]))
      AND (SELECT j.deleted_at IS NULL FROM jobs j WHERE j.id = b.job_id)
    ORDER BY d.batch_id DESC
    LIMIT $2
)` + batchRow + ` ORDER BY b.id DESC`

	// All, newest first. $3 states.
	listAllBatches = `
WITH listed AS (
    SELECT b.id
    FROM batches b
    WHERE b.id < $1 AND (cardinality($3::smallint[]) = 0 OR b.state = ANY ($3::smallint[]))
      AND (SELECT j.deleted_at IS NULL FROM jobs j WHERE j.id = b.job_id)
    ORDER BY b.id DESC
    LIMIT $2
)` + batchRow + ` ORDER BY b.id DESC`

	// The slowest of a job. $1 job, $2 size, $3 states.
	listSlowestBatches = `
WITH listed AS (
    SELECT s.batch_id AS id, s.duration_us
    FROM slowest_batches s JOIN batches b ON b.id = s.batch_id
    WHERE s.job_id = $1 AND b.state > 1 AND (cardinality($3::smallint[]) = 0 OR b.state = ANY ($3::smallint[]))
    ORDER BY s.duration_us DESC, s.batch_id
    LIMIT $2
)` + batchRow + ` ORDER BY l.duration_us DESC, b.id`

	selectBatch = `WITH listed AS (SELECT $1::bigint AS id)` + batchRow
)

// ListBatches implements store.Listings.
func (s *Store) ListBatches(ctx context.Context, f store.BatchFilter, page store.Page) ([]store.BatchRow, error) {
	size, document := max(page.Size, 1), store.CleanText(f.Document, store.MaxDocument)
	states := make([]int16, len(f.States))
	for i, state := range f.States {
		states[i] = int16(state)
	}
	after, id := page.Place()
	const what = "list batches"
	switch {
	case f.Slowest:
		return s.batches(ctx, what, listSlowestBatches, f.JobID, size, states)
	case f.JobID != 0 && f.Document != "":
		return s.batches(ctx, what, listBatchesOfJobByDocument, after, id, size, f.JobID, document, states)
	case f.JobID != 0 && len(states) > 0 && !slices.Contains(f.States, job.BatchCompleted):
		return s.batches(ctx, what, listFewBatchesOfJob, after, id, size, f.JobID,
			slices.Contains(f.States, job.BatchPending), slices.Contains(f.States, job.BatchRunning), states)
	case f.JobID != 0:
		return s.batches(ctx, what, listBatchesOfJob, after, id, size, f.JobID, states)
	case f.Document != "":
		return s.batches(ctx, what, listBatchesByDocument, before(page), size, document, states)
	}
	return s.batches(ctx, what, listAllBatches, before(page), size, states)
}

func (s *Store) batches(ctx context.Context, what, sql string, args ...any) ([]store.BatchRow, error) {
	var list []store.BatchRow
	err := s.call(ctx, what, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanBatch)
		return err
	})
	return list, err
}

const attemptColumns = `
SELECT batch_id, attempt, session_id, worker_id, ended_as, message, claimed_at, ended_at, state_after, decision, beats, suspect, signal,
       exit_code, peak_memory, stderr, fingerprint
FROM attempts`

func scanAttempt(row pgx.CollectableRow) (store.Attempt, error) {
	var (
		a                           store.Attempt
		suspect                     int32
		signal, stderr, fingerprint *string
		code                        *int32
		memory                      *int64
	)
	err := row.Scan(&a.BatchID, &a.Attempt, &a.SessionID, &a.WorkerID, &a.Kind, &a.Message, &a.ClaimedAt, &a.EndedAt, &a.State,
		&a.Decision, &a.Beats, &suspect, &signal, &code, &memory, &stderr, &fingerprint)
	if signal != nil {
		a.Crash = &job.Crash{
			Suspect: suspect, Signal: *signal, ExitCode: *code, PeakMemory: *memory, Stderr: *stderr, Fingerprint: *fingerprint,
		}
	}
	return a, err
}

func (s *Store) attempts(ctx context.Context, what, sql string, args ...any) ([]store.Attempt, error) {
	var list []store.Attempt
	err := s.call(ctx, what, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanAttempt)
		return err
	})
	return list, err
}

const listAttempts = attemptColumns + ` WHERE batch_id = $1 ORDER BY attempt`

// GetBatch implements store.Listings.
func (s *Store) GetBatch(ctx context.Context, id int64) (store.BatchRow, []store.Attempt, error) {
	list, err := s.batches(ctx, "read batch", selectBatch, id)
	if err != nil {
		return store.BatchRow{}, nil, err
	}
	if len(list) == 0 {
		return store.BatchRow{}, nil, fmt.Errorf("batch %d: %w", id, store.ErrNotFound)
	}
	attempts, err := s.attempts(ctx, "read attempts", listAttempts, id)
	if err != nil {
		return store.BatchRow{}, nil, err
	}
	return list[0], attempts, nil
}

const listCrashes = attemptColumns + `
WHERE job_id = $1 AND ended_as IN ('died', 'lost')
ORDER BY ended_at DESC, batch_id DESC, attempt DESC
LIMIT $2`

// LastCrashes implements store.Listings.
func (s *Store) LastCrashes(ctx context.Context, jobID int64, limit int) ([]store.Attempt, error) {
	return s.attempts(ctx, "list crashes", listCrashes, jobID, max(limit, 1))
}

const listFindings = `
SELECT id, job_id, coalesce(batch_id, 0), item, severity, code, file, line, byte_offset, document, path, message
FROM findings
WHERE job_id = $1 AND (item, id) > ($2, $3)
  AND ($4 = 0 OR batch_id = $4) AND ($5 = 0 OR item = $5) AND ($6 = '' OR code = $6) AND ($7 = 0 OR severity = $7)
  AND (SELECT j.deleted_at IS NULL FROM jobs j WHERE j.id = $1)
ORDER BY item, id
LIMIT $8`

// errToken says that a page token is not one of ours.
var errToken = errors.New("the page token is damaged")

// ListFindings implements store.Listings.
func (s *Store) ListFindings(ctx context.Context, f store.FindingFilter, size int, token string) ([]store.Finding, string, error) {
	item, id, err := parseToken(token)
	if err != nil {
		return nil, "", fmt.Errorf("list findings: %w", err)
	}
	if f.Item > 0 && item < f.Item {
		item, id = f.Item, 0 // begin the search there
	}
	size = max(size, 1)
	var list []store.Finding
	err = s.call(ctx, "list findings", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, listFindings, f.JobID, item, id, f.BatchID, f.Item,
			store.CleanText(f.Code, store.MaxName), int16(f.Severity), size+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Finding, error) {
			var g store.Finding
			err := row.Scan(&g.ID, &g.JobID, &g.BatchID, &g.Item, &g.Severity, &g.Code, &g.File, &g.Line, &g.Offset,
				&g.Document, &g.Path, &g.Message)
			return g, err
		})
		return err
	})
	if err != nil || len(list) <= size {
		return list, "", err
	}
	list = list[:size]
	last := list[size-1]
	return list, strconv.FormatInt(last.Item, 36) + "-" + strconv.FormatInt(last.ID, 36), nil
}

// parseToken reads where a list of findings goes on. Findings about an upload have item 0, so that a list begins before.
func parseToken(token string) (item, id int64, err error) {
	if token == "" {
		return -1, 0, nil
	}
	first, second, ok := strings.Cut(token, "-")
	if !ok {
		return 0, 0, errToken
	}
	if item, err = strconv.ParseInt(first, 36, 64); err != nil {
		return 0, 0, errToken
	}
	if id, err = strconv.ParseInt(second, 36, 64); err != nil {
		return 0, 0, errToken
	}
	return item, id, nil
}
