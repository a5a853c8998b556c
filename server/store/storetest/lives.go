package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Lives drives jobs at random, each through pauses, stops, limits and retries, and checks their books after every step:
// only a retry moves what has ended, everything that it is about and nothing else; what handlers gave stays; attempts
// only grow; no job goes on past a limit; a job that has nothing left to do ends. At most runs sequences are tried, all on
// one store.
func Lives(t *testing.T, open Open, runs int) {
	t.Helper()
	s := open(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		if run > runs && runs > 0 {
			return
		}
		f := &fixture{tb: rt, Store: s, ctx: context.WithoutCancel(t.Context())}
		begin(rt, f, run).live(rt)
	})
}

// life is what one sequence knows of its job.
type life struct {
	*fixture
	run     int
	names   int
	up      store.Upload
	worker  string
	session int64
	held    []store.Grant

	refused  int64                    // items that ingest rejected
	handled  map[int64]int32          // items of which handlers gave the outcome, by batch
	over     map[int64]store.BatchRow // ended batches, as they ended
	attempts map[int64]int32          // last seen, by batch
	last     *store.Retry
	left     []int64 // batches that the last retry has to move
	revision int64
	seenRun  int32
	ended    int64 // items, as last seen in that run
}

func begin(t *rapid.T, f *fixture, run int) *life {
	l := &life{fixture: f, run: run, handled: map[int64]int32{}, over: map[int64]store.BatchRow{}, attempts: map[int64]int32{}}
	n := header(l.name("life"))
	n.Policy.MaxAttempts = rapid.Int32Range(1, 2).Draw(t, "attempts")
	n.Policy.MaxBadItems = rapid.SampledFrom([]int64{0, 0, 4}).Draw(t, "most bad items")
	n.Policy.Strict = rapid.IntRange(0, 9).Draw(t, "strict") == 0
	up, err := f.OpenUpload(f.ctx, n)
	f.must(err)
	l.up = up
	l.worker = l.name("worker")
	l.session = f.register(l.worker)
	l.ingest(t)
	return l
}

func (l *life) name(prefix string) string {
	l.names++
	return fmt.Sprintf("%s-%d-%d", prefix, l.run, l.names)
}

// live takes steps, and then has the job end.
func (l *life) live(t *rapid.T) {
	steps := []func(*rapid.T){
		l.handle, l.handle, l.handle, l.handle, l.claimOne, l.claimOne, l.die, l.settleHeld, l.ingest, l.pause, l.resume, l.resume, l.stop,
		l.sweep, l.sweep, l.retryBad, l.retryBad, l.retryBad, l.again, l.step, l.step, l.step,
	}
	for range rapid.IntRange(10, 50).Draw(t, "steps") {
		steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")](t)
		l.check()
	}
	l.finish()
}

func (l *life) ingest(t *rapid.T) {
	if l.up.Finished {
		return
	}
	l.up = l.open(l.up.UploadID)
	g := cut(l.up, rapid.SliceOfN(rapid.Int32Range(1, 6), 0, 4).Draw(t, "items")...)
	if rapid.IntRange(0, 5).Draw(t, "rejected") == 0 {
		g.Rejected = []store.RejectedItems{{FirstItem: g.Position.Item + 1, Items: 1, Frame: []byte("x")}}
		g.Position.Item++
		g.Position.Offset += 10
	}
	g.Finished = rapid.Bool().Draw(t, "last")
	err := l.CommitIngest(l.ctx, g)
	if l.job(l.up.JobID).State.Stopping() {
		if !errors.Is(err, store.ErrJobStopped) {
			l.Fatalf("commit to a job that is stopped: %v", err)
		}
		return
	}
	l.must(err)
	l.refused += int64(len(g.Rejected))
	l.up, err = l.GetUpload(l.ctx, l.up.UploadID)
	l.must(err)
}

func (l *life) claimOne(*rapid.T) {
	state := l.job(l.up.JobID).State
	grants := l.claim(l.session, l.name("claim"), long, 1, l.up.JobID)
	for _, g := range grants {
		if state != job.Running || g.Attempt != l.attempts[g.BatchID]+1 || g.DoneItems != l.handled[g.BatchID] {
			l.Fatalf("a job that is %v granted %+v after %d attempts, with %d items done", state, g, l.attempts[g.BatchID],
				l.handled[g.BatchID])
		}
	}
	l.held = append(l.held, grants...)
}

// handle claims and settles at once.
func (l *life) handle(t *rapid.T) {
	l.claimOne(t)
	l.settleHeld(t)
}

// settleHeld ends the attempt that was granted last.
func (l *life) settleHeld(t *rapid.T) {
	n := len(l.held)
	if n == 0 {
		return
	}
	g := l.held[n-1]
	l.held = l.held[:n-1]
	set := store.Settlement{Lease: g.Lease, End: job.End{
		Kind: rapid.SampledFrom([]job.EndKind{
			job.EndCompleted, job.EndCompleted, job.EndFailed, job.EndFailed, job.EndDied, job.EndReleased,
		}).Draw(t, "end"),
		Retryable: rapid.Bool().Draw(t, "retryable"), From: g.DoneItems,
	}}
	rest := g.ItemCount - g.DoneItems
	if set.Kind != job.EndCompleted {
		rest = rapid.Int32Range(0, rest-1).Draw(t, "done")
	}
	for range rest {
		o := rapid.SampledFrom([]job.Outcome{job.Stored, job.Stored, job.Stored, job.Skipped, job.Rejected}).Draw(t, "outcome")
		set.Outcomes = append(set.Outcomes, job.Run{Count: 1, Outcome: o})
	}
	if set.Kind == job.EndDied && rapid.Bool().Draw(t, "suspected") {
		set.Crash = &job.Crash{Suspect: g.DoneItems + rest + 1} // the first that was not done
	}
	if a := l.settle(set); a.Lost || a.Err != nil {
		l.Fatalf("settled: %+v", a)
	}
	l.handled[g.BatchID] += rest
}

// die has the worker's process end, with all that it held, and start again.
func (l *life) die(*rapid.T) {
	l.session = l.register(l.worker)
	l.held = nil
}

func (l *life) pause(*rapid.T)  { l.halt(job.Paused, l.PauseJob) }
func (l *life) resume(*rapid.T) { l.halt(job.Running, l.ResumeJob) }

func (l *life) halt(to job.State, halt func(context.Context, int64) (job.Job, error)) {
	before := l.job(l.up.JobID)
	after, err := halt(l.ctx, l.up.JobID)
	switch {
	case before.State.Stopping():
		if !errors.Is(err, store.ErrJobStopped) {
			l.Fatalf("a job that is %v becomes %v: %v", before.State, to, err)
		}
	case err != nil || after.State != to || (after.Revision > before.Revision) != (before.State != to):
		l.Fatalf("a job that is %v becomes %v: %v, %v", before.State, to, after.State, err)
	}
}

func (l *life) stop(*rapid.T) {
	l.fixture.stop(l.up.JobID)
	l.left = nil // what was not moved stays
}

func (l *life) sweep(*rapid.T) {
	_, err := l.SweepJob(l.ctx, l.up.JobID, 2)
	l.must(err)
}

func (l *life) step(t *rapid.T) {
	_, _, err := l.RetryStep(l.ctx, l.up.JobID, rapid.IntRange(1, 3).Draw(t, "limit"))
	l.must(err)
}

func (l *life) retryBad(t *rapid.T) {
	batches, before := l.batches(l.up.JobID), l.job(l.up.JobID)
	r := store.Retry{RequestID: l.name("retry")}
	r.States = rapid.SliceOfNDistinct(rapid.SampledFrom([]job.BatchState{
		job.BatchFailed, job.BatchCrashed, job.BatchCancelled}), 0, 2, rapid.ID).Draw(t, "states")
	if len(batches) > 0 && rapid.IntRange(0, 2).Draw(t, "named") == 0 {
		r.Batches = []int64{batches[rapid.IntRange(0, len(batches)-1).Draw(t, "batch")].ID}
	}
	var bad, more []int64 // more are those that an earlier retry still moves, with what ended since it began
	for _, b := range batches {
		if r.Set().Has(b.State) && (len(r.Batches) == 0 || slices.Contains(r.Batches, b.ID)) {
			bad = append(bad, b.ID)
		} else if before.Retrying.Has(b.State) {
			more = append(more, b.ID)
		}
	}
	resumable := before.State.Ended() && !l.up.Finished && len(r.States)+len(r.Batches) == 0
	j, err := l.RetryJob(l.ctx, l.up.JobID, r)
	switch {
	case before.State == job.Cancelling:
		if !errors.Is(err, store.ErrJobOpen) {
			l.Fatalf("retry while the job is being stopped: %v", err)
		}
		return
	case len(bad) == 0 && !resumable:
		if !errors.Is(err, store.ErrNothingToRetry) {
			l.Fatalf("retry of nothing: %v", err)
		}
		return
	case err != nil:
		l.Fatalf("retry of %v: %v", bad, err)
	case j.Run != before.Run+1 || j.State != before.State && (j.State != job.Running || !before.State.Ended()):
		l.Fatalf("a job that is %v in run %d is %v in run %d", before.State, before.Run, j.State, j.Run)
	}
	for _, id := range append(bad, more...) {
		if !slices.Contains(l.left, id) {
			l.left = append(l.left, id)
		}
	}
	l.last = &r
}

// again repeats the last retry, which changes nothing.
func (l *life) again(*rapid.T) {
	if l.last != nil {
		before := l.job(l.up.JobID)
		l.equal("the job after the same retry", l.retry(l.up.JobID, *l.last), before)
	}
}

// check folds the job and compares it with what is known.
func (l *life) check() {
	l.Helper()
	j := l.audit(l.up.JobID, l.refused)
	if j.Revision < l.revision {
		l.Fatalf("revision %d after %d", j.Revision, l.revision)
	}
	if j.Run == l.seenRun && j.ItemsEnded() < l.ended {
		l.Fatalf("in run %d %d items have ended after %d", j.Run, j.ItemsEnded(), l.ended)
	}
	l.revision, l.seenRun, l.ended = j.Revision, j.Run, j.ItemsEnded()
	for _, b := range l.batches(l.up.JobID) {
		l.checkBatch(b)
	}
	bad := j.ItemOutcomes[job.ItemFailed] + j.ItemOutcomes[job.ItemCrashed]
	switch p := j.Policy; {
	case j.State.Ended() && j.Retrying != 0:
		l.Fatalf("the job is %v while a retry moves batches", j.State)
	case j.State.Stopping():
		l.left = nil
	case j.Retrying == 0 && len(l.left) > 0:
		l.Fatalf("the retry is over and left %v", l.left)
	case p.MaxBadItems > 0 && bad-j.ForgivenBad > p.MaxBadItems:
		l.Fatalf("the job goes on with %d bad items, %d of them forgiven", bad, j.ForgivenBad)
	case p.Strict && j.Run == 1 && bad+j.ItemOutcomes[job.Rejected] > 0:
		l.Fatalf("the strict job goes on with %v", j.ItemOutcomes)
	case j.Retrying == 0 && j.BatchesOpen() == 0 && j.IngestDone:
		l.Fatalf("the job is %v with nothing left to do", j.State)
	}
}

func (l *life) checkBatch(b store.BatchRow) {
	l.Helper()
	if b.Attempt < l.attempts[b.ID] {
		l.Fatalf("batch %d is at attempt %d after %d", b.ID, b.Attempt, l.attempts[b.ID])
	}
	l.attempts[b.ID] = b.Attempt
	var given int32
	for _, r := range b.Outcomes {
		if r.Outcome.ByHandler() {
			given += r.Count
		}
	}
	want := l.handled[b.ID]
	if b.Attempt == 0 && b.ParentID != 0 && b.State == job.BatchCompleted {
		want = l.handled[b.ParentID] // what was done of it when it was split
	}
	if given != want {
		l.Fatalf("batch %d has %d outcomes of its handlers, want %d: %+v", b.ID, given, want, b.Outcomes)
	}
	first, ended := l.over[b.ID]
	switch moved := slices.Index(l.left, b.ID); {
	case b.State.Ended() && !ended:
		l.over[b.ID] = b
	case b.State.Ended():
		l.equal("an ended batch", b, first)
	case ended && moved < 0:
		l.Fatalf("batch %d was %v and is %v", b.ID, first.State, b.State)
	case ended:
		if b.State != job.BatchPending || b.Attempt != first.Attempt || b.Failures+b.Crashes+b.Losses != 0 {
			l.Fatalf("retried: %+v, before %+v", b.Batch, first.Batch)
		}
		l.left = slices.Delete(l.left, moved, moved+1)
		delete(l.over, b.ID)
	}
}

// finish stops what is open.
func (l *life) finish() {
	l.fixture.stop(l.up.JobID)
	l.left = nil
	for _, g := range l.held {
		l.settle(ended(g, job.EndReleased))
	}
	l.fixture.sweep(l.up.JobID)
	l.check()
	if state := l.job(l.up.JobID).State; !state.Ended() {
		l.Fatalf("nothing is open, and the job is %v", state)
	}
}
