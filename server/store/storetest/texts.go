package storetest

import (
	"strings"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// hostile is what no database takes as it is.
const hostile = "a\x00b\xffc\u2028"

// texts: whatever the outside sends, it is kept valid and bounded, and never breaks a group.
var texts = []scenario{
	{"texts of an upload", func(f *fixture) {
		n := header("a")
		n.FileName, n.Labels, n.Parameters = hostile, map[string]string{hostile: hostile}, map[string]string{"k": hostile}
		up, err := f.OpenUpload(f.ctx, n)
		f.must(err)
		f.wellFormed(f.job(up.JobID).FileName, store.MaxPlace)
		g := cut(up, 1)
		g.Position.Document = hostile
		huge := strings.Repeat("ü\x00", 1<<20)
		g.Batches[0].Documents = []string{hostile, huge, strings.Repeat("x", 100_000)}
		g.Findings = []store.Finding{
			{Item: 1, Severity: store.Error, Code: hostile, File: hostile, Document: hostile, Path: hostile, Message: hostile},
			{Item: 2, Severity: store.Error, Code: huge, File: huge, Document: huge, Path: huge, Message: huge},
		}
		f.commit(up, g)
		for _, found := range f.findings(store.FindingFilter{JobID: up.JobID}) {
			f.wellFormed(found.Code, store.MaxName)
			f.wellFormed(found.File, store.MaxPlace)
			f.wellFormed(found.Document, store.MaxDocument)
			f.wellFormed(found.Path, store.MaxPlace)
			f.wellFormed(found.Message, store.MaxMessage)
		}
		b := f.batches(up.JobID)[0]
		for _, d := range b.Documents {
			f.wellFormed(d, store.MaxDocument)
		}
		f.equal("documents", b.Total, 3)
		f.equal("found by its hostile key", f.batchIDs(store.BatchFilter{Document: hostile}, store.Page{Size: 9}), []int64{b.ID})
		f.equal("found by its huge key", f.batchIDs(store.BatchFilter{Document: huge}, store.Page{Size: 9}), []int64{b.ID})
		f.must(f.CommitIngest(f.ctx, store.IngestGroup{JobID: up.JobID, Epoch: up.Epoch, Position: g.Position, Fail: huge}))
		f.wellFormed(f.job(up.JobID).Reason, store.MaxMessage)
	}},
	{"upload ids with hostile bytes are found again", func(f *fixture) {
		n := header(hostile)
		up, err := f.OpenUpload(f.ctx, n)
		f.must(err)
		again, err := f.OpenUpload(f.ctx, n)
		f.must(err)
		if again.JobID != up.JobID {
			f.Errorf("job %d, then %d", up.JobID, again.JobID)
		}
		if _, err := f.GetUpload(f.ctx, hostile); err != nil {
			f.Errorf("GetUpload: %v", err)
		}
	}},
	{"texts of sessions and claims", func(f *fixture) {
		id := f.submit("a", 1)
		s := session(hostile)
		s.Host, s.Version, s.Kinds = hostile, strings.Repeat("\x00", 1<<16), []string{hostile}
		sid, _, err := f.RegisterSession(f.ctx, s)
		f.must(err)
		got, err := f.GetSession(f.ctx, sid)
		f.must(err)
		f.wellFormed(got.Host, store.MaxName)
		f.wellFormed(got.Version, store.MaxName)
		first := f.claim(sid, hostile, long, 1, id)
		again := f.claim(sid, hostile, long, 1, id)
		if len(first) != 1 || len(again) != 1 || again[0].Lease != first[0].Lease {
			f.Errorf("claimed %+v, then %+v", first, again)
		}
		_, list, err := f.RegisterSession(f.ctx, s)
		f.must(err)
		if len(list) != 1 {
			f.Errorf("the same worker registered again ended %d attempts, want 1", len(list))
		}
		_, err = f.EndSession(f.ctx, sid+1, hostile)
		f.must(err)
	}},
	{"texts of ends", func(f *fixture) {
		id := f.submit("a", 1, 1)
		grants := f.claim(f.register("w"), "1", long, 2, id)
		bad, huge := ended(grants[0], job.EndFailed), ended(grants[1], job.EndDied)
		bad.Message, huge.Message = hostile, strings.Repeat("€", 1<<20)
		_, list, err := f.Settle(f.ctx, []store.Settlement{bad, huge})
		f.must(err)
		for _, e := range list {
			f.wellFormed(e.Message, store.MaxMessage)
		}
		for _, g := range grants {
			f.wellFormed(f.batch(g.BatchID).Error, store.MaxMessage)
			f.wellFormed(f.attempts(g.BatchID)[0].Message, store.MaxMessage)
		}
		_, err = f.StopJob(f.ctx, id, job.Cancelled, hostile)
		f.must(err)
		f.wellFormed(f.job(id).Reason, store.MaxMessage)
	}},
}

// wellFormed fails unless s is text of at most most bytes that any database takes.
func (f *fixture) wellFormed(s string, most int) {
	f.Helper()
	if s == "" || !utf8.ValidString(s) || strings.Contains(s, "\x00") || len(s) > most {
		f.Errorf("kept %.40q of %d bytes, want at most %d valid ones", s, len(s), most)
	}
}
