package sqlite

import (
	"cmp"
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
	job.Batch
	claimed int64 // when its last attempt began

	endedSession int64 // holder of the last ended attempt
	endedAs      job.EndKind
	waiting      bool // its handler has not begun, as far as is known
}

const heldColumns = `id, attempt, coalesce(session_id, 0), job_id, root_id, ordinal, first_item, item_count, weight, done_items, failures, crashes, losses,
	lone_losses, lone_deaths, suspect, died_on, solo, coalesce(claimed_at, 0), coalesce(ended_session, 0),
	coalesce(ended_as, ''), state, waiting, beats, outcomes`

func scanHeld(row scanner) (h held, err error) {
	var (
		root     sql.NullInt64
		outcomes []byte
	)
	err = row.Scan(&h.ID, &h.Attempt, &h.SessionID, &h.JobID, &root, &h.Ordinal, &h.FirstItem, &h.ItemCount, &h.Weight, &h.DoneItems,
		&h.Failures, &h.Crashes, &h.Losses, &h.LoneLosses, &h.LoneDeaths, &h.Suspect, &h.DiedOn, &h.Solo, &h.claimed,
		&h.endedSession, &h.endedAs, &h.State, &h.waiting, &h.Beats, &outcomes)
	if err != nil {
		return h, err
	}
	h.RootID = root.Int64
	h.Outcomes, err = job.ParseRuns(outcomes)
	return h, err
}

// lease names the current or last attempt.
func (h *held) lease() job.Lease {
	return job.Lease{BatchID: h.ID, Attempt: h.Attempt, SessionID: h.SessionID}
}

// root is the batch that ingest cut, which holds the payload.
func (h *held) root() int64 { return cmp.Or(h.RootID, h.ID) }

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
	shared   map[int64]int // batches that sessions held when they died
	ended    []store.Ended
}

// jobRules is what decides on the end of an attempt, besides its batch.
type jobRules struct {
	state  job.State
	policy job.Policy
	run    int32
	kind   string
	splits int64 // batches that were split, as of the last fold
}

type sessionCounts struct {
	workerID           string
	condemned          bool // drained since everything dies on it
	completed, crashed int64
}

func newGroup(t *tx) *group {
	return &group{tx: t, deltas: map[int64]*job.Delta{}, jobs: map[int64]jobRules{}, sessions: map[int64]*sessionCounts{}, shared: map[int64]int{}}
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
		if err := row.Scan(&r.state, &policy, &r.run, &r.kind, &r.splits); err != nil {
			return err
		}
		return json.Unmarshal(policy, &r.policy)
	}, "SELECT state, policy, run, kind, batches_split FROM jobs WHERE id = ? AND deleted_at IS NULL", jobID)
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
	err := each(g, func(row scanner) error { return row.Scan(&c.workerID, &c.condemned) },
		"SELECT worker_id, drain_reason <> '' FROM sessions WHERE id = ?", id)
	g.sessions[id] = c
	return c, err
}

// add adds outcomes to a running batch, and records the findings of the items whose outcome becomes final with them.
// runs starts at the first item without an outcome.
func (g *group) add(h *held, runs []job.Run, findings []store.Finding) error {
	n := job.Items(runs)
	err := g.only(`UPDATE batches SET done_items = done_items + ?, outcomes = CAST(outcomes || ? AS BLOB)
		WHERE id = ? AND attempt = ? AND session_id = ?`,
		n, blob(job.AppendRuns(nil, runs)), h.ID, h.Attempt, h.SessionID)
	if err != nil {
		return fmt.Errorf("add outcomes to batch %d: %w", h.ID, err)
	}
	d := g.delta(h.JobID)
	d.ItemsInFlight -= int64(n)
	d.Done(h.ID, h.FirstItem, h.DoneItems, runs)
	before := h.DoneItems
	h.DoneItems += n
	return g.find(h, before, findings)
}

// find records findings about items from position from to the last done one.
func (g *group) find(h *held, from int32, findings []store.Finding) error {
	for _, f := range findings {
		if f.Position < from || f.Position >= h.DoneItems {
			continue
		}
		f.JobID, f.BatchID = h.JobID, h.ID
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
	rules, err := g.rules(h.JobID)
	if err != nil {
		return 0, err
	}
	session, err := g.session(h.SessionID)
	if err != nil {
		return 0, err
	}
	if end.Kind == job.EndDied && end.Crash == nil && h.waiting {
		end = job.End{Kind: job.EndReleased, Message: store.WaitingMessage}
	}
	c := job.Case{End: end.Kind, Retryable: end.Retryable, State: rules.state, Policy: rules.policy}
	if end.Kind == job.EndDied {
		if c.Death, err = g.death(h, &end, rules, session); err != nil {
			return 0, err
		}
	}
	before, crashedBefore := h.DoneItems, h.Crashes+h.Losses > 0
	h.DoneItems += job.Items(runs)
	h.Outcomes = append(slices.Clip(h.Outcomes), runs...)
	decision := job.Decide(&h.Batch, c)
	items, err := g.itemsFor(h, &decision)
	if err != nil {
		return 0, err
	}
	if decision.Undone != 0 && h.DoneItems < h.ItemCount {
		undone := job.Run{Count: h.ItemCount - h.DoneItems, Outcome: decision.Undone}
		runs, h.Outcomes = append(slices.Clip(runs), undone), append(h.Outcomes, undone)
		h.DoneItems = h.ItemCount
	}
	var available, avoid, settled, run any
	if decision.State.Ended() {
		settled = micros(g.now)
	} else {
		available = micros(g.now.Add(decision.Backoff))
		if decision.Avoid > 0 {
			avoid = micros(g.now.Add(decision.Avoid))
		}
	}
	if decision.State == job.BatchFailed || decision.State == job.BatchCrashed {
		run = rules.run
	}
	err = g.only(`UPDATE batches SET state = ?, failures = ?, crashes = ?, losses = ?, lone_losses = ?, lone_deaths = ?, suspect = ?,
			died_on = ?, solo = ?, done_items = ?, outcomes = CAST(outcomes || ? AS BLOB), session_id = NULL, claim_request_id = NULL,
			lease_expires_at = NULL, ended_session = session_id, ended_as = ?, settled_at = ?, available_at = ?, avoid_until = ?,
			ended_run = ?
		WHERE id = ? AND attempt = ? AND session_id = ?`,
		decision.State, decision.Failures, decision.Crashes, decision.Losses, decision.LoneLosses, decision.LoneDeaths, decision.Suspect,
		decision.DiedOn, decision.Solo, h.DoneItems, blob(job.AppendRuns(nil, runs)), end.Kind, settled, available, avoid, run,
		h.ID, h.Attempt, h.SessionID)
	if err != nil {
		return 0, fmt.Errorf("end attempt %d of batch %d: %w", h.Attempt, h.ID, err)
	}

	d := g.delta(h.JobID)
	d.Move(job.BatchRunning, decision.State)
	d.ItemsInFlight -= int64(h.ItemCount - before)
	d.Done(h.ID, h.FirstItem, before, runs)
	if end.Kind.Crashed() {
		session.crashed++
		if !crashedBefore && decision.Crashes+decision.Losses > 0 && h.RootID == 0 {
			d.CrashedEver++
		}
	}
	if decision.State.Ended() && h.RootID == 0 {
		d.End(h.ID, decision.State, decision.Crashes > 0, g.since(h.claimed))
	}
	if decision.State == job.BatchCompleted {
		session.completed++
	}
	if err := g.find(h, before, findings); err != nil {
		return 0, err
	}
	if items != nil {
		if err := g.isolate(h, &end, &decision, items); err != nil {
			return 0, err
		}
	}
	h.State = decision.State
	if end.Kind == job.EndCompleted {
		return decision.State, nil
	}
	return decision.State, g.remember(h, &end, &decision, session)
}

// remember keeps an attempt that did not complete, and lists it among the ended ones.
func (g *group) remember(h *held, end *job.End, decision *job.Decision, session *sessionCounts) error {
	message := store.CleanText(end.Message, store.MaxMessage)
	crash := store.CleanCrash(end.Crash)
	var signal, exitCode, memory, stderr, fingerprint any
	if end.Crash != nil {
		signal, exitCode, memory, stderr, fingerprint = crash.Signal, crash.ExitCode, crash.PeakMemory, crash.Stderr, crash.Fingerprint
	}
	err := g.exec(`INSERT INTO attempts (batch_id, attempt, job_id, session_id, worker_id, ended_as, message, state_after, claimed_at, ended_at,
			decision, beats, suspect, signal, exit_code, peak_memory, stderr, fingerprint, completed_before)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? + coalesce((SELECT completed FROM sessions WHERE id = ?4), 0))`,
		h.ID, h.Attempt, h.JobID, h.SessionID, session.workerID, end.Kind, message, decision.State, h.claimed, micros(g.now),
		decision.Why, h.Beats, crash.Suspect, signal, exitCode, memory, stderr, fingerprint, session.completed)
	if err != nil {
		return fmt.Errorf("keep attempt %d of batch %d: %w", h.Attempt, h.ID, err)
	}
	e := store.Ended{
		Lease: h.lease(), JobID: h.JobID, Kind: end.Kind, Message: message, State: decision.State, WorkerID: session.workerID,
		Decision: decision.Why,
	}
	err = each(g, func(row scanner) error {
		e.Documents, e.Total, err = scanDocuments(row)
		return err
	}, `SELECT coalesce(b.documents, p.documents) FROM batches b JOIN batch_payloads p ON p.batch_id = coalesce(b.root_id, b.id)
		WHERE b.id = ?`, h.ID)
	g.ended = append(g.ended, e)
	return err
}

// since returns the time from a moment in microseconds to the transaction's, never negative though clocks may be set.
func (t *tx) since(us int64) time.Duration {
	return max(t.now.Sub(time.UnixMicro(us)), 0)
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
