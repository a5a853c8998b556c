package postgres

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// tally is what one transaction changed of the jobs and sessions it touched, and the findings and results it records.
type tally struct {
	deltas   map[int64]*job.Delta
	sessions map[int64]map[int64]sessionCount // by job, since they travel in the job's row
	findings []store.Finding
	results  []recorded
}

// sessionCount is what to add to a session's counters.
type sessionCount struct {
	session   int64
	completed int64 // batches
	crashed   int64 // attempts
}

// of returns the delta of a job.
func (y *tally) of(jobID int64) *job.Delta {
	d := y.deltas[jobID]
	if d == nil {
		if y.deltas == nil {
			y.deltas = map[int64]*job.Delta{}
		}
		d = new(job.Delta)
		y.deltas[jobID] = d
	}
	return d
}

// session adds to the counters of a session, within a job that it worked for.
func (y *tally) session(jobID int64, c sessionCount) {
	if y.sessions == nil {
		y.sessions = map[int64]map[int64]sessionCount{}
	}
	of := y.sessions[jobID]
	if of == nil {
		of = map[int64]sessionCount{}
		y.sessions[jobID] = of
	}
	sum := of[c.session]
	of[c.session] = sessionCount{c.session, sum.completed + c.completed, sum.crashed + c.crashed}
}

// finding records a finding and counts it.
func (y *tally) finding(f store.Finding) {
	d := y.of(f.JobID)
	if f.Severity == store.Error {
		d.Errors++
	} else {
		d.Warnings++
	}
	y.findings = append(y.findings, f.Clean())
}

const insertDeltas = `
INSERT INTO job_deltas (job_id, delta, sessions)
SELECT w.job_id, w.delta, w.sessions FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS w(job_id, delta, sessions)`

const insertFindings = `
INSERT INTO findings (job_id, batch_id, item, severity, code, file, line, byte_offset, document, path, message)
SELECT w.job_id, nullif(w.batch_id, 0), w.item, w.severity, w.code, w.file, w.line, w.byte_offset, w.document, w.path,
       w.message
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::text[], $7::bigint[],
            $8::bigint[], $9::text[], $10::text[], $11::text[])
     WITH ORDINALITY AS w(job_id, batch_id, item, severity, code, file, line, byte_offset, document, path, message, n)
ORDER BY w.n`

// queue queues the rows that say all of it.
func (y *tally) queue(t *tx) {
	if len(y.deltas) > 0 {
		jobs := slices.Sorted(maps.Keys(y.deltas))
		deltas, sessions := make([][]byte, len(jobs)), make([][]byte, len(jobs))
		for i, id := range jobs {
			deltas[i] = y.deltas[id].Append(nil)
			sessions[i] = appendSessions([]byte{}, y.sessions[id])
		}
		t.queue(insertDeltas, jobs, deltas, sessions)
	}
	y.queueResults(t)
	if n := len(y.findings); n > 0 {
		var (
			jobs, batches, items, lines, offsets     = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
			severities                               = make([]int16, n)
			codes, files, documents, paths, messages = make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		)
		for i, f := range y.findings {
			jobs[i], batches[i], items[i], lines[i], offsets[i] = f.JobID, f.BatchID, f.Item, f.Line, f.Offset
			severities[i] = int16(f.Severity)
			codes[i], files[i], documents[i], paths[i], messages[i] = f.Code, f.File, f.Document, f.Path, f.Message
		}
		t.queue(insertFindings, jobs, batches, items, severities, codes, files, lines, offsets, documents, paths, messages)
	}
}

// appendSessions appends the stored form of counters of sessions to dst.
func appendSessions(dst []byte, counts map[int64]sessionCount) []byte {
	for _, id := range slices.Sorted(maps.Keys(counts)) {
		dst = binary.AppendVarint(dst, id)
		dst = binary.AppendVarint(dst, counts[id].completed)
		dst = binary.AppendVarint(dst, counts[id].crashed)
	}
	return dst
}

var errSessions = errors.New("stored counters of sessions are damaged")

// addSessions adds counters of sessions in their stored form to sum.
func addSessions(sum map[int64]sessionCount, data []byte) error {
	for len(data) > 0 {
		var v [3]int64
		for i := range v {
			x, n := binary.Varint(data)
			if n <= 0 {
				return errSessions
			}
			v[i], data = x, data[n:]
		}
		c := sum[v[0]]
		sum[v[0]] = sessionCount{v[0], c.completed + v[1], c.crashed + v[2]}
	}
	return nil
}
