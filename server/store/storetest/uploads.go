package storetest

import (
	"errors"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// uploads: opening, resuming, fencing and abandoning.
var uploads = []scenario{
	{"the first opening makes a running job with all that the header says", func(f *fixture) {
		n := header("a")
		n.Parameters = map[string]string{"p": "1"}
		n.Labels = map[string]string{"owner": "me"}
		n.Priority, n.Size = 7, 1234
		n.Policy = job.Policy{MaxAttempts: 5, BatchItems: 10, DefaultSourceDB: "PubMed"}
		before := f.now()
		up, err := f.OpenUpload(f.ctx, n)
		f.must(err)
		if up.JobID == 0 || up.Epoch == 0 {
			f.Fatalf("upload = %+v, want a job and an epoch", up)
		}
		f.equal("upload", up, store.Upload{JobID: up.JobID, UploadID: "a", Epoch: up.Epoch, State: job.Running})
		j := f.job(up.JobID)
		if j.SubmittedAt.Before(before.Add(-time.Second)) || j.SubmittedAt.After(f.now().Add(time.Second)) {
			f.Errorf("submitted at %v, now %v", j.SubmittedAt, f.now())
		}
		f.equal("job", j, job.Job{
			ID: up.JobID, UploadID: "a", Project: n.Project, Kind: n.Kind, Mode: n.Mode, Parameters: n.Parameters,
			Labels: n.Labels, Priority: 7, FileName: n.FileName, Size: 1234, Policy: n.Policy, State: job.Running,
			Revision: j.Revision, Run: 1, SubmittedAt: j.SubmittedAt, UpdatedAt: j.UpdatedAt,
		})
	}},
	{"opening again raises the epoch and keeps job and position", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 3, 4)
		g.Position.Document, g.Position.Hash = "PubMed:7", []byte{0, 1, 255}
		f.commit(up, g)
		again := f.open("a")
		if again.Epoch <= up.Epoch {
			f.Errorf("epoch %d after %d", again.Epoch, up.Epoch)
		}
		f.equal("upload", again, store.Upload{
			JobID: up.JobID, UploadID: "a", Epoch: again.Epoch, Position: g.Position, Items: 7, Batches: 2, State: job.Running,
		})
	}},
	{"a stream of before can add nothing", func(f *fixture) {
		up := f.open("a")
		f.open("a")
		if err := f.CommitIngest(f.ctx, cut(up, 3)); !errors.Is(err, store.ErrUploadFenced) {
			f.Fatalf("commit of a fenced stream: %v, want ErrUploadFenced", err)
		}
		if j := f.audit(up.JobID, 0); j.ItemsTotal != 0 {
			f.Errorf("the fenced stream added %d items", j.ItemsTotal)
		}
	}},
	{"another header is refused and changes nothing", func(f *fixture) {
		up := f.open("a")
		for _, change := range []func(*store.NewJob){
			func(n *store.NewJob) { n.Project = "other" },
			func(n *store.NewJob) { n.Kind = "other" },
			func(n *store.NewJob) { n.Mode = "other" },
		} {
			n := header("a")
			change(&n)
			if _, err := f.OpenUpload(f.ctx, n); !errors.Is(err, store.ErrUploadMismatch) {
				f.Errorf("opening with %+v: %v, want ErrUploadMismatch", n, err)
			}
		}
		f.commit(up, cut(up, 1)) // still the stream that may add
	}},
	{"a finished upload is returned as it is", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 3)
		g.Finished = true
		done := f.commit(up, g)
		if !done.Finished || done.Epoch != up.Epoch {
			f.Errorf("upload = %+v, want it finished in epoch %d", done, up.Epoch)
		}
		f.equal("opened again", f.open("a"), done)
	}},
	{"an unknown upload is not found", func(f *fixture) {
		if _, err := f.GetUpload(f.ctx, "nobody's"); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("GetUpload: %v, want ErrNotFound", err)
		}
		if err := f.CommitIngest(f.ctx, store.IngestGroup{JobID: 12345, Epoch: 1}); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("CommitIngest: %v, want ErrNotFound", err)
		}
	}},
	{"uploads that nobody goes on with are abandoned", func(f *fixture) {
		idle := f.open("idle")
		f.commit(idle, cut(idle, 2))
		f.submit("finished", 2)
		stopped := f.open("stopped")
		f.stop(stopped.JobID)
		none, err := f.AbandonUploads(f.ctx, long)
		f.must(err)
		f.equal("abandoned after an hour", none, []int64{})
		f.pass(f.now().Add(short))
		ids, err := f.AbandonUploads(f.ctx, short)
		f.must(err)
		f.equal("abandoned", ids, []int64{idle.JobID})
		j := f.job(idle.JobID)
		if j.State != job.Cancelling || j.StopAs != job.Failed || j.Reason != store.Abandoned(short) {
			f.Errorf("the abandoned job is %v as %v because %q", j.State, j.StopAs, j.Reason)
		}
		again, err := f.AbandonUploads(f.ctx, short)
		f.must(err)
		f.equal("abandoned again", again, []int64{})
		f.sweep(idle.JobID)
		if j := f.audit(idle.JobID, 0); j.State != job.Failed || j.ItemOutcomes[job.ItemCancelled] != 2 {
			f.Errorf("the abandoned job ended %v with %v", j.State, j.ItemOutcomes)
		}
	}},
	{"an upload that goes on is not abandoned", func(f *fixture) {
		opened, committed, kept := f.open("opened"), f.open("committed"), f.open("kept")
		f.pass(f.now().Add(margin))
		f.open("opened")
		f.commit(committed, cut(committed, 1))
		f.must(f.KeepUpload(f.ctx, kept.JobID, kept.Epoch))
		ids, err := f.AbandonUploads(f.ctx, margin)
		f.must(err)
		f.equal("abandoned", ids, []int64{})
		if err := f.KeepUpload(f.ctx, opened.JobID, opened.Epoch); !errors.Is(err, store.ErrUploadFenced) {
			f.Errorf("kept by a stream of before: %v, want ErrUploadFenced", err)
		}
		f.equal("state", f.job(opened.JobID).State, job.Running)
	}},
}
