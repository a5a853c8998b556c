package storetest

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// batchIDs lists batches and returns their ids.
func (f *fixture) batchIDs(filter store.BatchFilter, page store.Page) []int64 {
	f.Helper()
	rows, err := f.ListBatches(f.ctx, filter, page)
	f.must(err)
	var ids []int64
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	return ids
}

// listings: filters, orders and pages.
var listings = []scenario{
	{"jobs are listed newest first, narrowed and in pages", func(f *fixture) {
		var ids []int64
		for i, kind := range []string{"annotations", "ner", "annotations", "annotations"} {
			n := header(strconv.Itoa(i))
			n.Project, n.Kind = fmt.Sprint("project-", i%2), kind
			up, err := f.OpenUpload(f.ctx, n)
			f.must(err)
			ids = append(ids, up.JobID)
		}
		f.stop(ids[2])
		f.stop(ids[3])
		f.fold(ids[3])
		for _, c := range []struct {
			name   string
			filter store.JobFilter
			page   store.Page
			want   []int64
		}{
			{"all", store.JobFilter{}, store.Page{Size: 9}, []int64{ids[3], ids[2], ids[1], ids[0]}},
			{"first page", store.JobFilter{}, store.Page{Size: 3}, []int64{ids[3], ids[2], ids[1]}},
			{"second page", store.JobFilter{}, store.Page{Size: 3, After: ids[1]}, []int64{ids[0]}},
			{"after the last", store.JobFilter{}, store.Page{Size: 3, After: ids[0]}, nil},
			{"by project", store.JobFilter{Project: "project-1"}, store.Page{Size: 9}, []int64{ids[3], ids[1]}},
			{"by projects", store.JobFilter{Projects: []string{"project-1", "none"}}, store.Page{Size: 9}, []int64{ids[3], ids[1]}},
			{"by projects, all", store.JobFilter{Projects: []string{"project-1", "project-0"}}, store.Page{Size: 3}, []int64{ids[3], ids[2], ids[1]}},
			{"by projects and states", store.JobFilter{Projects: []string{"project-1", "none"}, States: []job.State{job.Running, job.Paused}}, store.Page{Size: 9}, []int64{ids[1]}},
			{"by one of the projects", store.JobFilter{Project: "project-0", Projects: []string{"project-1"}}, store.Page{Size: 9}, []int64{ids[2], ids[0]}},
			{"by kind", store.JobFilter{Kind: "ner"}, store.Page{Size: 9}, []int64{ids[1]}},
			{"by state", store.JobFilter{States: []job.State{job.Running}}, store.Page{Size: 9}, []int64{ids[1], ids[0]}},
			{"by states", store.JobFilter{States: []job.State{job.Cancelled, job.Cancelling}}, store.Page{Size: 9}, []int64{ids[3], ids[2]}},
			{"by all", store.JobFilter{Project: "project-0", Kind: "annotations", States: []job.State{job.Cancelling}}, store.Page{Size: 9}, []int64{ids[2]}},
			{"by all, in pages", store.JobFilter{Project: "project-0"}, store.Page{Size: 1, After: ids[2]}, []int64{ids[0]}},
		} {
			list, err := f.ListJobs(f.ctx, c.filter, c.page)
			f.must(err)
			var got []int64
			for _, j := range list {
				got = append(got, j.ID)
				f.equal("a listed job", j, f.job(j.ID))
			}
			f.equal(c.name, got, c.want)
		}
		if _, err := f.GetJob(f.ctx, 12345); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("unknown job: %v, want ErrNotFound", err)
		}
	}},
	{"batches of a job are listed by ordinal, narrowed and in pages", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1, 1, 1)
		s := f.register("w")
		grants := f.claim(s, "1", long, 5, id)
		_, _, err := f.Settle(f.ctx, []store.Settlement{
			completed(grants[0]), ended(grants[1], job.EndFailed), completed(grants[3]), ended(grants[4], job.EndReleased),
		})
		f.must(err)
		all := f.batchIDs(store.BatchFilter{JobID: id}, store.Page{Size: 9})
		for _, c := range []struct {
			name   string
			filter store.BatchFilter
			page   store.Page
			want   []int64
		}{
			{"first page", store.BatchFilter{JobID: id}, store.Page{Size: 4}, all[:4]},
			{"second page", store.BatchFilter{JobID: id}, store.Page{Size: 4, After: 4}, all[4:]},
			{"after the last", store.BatchFilter{JobID: id}, store.Page{Size: 4, After: 6}, nil},
			{"pending", store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchPending}}, store.Page{Size: 9}, all[4:]},
			{"running", store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchRunning}}, store.Page{Size: 9}, all[2:3]},
			{"completed", store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchCompleted}}, store.Page{Size: 9}, []int64{all[0], all[3]}},
			{"failed or crashed", store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchFailed, job.BatchCrashed}}, store.Page{Size: 9}, all[1:2]},
			{"completed, second page", store.BatchFilter{JobID: id, States: []job.BatchState{job.BatchCompleted}}, store.Page{Size: 1, After: 1}, all[3:4]},
			{"by document", store.BatchFilter{JobID: id, Document: document(3)}, store.Page{Size: 9}, all[2:3]},
			{"by a document that is not there", store.BatchFilter{JobID: id, Document: "PMC:1"}, store.Page{Size: 9}, nil},
		} {
			f.equal(c.name, f.batchIDs(c.filter, c.page), c.want)
		}
		rows, err := f.ListBatches(f.ctx, store.BatchFilter{JobID: id}, store.Page{Size: 9})
		f.must(err)
		for _, r := range rows {
			f.equal("a listed batch", r, f.batch(r.ID))
		}
	}},
	{"a batch shows its holder, its first documents and their number", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 12, 1)
		g.Batches[1].Documents = nil
		f.commit(up, g)
		rows := f.batches(up.JobID)
		want := g.Batches[0].Documents[:10]
		f.equal("documents", rows[0].Documents, want)
		if rows[0].Total != 12 || rows[0].WorkerID != "" {
			f.Errorf("%d documents, worker %q", rows[0].Total, rows[0].WorkerID)
		}
		f.equal("no documents", rows[1].Documents, []string{})
		grants := f.claim(f.register("w"), "1", long, 2, up.JobID)
		f.equal("worker while it runs", f.batch(grants[0].BatchID).WorkerID, "w")
		f.settle(completed(grants[0]))
		f.equal("worker when it has completed", f.batch(grants[0].BatchID).WorkerID, "w")
		if _, _, err := f.GetBatch(f.ctx, 12345); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("unknown batch: %v, want ErrNotFound", err)
		}
	}},
	{"a document is found across jobs, newest first, in pages", func(f *fixture) {
		var ids []int64
		for i := range 5 {
			id := f.submit(strconv.Itoa(i), 2, 1)
			ids = append(ids, f.batches(id)[0].ID)
		}
		filter := store.BatchFilter{Document: document(2)}
		f.equal("all", f.batchIDs(filter, store.Page{Size: 9}), []int64{ids[4], ids[3], ids[2], ids[1], ids[0]})
		f.equal("first page", f.batchIDs(filter, store.Page{Size: 2}), []int64{ids[4], ids[3]})
		f.equal("second page", f.batchIDs(filter, store.Page{Size: 2, After: ids[3]}), []int64{ids[2], ids[1]})
		f.settle(completed(f.claimOne(f.register("w"), "1", long, f.batch(ids[2]).JobID)))
		filter.States = []job.BatchState{job.BatchCompleted}
		f.equal("completed", f.batchIDs(filter, store.Page{Size: 9}), ids[2:3])
		f.equal("a prefix is another document", f.batchIDs(store.BatchFilter{Document: "PubMed:"}, store.Page{Size: 9}), []int64{})
	}},
	{"findings are listed by item, then as recorded, narrowed and in pages", func(f *fixture) {
		up := f.open("a")
		g := cut(up, 4, 4)
		for i := range 8 {
			g.Findings = append(g.Findings, store.Finding{
				Item: int64(8 - i/2), Severity: store.Severity(1 + i%2), Code: fmt.Sprint("C", i%3), Message: strconv.Itoa(i),
			})
		}
		f.commit(up, g)
		other := f.open("b")
		h := cut(other, 1)
		h.Findings = []store.Finding{{Item: 1, Severity: store.Error, Code: "C0", Message: "other"}}
		f.commit(other, h)
		grant := f.claimOne(f.register("w"), "1", long, up.JobID)
		f.beat(store.Beat{Lease: grant.Lease, Outcomes: stored(1), Findings: []store.Finding{
			{Item: 5, Position: 0, Severity: store.Error, Code: "C0", Message: "worker"},
		}})
		for _, c := range []struct {
			name   string
			filter store.FindingFilter
			want   []string
		}{
			{"all", store.FindingFilter{}, []string{"6", "7", "worker", "4", "5", "2", "3", "0", "1"}},
			{"by item", store.FindingFilter{Item: 7}, []string{"2", "3"}},
			{"by code", store.FindingFilter{Code: "C0"}, []string{"6", "worker", "3", "0"}},
			{"by severity", store.FindingFilter{Severity: store.Warning}, []string{"6", "4", "2", "0"}},
			{"by batch", store.FindingFilter{BatchID: grant.BatchID}, []string{"worker"}},
			{"by all", store.FindingFilter{BatchID: grant.BatchID, Item: 5, Code: "C0", Severity: store.Error}, []string{"worker"}},
			{"by what is not there", store.FindingFilter{Code: "X"}, nil},
		} {
			c.filter.JobID = up.JobID
			var got []string
			for _, finding := range f.findings(c.filter) {
				got = append(got, finding.Message)
			}
			// 6 and 7 are about item 5, as is the worker's, which came last.
			f.equal(c.name, got, c.want)
		}
	}},
	{"the last crashes of a job come newest first", func(f *fixture) {
		id := f.submit("a", 1, 1, 1, 1)
		s := f.register("w")
		grants := f.claim(s, "1", long, 4, id)
		for i, kind := range []job.EndKind{job.EndDied, job.EndFailed, job.EndDied, job.EndDied} {
			before := f.now()
			end := ended(grants[i], kind)
			end.Message = strconv.Itoa(i)
			f.settle(end)
			f.pass(before)
		}
		for limit, want := range map[int][]string{9: {"3", "2", "0"}, 2: {"3", "2"}} {
			list, err := f.LastCrashes(f.ctx, id, limit)
			f.must(err)
			var got []string
			for _, a := range list {
				got = append(got, a.Message)
				if a.WorkerID != "w" || a.Kind != job.EndDied || a.EndedAt.IsZero() {
					f.Errorf("crash = %+v", a)
				}
			}
			f.equal(fmt.Sprint("at most ", limit), got, want)
		}
	}},
}
