package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// slowestShown bounds lists of the slowest batches.
const slowestShown = 20

// batchQuery reads whole batches of jobs that are not being deleted. A batch shows the error of its last attempt that
// ended, unless that completed it; a culprit that was named as its batch was split, and had no attempt of its own, that of
// this batch.
const batchQuery = `SELECT b.id, b.job_id, b.ordinal, b.first_item, b.item_count, b.done_items, b.weight, b.state, b.attempt,
		b.failures, b.crashes, b.losses, b.outcomes, coalesce(b.session_id, 0), b.lease_expires_at, b.claimed_at, b.settled_at,
		b.available_at, b.root_id, b.parent_id, b.solo, b.suspect, b.beats, b.lone_deaths, b.died_on, coalesce(s.worker_id, ''),
		coalesce(b.documents, p.documents),
		CASE WHEN b.ended_as <> 'completed' THEN coalesce((SELECT a.message FROM attempts a
			WHERE a.batch_id = CASE WHEN b.attempt = 0 AND b.state = 4 THEN b.parent_id ELSE b.id END
			ORDER BY a.attempt DESC LIMIT 1), '') ELSE '' END
	FROM batches b
	JOIN jobs j ON j.id = b.job_id AND j.deleted_at IS NULL
	JOIN batch_payloads p ON p.batch_id = coalesce(b.root_id, b.id)
	LEFT JOIN sessions s ON s.id = coalesce(b.session_id, b.ended_session)
	WHERE b.id = ?`

func scanBatch(row scanner) (b store.BatchRow, err error) {
	var outcomes, documents []byte
	var expires, claimed, settled, available, root, parent sql.NullInt64
	err = row.Scan(&b.ID, &b.JobID, &b.Ordinal, &b.FirstItem, &b.ItemCount, &b.DoneItems, &b.Weight, &b.State, &b.Attempt,
		&b.Failures, &b.Crashes, &b.Losses, &outcomes, &b.SessionID, &expires, &claimed, &settled, &available, &root, &parent,
		&b.Solo, &b.Suspect, &b.Beats, &b.LoneDeaths, &b.DiedOn, &b.WorkerID, &documents, &b.Error)
	if err != nil {
		return b, err
	}
	b.LeaseExpiresAt, b.ClaimedAt = moment(expires), moment(claimed)
	b.SettledAt, b.AvailableAt = moment(settled), moment(available)
	b.RootID, b.ParentID = root.Int64, parent.Int64
	if b.Outcomes, err = job.ParseRuns(outcomes); err != nil {
		return b, fmt.Errorf("read batch %d: %w", b.ID, err)
	}
	b.Documents, b.Total, err = parseDocuments(documents)
	return b, err
}

// place is where a batch stands in a list.
type place struct {
	key int64 // its ordinal, or its id, as the list is sorted
	id  int64
}

func scanPlace(row scanner) (p place, err error) {
	err = row.Scan(&p.key, &p.id)
	return p, err
}

// ListBatches implements store.Listings. Each state is found by the index that leads to it, completed batches by the
// walk through the job's payloads.
func (s *Store) ListBatches(ctx context.Context, f store.BatchFilter, page store.Page) (list []store.BatchRow, err error) {
	page.Size = max(page.Size, 1)
	f.Document = store.CleanText(f.Document, store.MaxDocument)
	err = s.read(ctx, func(q *snapshot) error {
		list = nil
		places, err := findBatches(q, f, page)
		if err != nil {
			return err
		}
		for _, p := range places {
			rows, err := collect(q, scanBatch, batchQuery, p.id)
			if err != nil {
				return err
			}
			list = append(list, rows...)
		}
		return nil
	})
	return list, wrap("list batches", err)
}

func findBatches(q querier, f store.BatchFilter, page store.Page) ([]place, error) {
	key, id := page.Place()
	switch {
	case f.Slowest:
		return collect(q, scanPlace, `SELECT s.duration_us, s.batch_id FROM slowest_batches s JOIN batches b ON b.id = s.batch_id
			WHERE s.job_id = ? AND b.state > 1 AND `+inStates("b.state", f.States)+` ORDER BY s.duration_us DESC, s.batch_id LIMIT ?`,
			f.JobID, min(page.Size, slowestShown))
	case f.Document != "" && f.JobID != 0:
		return collect(q, scanPlace, `SELECT b.ordinal, b.id FROM batch_documents d JOIN batches b ON b.id = d.batch_id
			WHERE d.document = ? AND b.job_id = ? AND (b.ordinal, b.id) > (?, ?) AND `+inStates("b.state", f.States)+`
			ORDER BY b.ordinal, b.id LIMIT ?`, f.Document, f.JobID, key, id, page.Size)
	case f.Document != "":
		return collect(q, scanPlace, `SELECT d.batch_id, d.batch_id FROM batch_documents d JOIN batches b ON b.id = d.batch_id
			JOIN jobs j ON j.id = b.job_id AND j.deleted_at IS NULL
			WHERE d.document = ?1 AND (?2 = 0 OR d.batch_id < ?2) AND `+inStates("b.state", f.States)+`
			ORDER BY d.batch_id DESC LIMIT ?3`, f.Document, page.After, page.Size)
	case f.JobID == 0:
		return collect(q, scanPlace, `SELECT b.id, b.id FROM batches b JOIN jobs j ON j.id = b.job_id AND j.deleted_at IS NULL
			WHERE (?1 = 0 OR b.id < ?1) AND `+inStates("b.state", f.States)+` ORDER BY b.id DESC LIMIT ?2`, page.After, page.Size)
	}
	return batchesByState(q, f, page)
}

// Places of a job's batches behind one place, by what leads to them.
const (
	placesFrom    = "SELECT ordinal, id FROM batches WHERE job_id = ?1 AND ordinal >= ?2 AND (ordinal, id) > (?2, ?3) AND "
	placesInOrder = " ORDER BY ordinal, id LIMIT ?4"

	placesAll = `SELECT ordinal, batch_id FROM batch_payloads WHERE job_id = ?1 AND ordinal >= ?2 AND (ordinal, batch_id) > (?2, ?3)
		ORDER BY ordinal LIMIT ?4`
	placesParts   = placesFrom + "root_id IS NOT NULL" + placesInOrder
	placesFresh   = placesFrom + "state = 0 AND available_at IS NULL" + placesInOrder
	placesReturn  = placesFrom + returnedBatches + placesInOrder
	placesChoosy  = placesFrom + choosyBatches + placesInOrder
	placesRunning = placesFrom + "session_id IS NOT NULL" + placesInOrder
	placesDone    = `SELECT p.ordinal, b.id FROM batch_payloads p JOIN batches b ON b.id = p.batch_id
		WHERE p.job_id = ?1 AND p.ordinal >= ?2 AND (p.ordinal, p.batch_id) > (?2, ?3) AND b.state = 2 ORDER BY p.ordinal LIMIT ?4`
	placesDoneParts = placesFrom + "root_id IS NOT NULL AND state = 2" + placesInOrder
	placesBad       = placesFrom + "state > 2 AND state = %d" + placesInOrder
)

func batchesByState(q querier, f store.BatchFilter, page store.Page) ([]place, error) {
	queries := []string{placesAll, placesParts}
	if len(f.States) > 0 {
		queries = nil
	}
	for _, state := range slices.Compact(slices.Sorted(slices.Values(f.States))) {
		switch state {
		case job.BatchPending:
			queries = append(queries, placesFresh, placesReturn, placesChoosy)
		case job.BatchRunning:
			queries = append(queries, placesRunning)
		case job.BatchCompleted:
			queries = append(queries, placesDone, placesDoneParts)
		default:
			queries = append(queries, fmt.Sprintf(placesBad, state))
		}
	}
	key, id := page.Place()
	var all []place
	for _, query := range queries {
		list, err := collect(q, scanPlace, query, f.JobID, key, id, page.Size)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id)) })
	return all[:min(len(all), page.Size)], nil
}

// inStates is a condition on a column; no states narrow nothing.
func inStates(column string, states []job.BatchState) string {
	if len(states) == 0 {
		return "true"
	}
	ids := make([]int64, len(states))
	for i, s := range states {
		ids[i] = int64(s)
	}
	return column + " IN (SELECT value FROM json_each('" + array(ids) + "'))"
}

// GetBatch implements store.Listings.
func (s *Store) GetBatch(ctx context.Context, id int64) (b store.BatchRow, attempts []store.Attempt, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		rows, err := collect(q, scanBatch, batchQuery, id)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return store.ErrNotFound
		}
		b = rows[0]
		attempts, err = collect(q, scanAttempt, "SELECT "+attemptColumns+" FROM attempts WHERE batch_id = ? ORDER BY attempt", id)
		return err
	})
	return b, attempts, wrap("get batch", err)
}

const attemptColumns = `batch_id, attempt, session_id, worker_id, ended_as, message, state_after, claimed_at, ended_at, decision, beats,
	suspect, signal, exit_code, peak_memory, stderr, fingerprint`

func scanAttempt(row scanner) (a store.Attempt, err error) {
	var (
		claimed, ended              int64
		suspect                     int32
		signal, stderr, fingerprint sql.NullString
		exitCode, memory            sql.NullInt64
	)
	err = row.Scan(&a.BatchID, &a.Attempt, &a.SessionID, &a.WorkerID, &a.Kind, &a.Message, &a.State, &claimed, &ended, &a.Decision,
		&a.Beats, &suspect, &signal, &exitCode, &memory, &stderr, &fingerprint)
	if signal.Valid {
		a.Crash = &job.Crash{Suspect: suspect, Signal: signal.String, ExitCode: int32(exitCode.Int64), PeakMemory: memory.Int64,
			Stderr: stderr.String, Fingerprint: fingerprint.String}
	}
	a.ClaimedAt, a.EndedAt = time.UnixMicro(claimed).UTC(), time.UnixMicro(ended).UTC()
	return a, err
}

// LastCrashes implements store.Listings.
func (s *Store) LastCrashes(ctx context.Context, jobID int64, limit int) (list []store.Attempt, err error) {
	err = s.read(ctx, func(q *snapshot) (err error) {
		list, err = collect(q, scanAttempt, "SELECT "+attemptColumns+` FROM attempts
			WHERE job_id = ? AND ended_as IN ('died', 'lost') ORDER BY ended_at DESC, batch_id DESC LIMIT ?`, jobID, limit)
		return err
	})
	return list, wrap("list crashes", err)
}
