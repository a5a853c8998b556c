package storetest

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// uploadStream is one that a coordinator reads, whether or not a newer one has been opened elsewhere.
type uploadStream struct {
	by    *coordinator
	job   *knownJob
	epoch int64
	at    store.Position     // where it goes on
	last  *store.IngestGroup // sent before
	open  bool               // and not answered yet: until then it sends nothing else, but may send that again
}

func (m *model) uploadActions() []action {
	return []action{
		{"upload", 1, func() bool { return len(m.alive()) < 3 }, m.upload},
		{"resume upload", 4, func() bool { return len(m.alive()) > 0 }, m.resume},
		{"ingest", 8, func() bool { return len(m.streams) > 0 }, m.ingest},
		{"keep upload", 1, func() bool { return len(m.streams) > 0 }, m.keep},
		{"abandon uploads", 1, nil, m.abandon},
	}
}

func (m *model) upload(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	h := header(m.name("upload"))
	for _, j := range m.jobs {
		// The id of a deleted job's upload is free.
		if j.deleted && rapid.Bool().Draw(t, "again") && !slices.ContainsFunc(m.alive(), func(o *knownJob) bool {
			return o.header.UploadID == j.header.UploadID
		}) {
			h.UploadID = j.header.UploadID
		}
	}
	h.Policy.MaxAttempts = int32(dice(t, 3, "attempts"))
	h.Policy.MaxBadItems = int64(max(dice(t, 8, "most bad items")-3, 0))
	h.Policy.Strict = dice(t, 12, "strict") == 0
	h.Policy.MaxSplits = pick(t, []int32{0, 0, 0, 2, -1}, "most splits")
	m.limit(t, &h)
	if m.poison != nil {
		h.Policy = job.Policy{MaxRunning: h.Policy.MaxRunning}
	}
	j := &knownJob{header: h, state: job.Running, deaths: map[int64]int{}}
	up, err := c.OpenUpload(c.ctx, h)
	m.must(err)
	j.id, j.up = up.JobID, store.Upload{JobID: up.JobID, UploadID: h.UploadID, Epoch: 1, State: job.Running}
	m.equal("a new upload", up, j.up)
	m.jobs = append(m.jobs, j)
	m.streams = append(m.streams, &uploadStream{by: c, job: j, epoch: 1})
	j.seen = c.job(j.id)
	m.equal("the policy of a new job", j.seen.Policy, h.Policy)
	if s := j.seen; s.State != job.Running || s.Revision != 1 || s.Run != 1 || s.Counters != (job.Counters{}) || s.IngestDone {
		m.Fatalf("a new job: %+v", s)
	}
}

// resume opens an upload again, at any coordinator.
func (m *model) resume(t *rapid.T) {
	c, j := pick(t, m.coordinators, "coordinator"), pick(t, m.alive(), "job")
	h := j.header
	if mismatch := dice(t, 10, "mismatch") == 0; mismatch {
		h.Mode = "add"
		_, err := c.OpenUpload(c.ctx, h)
		m.wantError("open with another header", err, store.ErrUploadMismatch)
		return
	}
	up, err := c.OpenUpload(c.ctx, h)
	m.must(err)
	if !j.up.Finished {
		j.up.Epoch++
	}
	j.up.State = j.state
	m.equal("an upload that was opened again", up, j.up)
	m.streams = append(m.streams, &uploadStream{by: c, job: j, epoch: up.Epoch, at: up.Position})
}

func (m *model) ingest(t *rapid.T) {
	s := pick(t, m.streams, "stream")
	if s.last == nil || !s.open && dice(t, 6, "repeat") > 0 {
		g := m.group(t, s)
		s.last, s.open = &g, true
	}
	g := *s.last
	m.send(t, s.by, func() {
		s.open = false
		m.commitGroup(s, g)
	})
}

// group draws what a stream brings next.
func (m *model) group(t *rapid.T, s *uploadStream) store.IngestGroup {
	up := s.job.up
	up.Epoch, up.Position = s.epoch, s.at
	items := rapid.SliceOfN(rapid.Int32Range(1, 9), 0, 3).Draw(t, "items")
	if s.job.whole > 8 || m.poison != nil && s.job.whole > 1 { // isolation takes many steps
		items = nil
	}
	g := cut(up, items...)
	// Compressed input may be counted a little shorter when it is read again.
	g.Position.Received = s.at.Received + rapid.Int64Range(max(-1, -s.at.Received), 20).Draw(t, "received")
	if n := int32(dice(t, 3, "rejected")); n > 0 {
		g.Rejected = []store.RejectedItems{{FirstItem: g.Position.Item + 1, Items: n, Frame: []byte("x")}}
		g.Findings = []store.Finding{{Item: g.Position.Item + 1, Severity: store.Error, Code: "E", Message: m.name("found")}}
		g.Position.Item += int64(n)
		g.Position.Offset += 10 * int64(n)
	}
	switch last := dice(t, 12, "last"); {
	case last < 2:
		g.Finished = true
	case last == 2 && m.poison == nil:
		g.Fail = m.name("unreadable")
	}
	return g
}

func (m *model) commitGroup(s *uploadStream, g store.IngestGroup) {
	j, at := s.job, s.job.up.Position
	same := g.Position.Item == at.Item && g.Position.Offset == at.Offset
	before := j.seen.State
	err := s.by.CommitIngest(s.by.ctx, g)
	switch {
	case j.deleted:
		m.wantError("commit to a deleted job", err, store.ErrNotFound)
	case g.Epoch != j.up.Epoch, j.up.Finished && (!same || !g.Finished):
		m.wantError("commit by an older stream, or after the last one", err, store.ErrUploadFenced)
	case j.up.Finished:
		m.must(err)
	case j.state.Stopping():
		m.wantError("commit to a job that is "+string(before), err, store.ErrJobStopped)
	case same && len(g.Batches)+len(g.Rejected) > 0:
		m.must(err)
		s.at = at
	case g.Position.Item < at.Item || g.Position.Offset < at.Offset:
		if err == nil {
			m.Fatalf("a group from before what is committed was added: %+v", g.Position)
		}
	default:
		m.must(err)
		m.grow(s, g)
	}
	if !j.deleted {
		m.lookUpload(s.by.fixture, j)
	}
}

// grow adds a committed group to the model.
func (m *model) grow(s *uploadStream, g store.IngestGroup) {
	j := s.job
	first := j.up.Position.Batch
	for i, b := range g.Batches {
		j.batches = append(j.batches, &knownBatch{job: j, place: place{ordinal: first + int32(i)}, cut: b})
		j.whole++
	}
	for _, r := range g.Rejected {
		j.rejected += int64(r.Items)
		j.faulty = true
	}
	for _, f := range g.Findings {
		j.found = append(j.found, finding{0, f.Item, f.Message})
	}
	received := max(j.up.Position.Received, g.Position.Received)
	j.up.Position = g.Position
	j.up.Position.Received, j.up.Position.Batch = received, j.whole
	j.up.Items, j.up.Batches, j.up.Finished = g.Position.Item, int64(j.whole), g.Finished
	j.dirty = true
	if g.Fail != "" {
		j.stop(job.Failed, g.Fail)
	}
	s.at = j.up.Position
	m.adopt(s.by, j)
}

// rows returns the batches of a job, which must be as many as the model's.
func (m *model) rows(f *fixture, j *knownJob) []store.BatchRow {
	m.Helper()
	rows, err := f.ListBatches(f.ctx, store.BatchFilter{JobID: j.id}, store.Page{Size: 1000})
	m.must(err)
	if len(rows) != len(j.batches) {
		m.Fatalf("job %d has %d batches, want %d", j.id, len(rows), len(j.batches))
	}
	return rows
}

func (m *model) lookUpload(f *fixture, j *knownJob) {
	m.Helper()
	got, err := f.GetUpload(f.ctx, j.header.UploadID)
	m.must(err)
	j.up.State = j.state
	m.equal("an upload", got, j.up)
}

// keep says that a stream stands, which it may not any more.
func (m *model) keep(t *rapid.T) {
	s := pick(t, m.streams, "stream")
	m.send(t, s.by, func() {
		err := s.by.KeepUpload(s.by.ctx, s.job.id, s.epoch)
		if s.job.deleted || s.epoch != s.job.up.Epoch {
			m.wantError("keep an upload that was opened again", err, store.ErrUploadFenced)
			return
		}
		m.must(err)
	})
}

func (m *model) abandon(t *rapid.T) {
	c := pick(t, m.coordinators, "coordinator")
	idle := pick(t, []time.Duration{0, long, long}, "idle")
	m.send(t, c, func() {
		m.elapse(brief) // what was opened at this very moment is not yet idle
		got, err := c.AbandonUploads(c.ctx, idle)
		m.must(err)
		for _, j := range m.alive() {
			want := idle == 0 && j.state == job.Running && !j.up.Finished
			if slices.Contains(got, j.id) != want {
				m.Fatalf("the upload of job %d was abandoned: %v, want %v", j.id, !want, want)
			}
			if want {
				j.stop(job.Failed, store.Abandoned(idle))
			}
		}
	})
}
