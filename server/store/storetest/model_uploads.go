package storetest

import (
	"errors"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *model) uploadActions() actions {
	return actions{
		"upload": m.upload,
		"ingest": m.ingest,
	}
}

func (m *model) upload(t *rapid.T) {
	if len(m.uploads) == 3 {
		t.Skip("enough jobs")
	}
	m.uploads = append(m.uploads, m.open(m.name("upload")))
}

func (m *model) ingest(t *rapid.T) {
	i := rapid.IntRange(0, max(len(m.uploads)-1, 0)).Draw(t, "upload")
	if len(m.uploads) == 0 || m.uploads[i].Finished {
		t.Skip("nothing to add to")
	}
	up := m.uploads[i]
	if rapid.Bool().Draw(t, "resumed") {
		up = m.open(up.UploadID)
	}
	g := cut(up, rapid.SliceOfN(rapid.Int32Range(1, 5), 0, 3).Draw(t, "items")...)
	if n := rapid.Int32Range(0, 2).Draw(t, "rejected"); n > 0 {
		g.Rejected = []store.RejectedItems{{FirstItem: g.Position.Item + 1, Items: n, Frame: []byte("x")}}
		g.Position.Item += int64(n)
		g.Position.Offset += 10 * int64(n)
	}
	g.Finished = rapid.IntRange(0, 3).Draw(t, "last") == 0
	err := m.CommitIngest(m.ctx, g)
	if stopped := m.job(up.JobID).State != job.Running; stopped != errors.Is(err, store.ErrJobStopped) {
		m.Fatalf("commit while the job is stopped %v: %v", stopped, err)
	} else if !stopped {
		m.must(err)
		for _, r := range g.Rejected {
			m.rejected[up.JobID] += int64(r.Items)
		}
	}
	after, err := m.GetUpload(m.ctx, up.UploadID)
	m.must(err)
	m.uploads[i] = after
}
