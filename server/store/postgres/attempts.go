package postgres

import "time"

const insertAttempts = `
INSERT INTO attempts (batch_id, attempt, job_id, session_id, worker_id, ended_as, message, state_after, claimed_at, ended_at,
                      decision, beats, suspect, signal, exit_code, peak_memory, stderr, fingerprint, completed_before)
SELECT w.batch_id, w.attempt, w.job_id, w.session_id, w.worker_id, w.ended_as, w.message, w.state_after, w.claimed_at,
       clock_timestamp(), w.decision, w.beats, w.suspect, w.signal, w.exit_code, w.peak_memory, w.stderr, w.fingerprint,
       w.completed_before
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::smallint[],
            $9::timestamptz[], $10::text[], $11::integer[], $12::integer[], $13::text[], $14::integer[], $15::bigint[],
            $16::text[], $17::text[], $18::bigint[])
     AS w(batch_id, attempt, job_id, session_id, worker_id, ended_as, message, state_after, claimed_at, decision, beats,
          suspect, signal, exit_code, peak_memory, stderr, fingerprint, completed_before)`

// queueAttempts queues the keeping of the attempts that ended otherwise than by completing.
func (e *ending) queueAttempts(t *tx) {
	n := len(e.past)
	if n == 0 {
		return
	}
	var (
		batches, sessions             = make([]int64, n), make([]int64, n)
		numbers, beats, suspects      = make([]int32, n), make([]int32, n), make([]int32, n)
		states                        = make([]int16, n)
		workers, kinds, ms, decisions = make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		claimed                       = make([]time.Time, n)
		signals, stderrs, prints      = make([]*string, n), make([]*string, n), make([]*string, n)
		codes, memory                 = make([]*int32, n), make([]*int64, n)
	)
	for i, a := range e.past {
		batches[i], sessions[i], numbers[i], states[i] = a.BatchID, a.SessionID, a.Attempt, int16(a.State)
		workers[i], kinds[i], ms[i], claimed[i] = a.WorkerID, string(a.Kind), a.Message, a.ClaimedAt
		decisions[i], beats[i] = a.Decision, a.Beats
		if c := a.Crash; c != nil {
			suspects[i], signals[i], codes[i], memory[i] = c.Suspect, &c.Signal, &c.ExitCode, &c.PeakMemory
			stderrs[i], prints[i] = &c.Stderr, &c.Fingerprint
		}
	}
	t.queue(insertAttempts, batches, numbers, e.pastOf, sessions, workers, kinds, ms, states, claimed, decisions, beats, suspects, signals,
		codes, memory, stderrs, prints, e.pastAt)
}
