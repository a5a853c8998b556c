package storetest

import (
	"errors"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// deletion: hidden at once, removed in steps.
var deletion = []scenario{
	{"an open or unknown job is not deleted", func(f *fixture) {
		id := f.submit("a", 1)
		if err := f.DeleteJob(f.ctx, id); !errors.Is(err, store.ErrJobOpen) {
			f.Errorf("a running job: %v, want ErrJobOpen", err)
		}
		f.stop(id)
		if err := f.DeleteJob(f.ctx, id); !errors.Is(err, store.ErrJobOpen) {
			f.Errorf("a cancelling job: %v, want ErrJobOpen", err)
		}
		if err := f.DeleteJob(f.ctx, 12345); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("an unknown job: %v, want ErrNotFound", err)
		}
		f.audit(id, 0)
	}},
	{"a deleted job is hidden at once and removed in steps, others stay", func(f *fixture) {
		id, other := f.submitted("a"), f.submitted("b")
		first := f.batches(id)[0]
		f.must(f.DeleteJob(f.ctx, id))
		hidden := func() {
			f.Helper()
			for name, err := range map[string]error{
				"GetJob":    second(f.GetJob(f.ctx, id)),
				"GetUpload": second(f.GetUpload(f.ctx, "a")),
				"DeleteJob": f.DeleteJob(f.ctx, id),
				"Fold":      third(f.Fold(f.ctx, id)),
				"StopJob":   second(f.StopJob(f.ctx, id, job.Cancelled, "")),
				"GetBatch":  third(f.GetBatch(f.ctx, first.ID)),
			} {
				if !errors.Is(err, store.ErrNotFound) {
					f.Errorf("%s of a deleted job: %v, want ErrNotFound", name, err)
				}
			}
			list, err := f.ListJobs(f.ctx, store.JobFilter{}, store.Page{Size: 9})
			f.must(err)
			if len(list) != 1 || list[0].ID != other {
				f.Errorf("jobs = %+v, want %d alone", list, other)
			}
			f.equal("its batches", f.batchIDs(store.BatchFilter{JobID: id}, store.Page{Size: 9}), []int64{})
			f.equal("its findings", f.findings(store.FindingFilter{JobID: id}), []store.Finding{})
			f.equal("found", len(f.batchIDs(store.BatchFilter{Document: document(1)}, store.Page{Size: 9})), 1)
		}
		hidden()
		steps := 0
		f.wait("the job to be gone", func() bool {
			more, err := f.DeleteStep(f.ctx, 3)
			f.must(err)
			steps++
			hidden()
			return !more
		})
		if steps < 5 {
			f.Errorf("gone after %d steps of at most 3 rows", steps)
		}
		frames, err := f.Payloads(f.ctx, []int64{first.ID}, 1<<20)
		f.must(err)
		f.equal("its payloads", frames, map[int64][]byte{})
		f.equal("its results", f.values(id, 0, 9), []itemValue{})
		if more, err := f.DeleteStep(f.ctx, 3); more || err != nil {
			f.Errorf("with nothing to delete: more %v, %v", more, err)
		}
		f.audit(other, 0)
		f.equal("findings of the other", len(f.findings(store.FindingFilter{JobID: other})), 2)
		f.equal("results of the other", len(f.values(other, 0, 9)), 6)
	}},
	{"the upload id of a deleted job may be used again", func(f *fixture) {
		id := f.submitted("a")
		f.must(f.DeleteJob(f.ctx, id))
		up := f.open("a")
		if up.JobID == id || up.Finished || up.Items != 0 {
			f.Errorf("opened again: %+v after job %d", up, id)
		}
		f.wait("the old job to be gone", func() bool {
			more, err := f.DeleteStep(f.ctx, 100)
			f.must(err)
			return !more
		})
		up = f.commit(up, cut(up, 2))
		f.audit(up.JobID, 0)
	}},
}

// submitted is a job of five batches that has ended, with something in every table.
func (f *fixture) submitted(id string) int64 {
	f.Helper()
	up := f.open(id)
	g := cut(up, 2, 2, 2, 2, 2)
	g.Finished = true
	g.Findings = []store.Finding{{Item: 1, Severity: store.Warning, Code: "W"}, {Item: 2, Severity: store.Warning, Code: "W"}}
	f.commit(up, g)
	s := f.register("worker of " + id)
	for i, grant := range f.claim(s, "1", long, 5, up.JobID) {
		if i%2 == 0 {
			f.settle(completedWith(grant, "done"))
		} else {
			f.settle(ended(grant, job.EndFailed))
		}
	}
	if j := f.audit(up.JobID, 0); !j.State.Ended() {
		f.Fatalf("the job is %v", j.State)
	}
	return up.JobID
}

func second[A any](_ A, err error) error { return err }

func third[A, B any](_ A, _ B, err error) error { return err }
