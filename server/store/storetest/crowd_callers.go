package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// caller is one of a crowd, with what a coordinator remembers and with what its workers do.
type caller struct {
	*crowd
	store.Store
	random  *rand.Rand
	n       int
	floors  map[int64]int32
	streams map[*crowdJob]*crowdStream
	beats   map[int64]int64   // epochs of heartbeat streams, by session
	seen    map[int64]job.Job // as watched
}

type crowdStream struct {
	up   store.Upload
	last *store.IngestGroup
}

// fine reports whether a call succeeded; errors that a call may be answered with are no failures.
func (c *caller) fine(what string, err error, may ...error) bool {
	if err == nil {
		return true
	}
	for _, m := range may {
		if errors.Is(err, m) {
			return false
		}
	}
	c.Errorf("%s: %v", what, err)
	return false
}

func (c *caller) step() {
	steps := []struct {
		weight int
		do     func()
	}{
		{14, c.claim}, {12, c.beat}, {12, c.settle}, {8, c.ingest}, {6, c.reap}, {6, c.fold}, {4, c.watch}, {2, c.sweepStep},
		{1, c.register}, {1, c.deregister}, {2, c.openStream}, {2, c.breakStream}, {1, c.pause}, {1, c.abandon},
		{1, c.remove}, {1, c.touch}, {1, c.silence}, {2, c.retry}, {4, c.retryStep}, {1, c.excuse},
	}
	sum := 0
	for _, s := range steps {
		sum += s.weight
	}
	n := c.random.IntN(sum)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			s.do()
			return
		}
	}
}

// lease draws how long a lease, or a grace, is: sometimes it runs out while others are at it.
func (c *caller) lease() time.Duration {
	return []time.Duration{long, crowdLease, brief}[c.random.IntN(3)]
}

func (c *caller) someJob() *crowdJob {
	j, _ := oneOf(c, &c.jobs)
	return j
}

func (c *caller) claim() {
	var requests []store.ClaimRequest
	for range 1 + c.random.IntN(3) {
		if r, ok := lately(c, &c.requests); ok && c.random.IntN(4) == 0 {
			requests = append(requests, r)
			continue
		}
		s, _ := lately(c, &c.sessions)
		requests = append(requests, request(s, c.name(), 1+c.random.IntN(3)))
	}
	var turns []store.Turn
	for _, i := range c.random.Perm(len(c.jobs)) {
		id := c.jobs[i].id
		if c.random.IntN(10) == 0 {
			c.floors[id] = 0 // as when a claim came back short
		}
		turns = append(turns, store.Turn{JobID: id, Floor: c.floors[id], Most: c.random.IntN(4)})
	}
	got, err := c.Claim(c.ctx, c.lease(), requests, turns)
	if !c.fine("claim", err) {
		return
	}
	for id, t := range got.Took {
		if t.Fresh > 0 {
			c.floors[id] = max(c.floors[id], t.Last+1)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, requests...)
	for i, list := range got.Grants {
		if !c.fine("claim", got.Errs[i], store.ErrSessionEnded) && len(list) > 0 {
			c.Errorf("%d grants for a session that has ended", len(list))
		}
		for _, g := range list {
			if g.SessionID != requests[i].SessionID {
				c.Errorf("granted to session %d what %d asked for", g.SessionID, requests[i].SessionID)
			}
			// One that repeats the claim may be told before the one that made it.
			before, known := c.granted[keyOf(g.Lease)]
			if known && (before.Lease != g.Lease || !before.Repeated && !g.Repeated) {
				c.Errorf("granted %+v after %+v", g, before)
			}
			if !known || before.Repeated {
				c.granted[keyOf(g.Lease)] = g
			}
			c.grants = append(c.grants, g)
		}
	}
}

// report is what a worker says of a batch, from an item on that may be wrong, of all the rest when it says that it is
// done: outcomes, and a finding for each.
func (c *caller) report(g store.Grant, whole bool) (from int32, runs []job.Run, findings []store.Finding) {
	c.mu.Lock()
	from = max(c.acknowledged[g.BatchID], g.DoneItems)
	c.mu.Unlock()
	from = max(from+int32(c.random.IntN(4))/3-int32(c.random.IntN(3)), 0)
	to := min(from+int32(c.random.IntN(4)), g.ItemCount)
	if whole {
		to = g.ItemCount
	}
	for i := from; i < to; i++ {
		findings = append(findings, store.Finding{Item: g.FirstItem + int64(i), Position: i, Severity: store.Warning, Code: "W"})
	}
	return from, outcomesOf(g.BatchID, from, to), findings
}

func (c *caller) beat() {
	var beats []store.Beat
	for range 1 + c.random.IntN(4) {
		g, ok := lately(c, &c.grants)
		if !ok {
			return
		}
		b := store.Beat{Lease: g.Lease}
		if c.random.IntN(3) > 0 {
			b.From, b.Outcomes, b.Findings = c.report(g, c.random.IntN(3) == 0)
		}
		b.Waiting = c.random.IntN(4) == 0
		beats = append(beats, b)
	}
	answers, skipped, err := c.Beat(c.ctx, c.lease(), beats)
	if !c.fine("beat", err) {
		return
	}
	again := map[int]bool{}
	for _, i := range skipped {
		again[i] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, a := range answers {
		if a.Lost && (a.JobID != 0 || a.Acknowledged != 0) {
			c.Errorf("a lost lease was answered with %+v", a)
		}
		if !a.Lost && !again[i] {
			c.acknowledged[beats[i].BatchID] = max(c.acknowledged[beats[i].BatchID], a.Acknowledged)
		}
	}
}

func (c *caller) settle() {
	var group []store.Settlement
	for range 1 + c.random.IntN(4) {
		if s, ok := lately(c, &c.settled); ok && c.random.IntN(5) == 0 {
			group = append(group, s)
			continue
		}
		g, ok := lately(c, &c.grants)
		if !ok {
			return
		}
		s := store.Settlement{Lease: g.Lease, End: job.End{
			Kind: []job.EndKind{job.EndCompleted, job.EndReleased, job.EndFailed, job.EndDied, job.EndCancelled}[c.random.IntN(5)],
			// Backoffs take seconds; what failed so is out of the game.
			Retryable: c.random.IntN(2) == 0,
		}}
		s.From, s.Outcomes, s.Findings = c.report(g, s.Kind == job.EndCompleted || c.random.IntN(3) == 0)
		if s.Kind == job.EndDied && c.random.IntN(2) == 0 {
			s.Crash = &job.Crash{Suspect: s.From + job.Items(s.Outcomes) + 1} // the first of which nothing is said
		}
		group = append(group, s)
	}
	answers, _, err := c.Settle(c.ctx, group)
	if !c.fine("settle", err) {
		return
	}
	for i, a := range answers {
		switch {
		case a.Err != nil:
			c.fine("settle", a.Err, store.ErrIncomplete)
		case a.Lost:
			if a.JobID != 0 {
				c.Errorf("a late settlement was answered with %+v", a)
			}
		case a.JobID != 0:
			c.over(group[i].Lease, fmt.Sprintf("settling it as %s", group[i].Kind))
			c.mu.Lock()
			to := group[i].From + job.Items(group[i].Outcomes)
			c.acknowledged[group[i].BatchID] = max(c.acknowledged[group[i].BatchID], to)
			c.settled = append(c.settled, group[i])
			c.mu.Unlock()
		}
	}
}

func (c *caller) ingest() {
	j := c.someJob()
	s := c.streams[j]
	if s == nil || c.random.IntN(4) == 0 {
		h := header(j.upload)
		c.mu.Lock()
		deleted := j.deleted
		c.mu.Unlock()
		if deleted {
			return // it would be a new job
		}
		if _, err := c.GetUpload(c.ctx, j.upload); !c.fine("look at upload", err, store.ErrNotFound) {
			return
		}
		up, err := c.OpenUpload(c.ctx, h)
		if !c.fine("open upload", err) || up.JobID != j.id {
			return
		}
		s = &crowdStream{up: up}
		c.streams[j] = s
	}
	if s.last == nil || c.random.IntN(5) > 0 {
		g := cut(s.up, []int32{3, 1, 2, 4}[:c.random.IntN(5)]...)
		if n := int32(c.random.IntN(3)); n > 0 {
			g.Rejected = []store.RejectedItems{{FirstItem: g.Position.Item + 1, Items: n, Frame: []byte("x")}}
			g.Position.Item += int64(n)
			g.Position.Offset += 10 * int64(n)
		}
		g.Finished = c.random.IntN(200) == 0
		s.last = &g
	}
	g := *s.last
	err := c.CommitIngest(c.ctx, g)
	if !c.fine("commit upload", err, store.ErrUploadFenced, store.ErrJobStopped, store.ErrNotFound) {
		delete(c.streams, j)
		return
	}
	if s.up.Position.Item == g.Position.Item {
		return // repeated, or empty
	}
	s.up.Position = g.Position
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range g.Rejected {
		j.rejected += int64(r.Items)
	}
}

func (c *caller) reap() {
	var batches []int64
	if c.random.IntN(2) == 0 {
		for range 5 {
			if g, ok := lately(c, &c.grants); ok {
				batches = append(batches, g.BatchID)
			}
		}
	}
	got, err := c.Reap(c.ctx, batches, 1+c.random.IntN(10))
	c.fine("reap", err)
	c.overAll(got.Ended, "the reaper")
}

func (c *caller) fold() {
	_, _, err := c.Fold(c.ctx, c.someJob().id)
	c.fine("fold", err, store.ErrNotFound)
}

// watch looks at a job: what it shows does not run backwards.
func (c *caller) watch() {
	got, err := c.GetJob(c.ctx, c.someJob().id)
	if !c.fine("look at job", err, store.ErrNotFound) {
		return
	}
	before := c.seen[got.ID]
	c.seen[got.ID] = got
	if got.Revision < before.Revision || got.Run < before.Run || got.Run == before.Run && got.ItemsEnded() < before.ItemsEnded() ||
		got.ItemsTotal < before.ItemsTotal || got.ItemsEnded() > got.ItemsTotal {
		c.Errorf("a job was seen as %+v, then as %+v", before, got)
	}
	if before.State.Ended() && got.Run == before.Run && got.Counters != before.Counters {
		c.Errorf("a job that has ended was seen as %+v, then as %+v", before, got)
	}
}

func (c *caller) sweepStep() {
	_, err := c.SweepJob(c.ctx, c.someJob().id, 1+c.random.IntN(3))
	c.fine("sweep", err)
}

func (c *caller) pause() {
	j := c.someJob()
	call := c.ResumeJob
	if c.random.IntN(4) == 0 {
		call = c.PauseJob
	}
	_, err := call(c.ctx, j.id)
	c.fine("pause or resume", err, store.ErrJobStopped, store.ErrNotFound)
}

func (c *caller) abandon() {
	_, err := c.AbandonUploads(c.ctx, long)
	c.fine("abandon uploads", err)
}

// remove deletes a job that has ended, or takes a step of removing those that were deleted.
func (c *caller) remove() {
	j := c.someJob()
	c.mu.Lock()
	defer c.mu.Unlock() // nobody opens its upload in between, which would be a new job's
	if c.fine("delete job", c.DeleteJob(c.ctx, j.id), store.ErrJobOpen, store.ErrNotFound) {
		j.deleted = true
	}
	_, err := c.DeleteStep(c.ctx, 20)
	c.fine("remove deleted jobs", err)
}

// retry retries a job by hand, all of it or batches that may be anyone's.
func (c *caller) retry() {
	r := store.Retry{RequestID: c.name()}
	for range c.random.IntN(3) {
		if g, ok := lately(c, &c.grants); ok {
			r.Batches = append(r.Batches, g.BatchID)
		}
	}
	_, err := c.RetryJob(c.ctx, c.someJob().id, r)
	c.fine("retry job", err, store.ErrJobOpen, store.ErrNothingToRetry, store.ErrNotFound)
}

func (c *caller) retryStep() {
	_, _, err := c.RetryStep(c.ctx, c.someJob().id, 1+c.random.IntN(3))
	c.fine("move batches of a retry", err)
}
