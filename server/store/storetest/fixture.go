package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Durations of the suite.
const (
	long    = time.Hour             // a lease that does not run out while a test runs
	short   = 10 * time.Millisecond // a lease that does
	patient = 20 * time.Second      // the bound of every wait
	pause   = 2 * time.Millisecond  // between two looks
	margin  = 2 * time.Second       // that a busy machine may stand still between two steps
)

// tb is what the suite needs of a test; both testing.TB and rapid.T have it.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// fixture is a store under test with the steps that scenarios are made of. A step that fails ends the test.
type fixture struct {
	tb
	store.Store
	ctx context.Context
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("unexpected error: %v", err)
	}
}

// equal compares with go-cmp; nil and empty slices and maps are alike.
func (f *fixture) equal(what string, got, want any) {
	f.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// wait looks until done says so, and fails the test when that takes too long.
func (f *fixture) wait(what string, done func() bool) {
	f.Helper()
	limit := time.NewTimer(patient)
	defer limit.Stop()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit.C:
			f.Fatalf("waited %v for %s", patient, what)
		}
	}
}

// pass waits until the store's clock has passed t.
func (f *fixture) pass(t time.Time) {
	f.Helper()
	f.wait("the clock to pass "+t.String(), func() bool { return f.now().After(t) })
}

func (f *fixture) now() time.Time {
	f.Helper()
	now, err := f.Now(f.ctx)
	f.must(err)
	return now
}

// header is that of an upload with this id.
func header(id string) store.NewJob {
	return store.NewJob{UploadID: id, Project: "project-" + id, Kind: "annotations", Mode: "replace", FileName: id + ".jsonl"}
}

// cut makes the group that follows up: batches of the given numbers of items, each item a document of its own, 10
// bytes and a line long, with a weight of 1.
func cut(up store.Upload, items ...int32) store.IngestGroup {
	g := store.IngestGroup{JobID: up.JobID, Epoch: up.Epoch, Position: up.Position}
	for _, n := range items {
		b := store.NewBatch{FirstItem: g.Position.Item + 1, Items: n, Weight: n, Annotations: n + 1}
		b.Frame = frame(b.FirstItem, n)
		for range n {
			g.Position.Item++
			b.Documents = append(b.Documents, document(g.Position.Item))
		}
		g.Position.Batch++
		g.Batches = append(g.Batches, b)
	}
	g.Position.Line = g.Position.Item
	g.Position.Offset = 10 * g.Position.Item
	g.Position.Received = g.Position.Offset
	return g
}

func document(item int64) string { return fmt.Sprintf("PubMed:%d", item) }

// frame is the payload of items that are numbered from first on.
func frame(first int64, items int32) []byte {
	var e payload.Encoder
	for i := range int64(items) {
		data := fmt.Appendf(nil, `{"n":%d}`, first+i)
		err := e.Append(payload.Item{
			Number: first + i, File: "a.jsonl", Line: first + i, Offset: 10 * (first + i - 1), Document: document(first + i), Data: data,
			Length: int64(len(data)),
		})
		if err != nil {
			panic(err)
		}
	}
	data, err := e.Finish()
	if err != nil {
		panic(err)
	}
	return data
}

// open opens an upload with this id.
func (f *fixture) open(id string) store.Upload {
	f.Helper()
	up, err := f.OpenUpload(f.ctx, header(id))
	f.must(err)
	return up
}

// commit adds a group and returns the upload after it.
func (f *fixture) commit(up store.Upload, g store.IngestGroup) store.Upload {
	f.Helper()
	f.must(f.CommitIngest(f.ctx, g))
	after, err := f.GetUpload(f.ctx, up.UploadID)
	f.must(err)
	return after
}

// submit uploads a whole job cut into batches of the given numbers of items, and returns its id.
func (f *fixture) submit(id string, items ...int32) int64 {
	f.Helper()
	up := f.open(id)
	g := cut(up, items...)
	g.Finished = true
	f.commit(up, g)
	return up.JobID
}

// register starts a session of a worker.
func (f *fixture) register(worker string) int64 {
	f.Helper()
	id, _, err := f.RegisterSession(f.ctx, session(worker))
	f.must(err)
	return id
}

func session(worker string) store.Session {
	return store.Session{WorkerID: worker, Host: "host", PID: 42, Version: "v0", Kinds: []string{"annotations"}, Slots: 8}
}

// requests numbers the claims of a test, so that each is a new one.
func request(sessionID int64, name string, most int) store.ClaimRequest {
	return store.ClaimRequest{SessionID: sessionID, RequestID: name, Max: most}
}

// claim takes at most most batches of jobs for a session, from the front, under a request id.
func (f *fixture) claim(sessionID int64, name string, lease time.Duration, most int, jobs ...int64) []store.Grant {
	f.Helper()
	turns := make([]store.Turn, len(jobs))
	for i, id := range jobs {
		turns[i] = store.Turn{JobID: id, Most: most}
	}
	got, err := f.Claim(f.ctx, lease, []store.ClaimRequest{request(sessionID, name, most)}, turns)
	f.must(err)
	f.must(got.Errs[0])
	return got.Grants[0]
}

// rides checks the payload that came with a grant, if one did, and takes it off.
func (f *fixture) rides(g *store.Grant) {
	f.Helper()
	if g.Frame != nil {
		frames, err := f.Payloads(f.ctx, []int64{g.BatchID}, 1<<20)
		f.must(err)
		f.equal("payload that came with a grant", g.Frame, frames[g.BatchID])
	}
	g.Frame = nil
}

// claimOne takes one batch of a job, failing the test when there is none.
func (f *fixture) claimOne(sessionID int64, name string, lease time.Duration, jobID int64) store.Grant {
	f.Helper()
	grants := f.claim(sessionID, name, lease, 1, jobID)
	if len(grants) != 1 {
		f.Fatalf("claim %q got %d batches, want 1", name, len(grants))
	}
	return grants[0]
}

// session returns a session that lives.
func (f *fixture) session(id int64) store.Session {
	f.Helper()
	s, err := f.GetSession(f.ctx, id)
	f.must(err)
	return s
}

// touch notes that sessions have beaten and returns those that are being drained.
func (f *fixture) touch(sessions ...int64) []int64 {
	f.Helper()
	drained, err := f.TouchSessions(f.ctx, sessions)
	f.must(err)
	return drained
}

// beat sends one beat and returns its answer.
func (f *fixture) beat(b store.Beat) store.BeatAnswer {
	f.Helper()
	answers, skipped, err := f.Beat(f.ctx, long, []store.Beat{b})
	f.must(err)
	if len(answers) != 1 || len(skipped) != 0 {
		f.Fatalf("a beat alone got %d answers and was skipped %d times", len(answers), len(skipped))
	}
	return answers[0]
}

// settle settles one attempt and returns the answer.
func (f *fixture) settle(s store.Settlement) store.SettleAnswer {
	f.Helper()
	answers, _, err := f.Settle(f.ctx, []store.Settlement{s})
	f.must(err)
	if len(answers) != 1 {
		f.Fatalf("one settlement got %d answers", len(answers))
	}
	return answers[0]
}

// stored reports n items stored.
func stored(n int32) []job.Run { return []job.Run{{Count: n, Outcome: job.Stored}} }

// completed settles a grant with all that its batch still lacks stored.
func completed(g store.Grant) store.Settlement {
	return store.Settlement{Lease: g.Lease, End: job.End{
		Kind: job.EndCompleted, From: g.DoneItems, Outcomes: stored(g.ItemCount - g.DoneItems),
	}}
}

// ended settles a grant with nothing done.
func ended(g store.Grant, kind job.EndKind) store.Settlement {
	return store.Settlement{Lease: g.Lease, End: job.End{Kind: kind, From: g.DoneItems, Message: string(kind)}}
}

// crash has a batch crash that a session was granted: all of its items but the last are stored, and that one kills the
// process that handles it, twice.
func (f *fixture) crash(session int64, g store.Grant) {
	f.Helper()
	end := ended(g, job.EndDied)
	end.Outcomes = stored(g.ItemCount - g.DoneItems - 1)
	last := job.BatchCrashed
	if g.ItemCount > 1 { // the items that are done become a part of their own
		last = job.BatchSplit
	}
	f.equal("after the first death", f.settle(end).State, job.BatchPending)
	if grants := f.claim(session, fmt.Sprintf("again %d", g.BatchID), long, 1, g.JobID); len(grants) == 1 && grants[0].BatchID == g.BatchID {
		f.equal("after the second death", f.settle(ended(grants[0], job.EndDied)).State, last)
		return
	} else if len(grants) == 1 {
		f.settle(ended(grants[0], job.EndReleased))
	}
	// There are other workers, so that it is one of these that must try.
	again := f.claimOne(f.register(fmt.Sprintf("other of %d", g.BatchID)), "1", long, g.JobID)
	f.equal("again", again.BatchID, g.BatchID)
	f.equal("after the second death", f.settle(ended(again, job.EndDied)).State, last)
}

// expire waits until the lease of a grant that was claimed for short has run out.
func (f *fixture) expire(g store.Grant) {
	f.Helper()
	b := f.batch(g.BatchID)
	if b.State != job.BatchRunning {
		f.Fatalf("batch %d is %v, want running", g.BatchID, b.State)
	}
	f.pass(b.LeaseExpiresAt)
}

// reap ends every expired lease.
func (f *fixture) reap() []store.Ended {
	f.Helper()
	got, err := f.Reap(f.ctx, nil, 1000)
	f.must(err)
	return got.Ended
}

// fold folds a job and returns it.
func (f *fixture) fold(id int64) job.Job {
	f.Helper()
	_, _, err := f.Fold(f.ctx, id)
	f.must(err)
	return f.job(id)
}

func (f *fixture) job(id int64) job.Job {
	f.Helper()
	j, err := f.GetJob(f.ctx, id)
	f.must(err)
	return j
}

func (f *fixture) batch(id int64) store.BatchRow {
	f.Helper()
	b, _, err := f.GetBatch(f.ctx, id)
	f.must(err)
	return b
}

func (f *fixture) attempts(id int64) []store.Attempt {
	f.Helper()
	_, a, err := f.GetBatch(f.ctx, id)
	f.must(err)
	return a
}

// batches returns all batches of a job, read in pages.
func (f *fixture) batches(jobID int64) []store.BatchRow {
	f.Helper()
	var all []store.BatchRow
	for after := (store.Page{Size: 7}); ; {
		page, err := f.ListBatches(f.ctx, store.BatchFilter{JobID: jobID}, after)
		f.must(err)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		last := page[len(page)-1]
		after.After, after.AfterID = int64(last.Ordinal)+1, last.ID
	}
}

// findings returns all findings of a job, read in pages.
func (f *fixture) findings(filter store.FindingFilter) []store.Finding {
	f.Helper()
	var all []store.Finding
	for token := ""; ; {
		page, next, err := f.ListFindings(f.ctx, filter, 3, token)
		f.must(err)
		all = append(all, page...)
		if next == "" {
			return all
		}
		token = next
	}
}

// sweep cancels what is pending of a job until nothing is left.
func (f *fixture) sweep(id int64) {
	f.Helper()
	f.wait("the sweep to end", func() bool {
		n, err := f.SweepJob(f.ctx, id, 2)
		f.must(err)
		return n == 0
	})
}

// stop makes a job cancelling.
func (f *fixture) stop(id int64) {
	f.Helper()
	_, err := f.StopJob(f.ctx, id, job.Cancelled, "asked to")
	f.must(err)
}
