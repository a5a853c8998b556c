package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// shownDocuments bounds the documents of a batch in logs and lists.
const shownDocuments = 10

// held is what the end of an attempt, or a beat, needs to know of a batch.
type held struct {
	job.Lease
	jobID     int64
	firstItem int64
	itemCount int32
	doneItems int32
	failures  int32
	crashes   int32
	losses    int32
	lone      int32 // losses
	running   bool
	expires   int64
	claimed   int64

	endedSession int64
	endedAs      job.EndKind
	state        job.BatchState
}

const heldColumns = `id, attempt, coalesce(session_id, 0), job_id, first_item, item_count, done_items, failures, crashes, losses, lone_losses,
	coalesce(lease_expires_at, 0), coalesce(claimed_at, 0), coalesce(ended_session, 0), coalesce(ended_as, ''), state`

func scanHeld(row scanner) (h held, err error) {
	err = row.Scan(&h.BatchID, &h.Attempt, &h.SessionID, &h.jobID, &h.firstItem, &h.itemCount, &h.doneItems, &h.failures, &h.crashes,
		&h.losses, &h.lone, &h.expires, &h.claimed, &h.endedSession, &h.endedAs, &h.state)
	h.running = h.state == job.BatchRunning
	return h, err
}

// batch reads a batch; found is false when there is none.
func (t *tx) batch(id int64) (h held, found bool, err error) {
	err = each(t, func(row scanner) error {
		found = true
		h, err = scanHeld(row)
		return err
	}, "SELECT "+heldColumns+" FROM batches WHERE id = ?", id)
	return h, found, err
}

// group is a write transaction that changes what jobs and sessions count. flush writes that down: one delta per job,
// one update per session.
type group struct {
	*tx
	deltas   map[int64]*job.Delta
	jobs     map[int64]jobRules
	sessions map[int64]*sessionCounts
	ended    []store.Ended
}

// jobRules is what decides on the end of an attempt, besides its batch.
type jobRules struct {
	state  job.State
	policy job.Policy
	run    int32
}

type sessionCounts struct {
	workerID           string
	completed, crashed int64
}

func newGroup(t *tx) *group {
	return &group{tx: t, deltas: map[int64]*job.Delta{}, jobs: map[int64]jobRules{}, sessions: map[int64]*sessionCounts{}}
}

// delta returns what the transaction has changed of a job so far, to be added to.
func (g *group) delta(jobID int64) *job.Delta {
	d := g.deltas[jobID]
	if d == nil {
		d = new(job.Delta)
		g.deltas[jobID] = d
	}
	return d
}

// rules returns a job's state, policy and run; zero when there is no such job.
func (g *group) rules(jobID int64) (jobRules, error) {
	if r, ok := g.jobs[jobID]; ok {
		return r, nil
	}
	var r jobRules
	err := each(g, func(row scanner) error {
		var policy []byte
		if err := row.Scan(&r.state, &policy, &r.run); err != nil {
			return err
		}
		return json.Unmarshal(policy, &r.policy)
	}, "SELECT state, policy, run FROM jobs WHERE id = ? AND deleted_at IS NULL", jobID)
	if err != nil {
		return r, fmt.Errorf("read rules of job %d: %w", jobID, err)
	}
	g.jobs[jobID] = r
	return r, nil
}

func (g *group) session(id int64) (*sessionCounts, error) {
	if c := g.sessions[id]; c != nil {
		return c, nil
	}
	c := new(sessionCounts)
	err := each(g, func(row scanner) error { return row.Scan(&c.workerID) },
		"SELECT worker_id FROM sessions WHERE id = ?", id)
	g.sessions[id] = c
	return c, err
}

// add adds outcomes to a running batch, and records the findings of the items whose outcome becomes final with them.
// runs starts at the first item without an outcome.
func (g *group) add(h *held, runs []job.Run, findings []store.Finding) error {
	n := job.Items(runs)
	err := g.only(`UPDATE batches SET done_items = done_items + ?, outcomes = CAST(outcomes || ? AS BLOB)
		WHERE id = ? AND attempt = ? AND session_id = ?`,
		n, blob(job.AppendRuns(nil, runs)), h.BatchID, h.Attempt, h.SessionID)
	if err != nil {
		return fmt.Errorf("add outcomes to batch %d: %w", h.BatchID, err)
	}
	d := g.delta(h.jobID)
	d.ItemsInFlight -= int64(n)
	d.Done(h.BatchID, h.firstItem, h.doneItems, runs)
	before := h.doneItems
	h.doneItems += n
	return g.find(h, before, findings)
}

// find records findings about items from position from to the last done one.
func (g *group) find(h *held, from int32, findings []store.Finding) error {
	for _, f := range findings {
		if f.Position < from || f.Position >= h.doneItems {
			continue
		}
		f.JobID, f.BatchID = h.jobID, h.BatchID
		if err := g.finding(f); err != nil {
			return err
		}
	}
	return nil
}

// finding records one finding and counts it.
func (g *group) finding(f store.Finding) error {
	f = f.Clean()
	if f.Severity == store.Error {
		g.delta(f.JobID).Errors++
	} else {
		g.delta(f.JobID).Warnings++
	}
	batch := sql.NullInt64{Int64: f.BatchID, Valid: f.BatchID != 0}
	return g.exec(`INSERT INTO findings (job_id, batch_id, item, severity, code, file, line, byte_offset, document, path, message)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		f.JobID, batch, f.Item, f.Severity, f.Code, f.File, f.Line, f.Offset, f.Document, f.Path, f.Message)
}

// end ends the attempt of a running batch as package job decides, and returns the batch's state after it. runs starts
// at the first item without an outcome.
func (g *group) end(h *held, end job.End, runs []job.Run, findings []store.Finding) (job.BatchState, error) {
	rules, err := g.rules(h.jobID)
	if err != nil {
		return 0, err
	}
	session, err := g.session(h.SessionID)
	if err != nil {
		return 0, err
	}
	before := h.doneItems
	done := before + job.Items(runs)
	decision := job.Decide(&job.Batch{
		ItemCount: h.itemCount, DoneItems: done, Failures: h.failures, Crashes: h.crashes, Losses: h.losses,
		LoneLosses: h.lone,
	}, end.Kind, end.Retryable, rules.state, rules.policy)
	if decision.State.Ended() && done < h.itemCount {
		runs = append(slices.Clip(runs), job.Run{Count: h.itemCount - done, Outcome: decision.Undone})
		done = h.itemCount
	}
	var available, settled, run any
	if decision.State.Ended() {
		settled = micros(g.now)
	} else {
		available = micros(g.now.Add(decision.Backoff))
	}
	if decision.State == job.BatchFailed || decision.State == job.BatchCrashed {
		run = rules.run
	}
	err = g.only(`UPDATE batches SET state = ?, failures = ?, crashes = ?, losses = ?, lone_losses = ?, done_items = ?,
			outcomes = CAST(outcomes || ? AS BLOB), session_id = NULL, claim_request_id = NULL, lease_expires_at = NULL,
			ended_session = session_id, ended_as = ?, settled_at = ?, available_at = ?, ended_run = ?
		WHERE id = ? AND attempt = ? AND session_id = ?`,
		decision.State, decision.Failures, decision.Crashes, decision.Losses, decision.LoneLosses, done, blob(job.AppendRuns(nil, runs)), end.Kind,
		settled, available, run, h.BatchID, h.Attempt, h.SessionID)
	if err != nil {
		return 0, fmt.Errorf("end attempt %d of batch %d: %w", h.Attempt, h.BatchID, err)
	}

	d := g.delta(h.jobID)
	d.Move(job.BatchRunning, decision.State)
	d.ItemsInFlight -= int64(h.itemCount - before)
	d.Done(h.BatchID, h.firstItem, before, runs)
	if end.Kind.Crashed() {
		session.crashed++
		if h.crashes+h.losses == 0 {
			d.CrashedEver++
		}
	}
	if decision.State.Ended() {
		d.End(h.BatchID, decision.State, decision.Crashes > 0, g.since(h.claimed))
	}
	if decision.State == job.BatchCompleted {
		session.completed++
	}
	h.doneItems = done
	if err := g.find(h, before, findings); err != nil {
		return 0, err
	}
	if end.Kind == job.EndCompleted {
		return decision.State, nil
	}
	return decision.State, g.remember(h, end, decision.State, session.workerID)
}

// remember keeps an attempt that did not complete, and lists it among the ended ones.
func (g *group) remember(h *held, end job.End, state job.BatchState, workerID string) error {
	message := store.CleanText(end.Message, store.MaxMessage)
	err := g.exec(`INSERT INTO attempts (batch_id, attempt, job_id, session_id, worker_id, ended_as, message, state_after, claimed_at, ended_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		h.BatchID, h.Attempt, h.jobID, h.SessionID, workerID, end.Kind, message, state, h.claimed, micros(g.now))
	if err != nil {
		return fmt.Errorf("keep attempt %d of batch %d: %w", h.Attempt, h.BatchID, err)
	}
	e := store.Ended{Lease: h.Lease, JobID: h.jobID, Kind: end.Kind, Message: message, State: state, WorkerID: workerID}
	err = each(g, func(row scanner) error {
		e.Documents, e.Total, err = scanDocuments(row)
		return err
	}, `SELECT p.documents FROM batches b JOIN batch_payloads p ON p.batch_id = coalesce(b.root_id, b.id) WHERE b.id = ?`,
		h.BatchID)
	g.ended = append(g.ended, e)
	return err
}

// since returns the time from a moment in microseconds to the transaction's, never negative though clocks may be set.
func (g *group) since(us int64) time.Duration {
	return max(g.now.Sub(time.UnixMicro(us)), 0)
}

// flush writes what the transaction has changed of jobs and sessions.
func (g *group) flush() error {
	ids := make([]int64, 0, len(g.deltas))
	for id := range g.deltas {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		err := g.exec("INSERT INTO job_deltas (job_id, delta) VALUES (?, ?)", id, g.deltas[id].Append(nil))
		if err != nil {
			return fmt.Errorf("add delta of job %d: %w", id, err)
		}
	}
	for id, c := range g.sessions {
		if c.completed+c.crashed == 0 {
			continue
		}
		err := g.exec("UPDATE sessions SET completed = completed + ?, crashed = crashed + ? WHERE id = ?",
			c.completed, c.crashed, id)
		if err != nil {
			return fmt.Errorf("count for session %d: %w", id, err)
		}
	}
	return nil
}

// scanDocuments returns the first documents of a stored list, and how many there are.
func scanDocuments(row scanner) (first []string, total int, err error) {
	var data []byte
	if err := row.Scan(&data); err != nil {
		return nil, 0, err
	}
	return parseDocuments(data)
}

func parseDocuments(data []byte) (first []string, total int, err error) {
	var all []string
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, 0, fmt.Errorf("read documents of a batch: %w", err)
	}
	return all[:min(len(all), shownDocuments)], len(all), nil
}
