package storetest

import (
	"errors"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// ingest: what a committed group leaves, and when it leaves nothing.
var ingest = []scenario{
	{"batches get ordinals without gaps, whatever the groups", func(f *fixture) {
		up := f.open("a")
		for _, items := range [][]int32{{1, 2}, {}, {3}, {4, 5, 6}} {
			up = f.commit(up, cut(up, items...))
		}
		var got [][3]int64
		for _, b := range f.batches(up.JobID) {
			got = append(got, [3]int64{int64(b.Ordinal), b.FirstItem, int64(b.ItemCount)})
			if b.State != job.BatchPending || b.Attempt != 0 || b.JobID != up.JobID || b.Weight != b.ItemCount {
				f.Errorf("fresh batch = %+v", b.Batch)
			}
		}
		f.equal("ordinal, first item, items", got, [][3]int64{{0, 1, 1}, {1, 2, 2}, {2, 4, 3}, {3, 7, 4}, {4, 11, 5}, {5, 16, 6}})
		f.audit(up.JobID, 0)
	}},
	{"the position is that of the last group", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 2)
		g.Position.Offset, g.Position.Received, g.Position.Line = 1<<40, 1<<39, 77
		g.Position.Document, g.Position.Hash, g.Position.Encoding = "PMC:1", []byte("hash"), "gzip"
		up = f.commit(up, g)
		f.equal("position", up.Position, g.Position)
		if up.Items != 2 || up.Batches != 1 || up.Finished {
			f.Errorf("upload = %+v, want 2 items in 1 batch, unfinished", up)
		}
	}},
	{"a group counts items, annotations, bytes and findings", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 2, 3)
		g.Position.Item += 4
		g.Position.Received = 500
		g.Rejected = []store.RejectedItems{{FirstItem: 6, Items: 4, Frame: []byte("rejected")}}
		g.Findings = []store.Finding{
			{Item: 6, Severity: store.Error, Code: "E", File: "f", Line: 6, Offset: 60, Document: "PubMed:6", Path: "text", Message: "bad"},
			{Item: 1, Severity: store.Warning, Code: "W", Message: "odd"},
			{Item: 7, Severity: store.Error, Code: "E", Message: "worse"},
		}
		up = f.commit(up, g)
		j := f.audit(up.JobID, 4)
		if j.Annotations != 7 || j.BytesRead != 500 || j.Errors != 2 || j.Warnings != 1 || j.ItemsTotal != 9 {
			f.Errorf("counters = %+v", j.Counters)
		}
		up = f.commit(up, func() store.IngestGroup { g := cut(up, 1); g.Position.Received = 700; return g }())
		if j := f.fold(up.JobID); j.BytesRead != 700 {
			f.Errorf("%d bytes read after the second group, want 700", j.BytesRead)
		}
		got := f.findings(store.FindingFilter{JobID: up.JobID})
		for i := range got {
			if got[i].ID == 0 {
				f.Errorf("finding %d has no id", i)
			}
			got[i].ID = 0
		}
		for i := range g.Findings {
			g.Findings[i].JobID = up.JobID
		}
		f.equal("findings by item", got, []store.Finding{g.Findings[1], g.Findings[0], g.Findings[2]})
	}},
	{"a group that is repeated counts once", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 2)
		g.Findings = []store.Finding{{Item: 1, Severity: store.Warning, Code: "W"}}
		f.commit(up, g)
		up = f.commit(up, g)
		if up.Items != 2 || len(f.findings(store.FindingFilter{JobID: up.JobID})) != 1 {
			f.Errorf("repeated: %+v with %d findings", up, len(f.findings(store.FindingFilter{JobID: up.JobID})))
		}
		last := cut(up, 3)
		last.Finished = true
		f.commit(up, last)
		f.commit(up, last)
		f.audit(up.JobID, 0)
	}},
	{"a finished upload takes nothing more", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 1)
		g.Finished = true
		up = f.commit(up, g)
		if err := f.CommitIngest(f.ctx, cut(up, 1)); !errors.Is(err, store.ErrUploadFenced) {
			f.Errorf("commit after the end: %v, want ErrUploadFenced", err)
		}
		f.audit(up.JobID, 0)
	}},
	{"finishing is seen at the job", func(f *fixture) {
		up := f.open("a")
		f.commit(up, cut(up, 1))
		if j := f.fold(up.JobID); j.IngestDone {
			f.Errorf("ingest is done before the upload is finished")
		}
		before := f.job(up.JobID).Revision
		g := cut(up)
		g.Position, g.Finished = f.open("a").Position, true
		g.Epoch = up.Epoch + 1
		f.commit(up, g)
		if j := f.fold(up.JobID); !j.IngestDone || j.Revision <= before || j.State != job.Running {
			f.Errorf("finished: ingest done %v, revision %d after %d, %v", j.IngestDone, j.Revision, before, j.State)
		}
	}},
	{"an upload without items ends its job", func(f *fixture) {
		id := f.submit("a")
		dirty, err := f.DirtyJobs(f.ctx)
		f.must(err)
		f.equal("dirty jobs", dirty, []int64{id})
		if j := f.audit(id, 0); j.State != job.Succeeded {
			f.Errorf("the empty job is %v", j.State)
		}
	}},
	{"an upload of which every item was rejected ends its job with errors", func(f *fixture) {
		up := f.open("a")
		g := cut(up)
		g.Position.Item, g.Finished = 5, true
		g.Rejected = []store.RejectedItems{{FirstItem: 1, Items: 5, Frame: []byte("x")}}
		f.commit(up, g)
		if j := f.audit(up.JobID, 5); j.State != job.CompletedWithErrors {
			f.Errorf("the job is %v", j.State)
		}
	}},
	{"an upload that cannot be read stops its job as failed", func(f *fixture) {
		up := f.open("a")
		up = f.commit(up, cut(up, 2))
		g := cut(up, 3)
		g.Fail = "the gzip stream ends in the middle"
		g.Findings = []store.Finding{{Severity: store.Error, Code: "TRUNCATED"}}
		f.must(f.CommitIngest(f.ctx, g))
		j := f.job(up.JobID)
		if j.State != job.Cancelling || j.StopAs != job.Failed || j.Reason != g.Fail {
			f.Errorf("the job is %v as %v because %q", j.State, j.StopAs, j.Reason)
		}
		f.sweep(up.JobID)
		j = f.audit(up.JobID, 0)
		if j.State != job.Failed || j.ItemsTotal != 5 || j.ItemOutcomes[job.ItemCancelled] != 5 || j.Errors != 1 {
			f.Errorf("the job ended %v with %+v", j.State, j.Counters)
		}
	}},
	{"a job that is being stopped takes no items", func(f *fixture) {
		up := f.open("a")
		f.stop(up.JobID)
		if err := f.CommitIngest(f.ctx, cut(up, 1)); !errors.Is(err, store.ErrJobStopped) {
			f.Errorf("commit into a cancelling job: %v, want ErrJobStopped", err)
		}
		if j := f.audit(up.JobID, 0); j.State != job.Cancelled || j.ItemsTotal != 0 {
			f.Errorf("the job is %v with %d items", j.State, j.ItemsTotal)
		}
		if err := f.CommitIngest(f.ctx, cut(up, 1)); !errors.Is(err, store.ErrJobStopped) {
			f.Errorf("commit into an ended job: %v, want ErrJobStopped", err)
		}
		if again := f.open("a"); again.State != job.Cancelled {
			f.Errorf("opening it again says the job is %v", again.State)
		}
		f.audit(up.JobID, 0)
	}},
	{"payloads are given back as they were", func(f *fixture) {
		id := f.submit("a", 1, 2, 3)
		var ids []int64
		want := map[int64][]byte{}
		for _, b := range f.batches(id) {
			ids = append(ids, b.ID)
			want[b.ID] = frame(b.FirstItem, b.ItemCount)
		}
		got, err := f.Payloads(f.ctx, append(ids, 12345), 1<<20)
		f.must(err)
		f.equal("payloads", got, want)
		two := int64(len(want[ids[0]]) + len(want[ids[1]]))
		delete(want, ids[2])
		got, err = f.Payloads(f.ctx, ids, two)
		f.must(err)
		f.equal("payloads in the bytes of two", got, want)
		delete(want, ids[1])
		got, err = f.Payloads(f.ctx, ids, two-1)
		f.must(err)
		f.equal("payloads in a byte less", got, want)
	}},
	{"batches are claimed while the upload goes on", func(f *fixture) {
		up := f.open("a")
		up = f.commit(up, cut(up, 2))
		s := f.register("w")
		f.settle(completed(f.claimOne(s, "r", long, up.JobID)))
		if j := f.audit(up.JobID, 0); j.State != job.Running || j.ItemOutcomes[job.Stored] != 2 {
			f.Errorf("before the end of the upload: %v, %v", j.State, j.ItemOutcomes)
		}
		g := cut(up)
		g.Finished = true
		f.commit(up, g)
		if j := f.audit(up.JobID, 0); j.State != job.Succeeded {
			f.Errorf("after it: %v", j.State)
		}
	}},
}
