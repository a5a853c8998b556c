package storetest

import (
	"cmp"
	"slices"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// knownJob is a job as the model knows it.
type knownJob struct {
	id       int64
	header   store.NewJob
	up       store.Upload // as it must be told
	state    job.State
	batches  []*knownBatch // by ordinal, those of one by id
	whole    int32         // of these, those that ingest cut
	rejected int64         // items, at ingest
	found    []finding     // at ingest
	deleted  bool

	retry     string     // request id of the last retry by hand
	retrying  job.States // that it still moves
	retryFrom place      // of the batch that it looked at last
	faulty    bool       // an item ended since the last fold as a strict job does not allow

	run    int32         // of which progress was seen last
	ended  int64         // items, then
	seen   job.Job       // its row, as of the last look
	dirty  bool          // what is counted has changed since the last fold
	deaths map[int64]int // that accuse an item alone, since its batch was cut or retried by hand, by its number
	bare   bool          // the row itself was changed since the last look
}

// place is where a batch stands among those of its job.
type place struct {
	ordinal int32
	id      int64
}

func (p place) before(o place) bool {
	return p.ordinal < o.ordinal || p.ordinal == o.ordinal && p.id < o.id
}

// knownBatch is a batch as the model knows it.
type knownBatch struct {
	place    // its id is 0 until its row was seen
	job      *knownJob
	parent   *knownBatch // of a part of a split batch
	cut      store.NewBatch
	state    job.BatchState
	attempt  int32
	failures int32
	crashes  int32
	losses   int32
	job.Suspicion
	crashed   bool          // ever
	outcomes  []job.Outcome // final, from the front
	session   *knownSession // while it runs
	request   string        // under which it was claimed
	expired   bool          // its lease has run out, and nobody has noticed
	deserted  bool          // its session broke since it was claimed, and has not come back
	waiting   bool          // its worker said last that its handler has not begun
	beats     int32         // of its last attempt
	returned  bool          // it is pending after an attempt, or is a part
	takenBack bool          // a retry has yet to move it
	backedOff bool          // and is not to be claimed before somebody lets that time pass
	shunned   bool          // it died on one worker, was offered to others first, and has not been claimed since
	avoided   bool          // and that time has not passed
	waited    bool          // it has been available for as long as a solo batch has patience
	ends      []knownEnd    // of all its attempts, in their order
	found     []finding     // by workers
	values    []itemValue   // by workers
	named     []finding     // culprits
	deaths    int           // of it and its parts, that were not shared, nor on one worker while another lived

	row      store.BatchRow // as of the last look
	attempts []store.Attempt
}

// knownEnd is how an attempt ended.
type knownEnd struct {
	lease    job.Lease
	kind     job.EndKind
	message  string
	worker   string
	state    job.BatchState // of the batch after it
	decision string
	beats    int32
	crash    *job.Crash

	at        int   // by the model's clock
	completed int64 // batches that the session had completed before
}

// knownSession is a session as the model knows it.
type knownSession struct {
	id        int64
	worker    string
	over      bool
	drained   bool  // is to take no more
	condemned bool  // since everything dies on its worker
	epoch     int64 // of its newest stream
	broken    bool  // and the worker's side closed that one
	beatAt    int   // when it was last heard of, by the model's clock
	brokenAt  int   // when that stream broke
	falls     []int // when attempts died with the process, or were lost
	dead      bool  // its process is, whatever the store knows
	completed int64
	crashed   int64
}

// takes tells whether the session may be granted batches.
func (s *knownSession) takes() bool { return !s.over && !s.drained }

// fallen counts the attempts that ended because the process died or fell silent, since it was heard of for the last time.
func (s *knownSession) fallen() (n int) {
	since := s.beatAt
	if s.broken {
		since = min(since, s.brokenAt)
	}
	for _, at := range s.falls {
		if at >= since {
			n++
		}
	}
	return n
}

// finding is what the model compares of one.
type finding struct {
	Batch   int64
	Item    int64
	Message string
}

// holds reports whether l is the batch's live lease.
func (b *knownBatch) holds(l job.Lease) bool {
	return b.state == job.BatchRunning && b.attempt == l.Attempt && b.session.id == l.SessionID
}

func (b *knownBatch) lease() job.Lease {
	return job.Lease{BatchID: b.id, Attempt: b.attempt, SessionID: b.session.id}
}

// root is the batch that ingest cut.
func (b *knownBatch) root() *knownBatch {
	for b.parent != nil {
		b = b.parent
	}
	return b
}

// choosy tells whether a returned batch is not for every session.
func (b *knownBatch) choosy() bool { return b.Solo || b.shunned }

func (b *knownBatch) done() int32 { return int32(len(b.outcomes)) }

func (b *knownBatch) open() bool { return b.state == job.BatchPending || b.state == job.BatchRunning }

// ended returns how an attempt of a session ended, nil when it has not, or was never.
func (b *knownBatch) ended(l job.Lease) *knownEnd {
	for i := range b.ends {
		if b.ends[i].lease == l {
			return &b.ends[i]
		}
	}
	return nil
}

// news returns what a report from an item on adds, and whether it fits: without a gap, and not past the end.
func (b *knownBatch) news(from int32, runs []job.Run) ([]job.Outcome, bool) {
	all := spell(runs)
	if from > b.done() || int(from)+len(all) > int(b.cut.Items) {
		return nil, false
	}
	return all[min(int(b.done()-from), len(all)):], true
}

// find records the findings of a report about the items from one to another.
func (b *knownBatch) find(list []store.Finding, from, to int32) {
	for _, f := range list {
		if f.Position >= from && f.Position < to {
			b.found = append(b.found, finding{b.id, f.Item, f.Message})
		}
	}
}

// keep records the results of a report about the items from one to another.
func (b *knownBatch) keep(list []value, from, to int32) {
	for _, v := range list {
		if v.Position >= from && v.Position < to {
			b.values = append(b.values, itemValue{b.cut.FirstItem + int64(v.Position), v.Text})
		}
	}
}

// add adds outcomes.
func (b *knownBatch) add(list []job.Outcome) {
	b.outcomes = append(b.outcomes, list...)
	b.job.faulty = b.job.faulty || slices.ContainsFunc(list, func(o job.Outcome) bool { return !o.Good() && o != job.ItemCancelled })
}

// cancel ends a pending batch of a job that is being stopped.
func (b *knownBatch) cancel() {
	for b.done() < b.cut.Items {
		b.outcomes = append(b.outcomes, job.ItemCancelled)
	}
	b.state, b.returned, b.backedOff, b.shunned, b.avoided, b.waited = job.BatchCancelled, false, false, false, false, false
	b.job.dirty = true
}

// counters are what a job must count, by its batches.
func (j *knownJob) counters() job.Counters {
	c := job.Counters{ItemsTotal: j.rejected, BytesRead: j.up.Position.Received, Errors: int64(len(j.found))}
	c.ItemOutcomes[job.Rejected] = j.rejected
	for _, b := range j.batches {
		c.Annotations += int64(b.cut.Annotations)
		c.Batches[b.state]++
		c.Warnings += int64(len(b.found))
		if b.crashed && b.parent == nil {
			c.CrashedEver++
		}
		if b.state == job.BatchSplit {
			continue // its parts have its items
		}
		c.ItemsTotal += int64(b.cut.Items)
		for _, o := range b.outcomes {
			if !b.takenBack || o.ByHandler() {
				c.ItemOutcomes[o]++
			}
			if o == job.ItemCrashed {
				c.Errors++ // the finding that names it
			}
		}
		if b.state == job.BatchRunning {
			c.ItemsInFlight += int64(b.cut.Items - b.done())
		}
	}
	return c
}

// limited tells whether a limit of the job's policy stops it when its deltas are folded.
func (j *knownJob) limited(c job.Counters) bool {
	p := j.header.Policy
	bad := c.ItemOutcomes[job.ItemFailed] + c.ItemOutcomes[job.ItemCrashed] - j.seen.ForgivenBad
	return !j.state.Stopping() && (p.Strict && j.faulty || p.MaxBadItems > 0 && bad > p.MaxBadItems)
}

// end is the state that a job whose deltas are all folded must be in.
func (j *knownJob) end(c job.Counters) job.State {
	switch {
	case j.state.Ended() || c.BatchesOpen() > 0:
		return j.state
	case j.state == job.Cancelling:
		return j.seen.StopAs
	case !j.up.Finished || j.retrying != 0:
		return j.state
	}
	good := c.ItemOutcomes[job.Stored] + c.ItemOutcomes[job.StoredWarnings] + c.ItemOutcomes[job.Skipped]
	if good == c.ItemsTotal && c.Errors == 0 {
		return job.Succeeded
	}
	return job.CompletedWithErrors
}

// stop makes a running job cancelling.
func (j *knownJob) stop(as job.State, reason string) {
	j.retrying, j.seen.Retrying = 0, 0
	j.state, j.bare = job.Cancelling, true
	j.seen.State, j.seen.StopAs, j.seen.Reason = job.Cancelling, as, reason
	j.seen.Revision++
}

// spell writes runs out, an outcome an item.
func spell(runs []job.Run) []job.Outcome {
	var list []job.Outcome
	for _, r := range runs {
		for range r.Count {
			list = append(list, r.Outcome)
		}
	}
	return list
}

// join is the opposite of spell.
func join(list []job.Outcome) []job.Run {
	var runs []job.Run
	for _, o := range list {
		if n := len(runs); n > 0 && runs[n-1].Outcome == o {
			runs[n-1].Count++
		} else {
			runs = append(runs, job.Run{Count: 1, Outcome: o})
		}
	}
	return runs
}

// running returns the batches that sessions hold, by id; with a session those of it.
func (m *model) running(of *knownSession) []*knownBatch {
	var list []*knownBatch
	for _, b := range m.batches {
		if b.state == job.BatchRunning && (of == nil || b.session == of) {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(x, y *knownBatch) int { return cmp.Compare(x.id, y.id) })
	return list
}
