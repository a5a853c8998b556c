package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Sizes of a crowd.
const (
	callers     = 9                       // at once, spread over the coordinators
	crowdRounds = 3                       // after each all rest, and the books are checked
	crowdSteps  = 500                     // of a caller in a round, at most
	crowdTime   = 1500 * time.Millisecond // of a round, after which no step begins
	crowdLease  = 30 * time.Millisecond
)

// Crowd has many callers do random things at once through all handles: what a model predicts of one call after the
// other must hold for any order in which a database takes them. No answer is predicted, but what was promised is kept
// in mind: which lease was granted, which attempt was told to have ended, which outcomes were acknowledged. Whenever the
// callers rest, the rows must agree with it, and the jobs with their batches. The seed is printed when it fails, though
// the machine has its say too.
func Crowd(t *testing.T, open OpenCluster) {
	t.Helper()
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("the seed was %d", seed)
		}
	}()
	cluster := open(t, coordinators)
	c := &crowd{
		fixture: &fixture{tb: t, Store: cluster.Handles[0], ctx: context.WithoutCancel(t.Context())},
		granted: map[leaseKey]store.Grant{}, ends: map[leaseKey][]string{}, acknowledged: map[int64]int32{},
	}
	for i := range 3 {
		c.newJob(fmt.Sprint("crowd-", i))
	}
	all := make([]*caller, callers)
	for i := range all {
		all[i] = &caller{
			crowd: c, Store: cluster.Handles[i%len(cluster.Handles)], random: rand.New(rand.NewPCG(seed, uint64(i))), n: i,
			floors: map[int64]int32{}, streams: map[*crowdJob]*crowdStream{}, beats: map[int64]int64{}, seen: map[int64]job.Job{},
		}
		all[i].register()
	}
	for round := range crowdRounds {
		if round == crowdRounds-1 {
			for _, j := range c.jobs[:2] {
				if !j.deleted {
					c.stop(j.id) // so that jobs end, and are deleted, while others are busy
				}
			}
		}
		var wg sync.WaitGroup
		until := time.Now().Add(crowdTime)
		for _, one := range all {
			wg.Go(func() {
				for n := 0; n < crowdSteps && time.Now().Before(until) && !t.Failed(); n++ {
					one.step()
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		c.checkAll()
	}
	c.finish()
	t.Logf("%d sessions had %d attempts, %d of which ended", len(c.sessions), len(c.granted), len(c.ends))
}

// crowd is what its callers have been told, together.
type crowd struct {
	*fixture

	mu           sync.Mutex
	jobs         []*crowdJob
	sessions     []int64
	requests     []store.ClaimRequest
	grants       []store.Grant
	granted      map[leaseKey]store.Grant // by attempt
	ends         map[leaseKey][]string    // of attempts, by who was told
	acknowledged map[int64]int32          // items, by batch
	settled      []store.Settlement
	names        int
}

type crowdJob struct {
	id       int64
	upload   string
	rejected int64 // items that ingest rejected; guarded by the crowd's mutex, as is
	deleted  bool
}

// leaseKey is an attempt at a batch, whosoever.
type leaseKey struct {
	batch   int64
	attempt int32
}

func keyOf(l job.Lease) leaseKey { return leaseKey{l.BatchID, l.Attempt} }

func (c *crowd) newJob(upload string) {
	up := c.open(upload)
	g := cut(up, 2, 3, 1, 4, 2)
	c.must(c.CommitIngest(c.ctx, g))
	c.jobs = append(c.jobs, &crowdJob{id: up.JobID, upload: upload})
}

func (c *crowd) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names++
	return fmt.Sprint("name-", c.names)
}

// outcomeOf is what every worker says of an item: none contradicts another, so that it does not matter whose report
// comes first.
func outcomeOf(batch int64, position int32) job.Outcome {
	if (batch+int64(position))%3 == 0 {
		return job.Rejected
	}
	return job.Stored
}

func outcomesOf(batch int64, from, to int32) []job.Run {
	var list []job.Outcome
	for i := from; i < to; i++ {
		list = append(list, outcomeOf(batch, i))
	}
	return join(list)
}

// over notes that somebody was told an attempt's end.
func (c *crowd) over(l job.Lease, who string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[keyOf(l)] = append(c.ends[keyOf(l)], who)
}

func (c *crowd) overAll(list []store.Ended, who string) {
	for _, e := range list {
		c.over(e.Lease, who)
	}
}

// checkAll checks the books while nobody does anything.
func (c *crowd) checkAll() {
	c.Helper()
	for _, j := range c.jobs {
		if j.deleted {
			continue
		}
		row := c.audit(j.id, j.rejected)
		up, err := c.GetUpload(c.ctx, j.upload)
		c.must(err)
		next := int64(1)
		var items, reported int64
		for _, b := range c.batches(j.id) {
			if b.State == job.BatchSplit {
				continue // its parts follow
			}
			if b.FirstItem < next {
				c.Errorf("batch %d of job %d begins with item %d, the one before ends with %d", b.Ordinal, j.id, b.FirstItem, next-1)
			}
			next = b.FirstItem + int64(b.ItemCount)
			items += int64(b.ItemCount)
			reported += c.checkBatch(b)
		}
		if found := c.findings(store.FindingFilter{JobID: j.id, Code: "W"}); row.Warnings != reported || int64(len(found)) != reported {
			c.Errorf("job %d counts %d findings and has %d, of %d items that were reported", j.id, row.Warnings, len(found), reported)
		}
		if row.Errors != row.ItemOutcomes[job.ItemCrashed] {
			c.Errorf("job %d counts %d errors, and %d items that crashed", j.id, row.Errors, row.ItemOutcomes[job.ItemCrashed])
		}
		if items += j.rejected; items != up.Position.Item {
			c.Errorf("job %d has %d items, its upload stands at %d", j.id, items, up.Position.Item)
		}
	}
}

// checkBatch compares a batch with what was told of it: every attempt was granted once, and ended once. It returns how
// many items have an outcome by a worker.
func (c *crowd) checkBatch(b store.BatchRow) (reported int64) {
	c.Helper()
	for attempt := int32(1); attempt <= b.Attempt; attempt++ {
		key := leaseKey{b.ID, attempt}
		g, ok := c.granted[key]
		if !ok {
			c.Errorf("attempt %d at batch %d was granted to nobody", attempt, b.ID)
		}
		running := attempt == b.Attempt && b.State == job.BatchRunning
		if running && g.SessionID != b.SessionID {
			c.Errorf("batch %d is held by %d, and was granted to %d", b.ID, b.SessionID, g.SessionID)
		}
		if ends := c.ends[key]; running && len(ends) != 0 || !running && len(ends) != 1 {
			c.Errorf("attempt %d at batch %d, which is %v at attempt %d, ended by %v", attempt, b.ID, b.State, b.Attempt, ends)
		}
	}
	if _, ok := c.granted[leaseKey{b.ID, b.Attempt + 1}]; ok {
		c.Errorf("batch %d is at attempt %d, and the next one was granted", b.ID, b.Attempt)
	}
	acknowledged := c.acknowledged[b.ID]
	if b.DoneItems < acknowledged {
		c.Errorf("%d items of batch %d were acknowledged, %d are done", acknowledged, b.ID, b.DoneItems)
	}
	undone, by := false, b.ID
	if b.Attempt == 0 && b.ParentID != 0 && b.State == job.BatchCompleted {
		by = b.ParentID // which had done them when it was split
	}
	for i, o := range spell(b.Outcomes) {
		own := o == outcomeOf(by, int32(i))
		if undone = undone || !own; own == undone || int32(i) < acknowledged && !own {
			c.Errorf("item %d of batch %d, of which %d were acknowledged, ended as %v", i, b.ID, acknowledged, o)
		}
		if own {
			reported++
		}
	}
	return reported
}

// finish brings all jobs to their ends, and removes them.
func (c *crowd) finish() {
	for _, j := range c.jobs {
		if j.deleted {
			continue
		}
		c.stop(j.id)
		for _, b := range c.batches(j.id) {
			if b.State == job.BatchRunning {
				l := job.Lease{BatchID: b.ID, Attempt: b.Attempt, SessionID: b.SessionID}
				c.settle(store.Settlement{Lease: l, End: job.End{Kind: job.EndReleased, From: b.DoneItems}})
				c.over(l, "the end")
			}
		}
		c.sweep(j.id)
		if end := c.fold(j.id); !end.State.Ended() {
			c.Errorf("nothing is open, and job %d is %v", j.id, end.State)
		}
	}
	c.checkAll()
	for _, j := range c.jobs {
		if !j.deleted {
			c.must(c.DeleteJob(c.ctx, j.id))
		}
	}
	for more := true; more; {
		var err error
		more, err = c.DeleteStep(c.ctx, 1000)
		c.must(err)
	}
	for id := range c.acknowledged {
		if list, err := c.ListBatches(c.ctx, store.BatchFilter{}, store.Page{Size: 10}); err != nil || len(list) > 0 {
			c.Fatalf("batches such as %d after all jobs were removed: %v, %v", id, list, err)
		}
	}
}

// oneOf draws from a list that others add to; false when it is empty.
func oneOf[T any](c *caller, list *[]T) (one T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*list) == 0 {
		return one, false
	}
	return (*list)[c.random.IntN(len(*list))], true
}

// lately draws from the last of a list.
func lately[T any](c *caller, list *[]T) (one T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(*list)
	if n == 0 {
		return one, false
	}
	return (*list)[n-1-c.random.IntN(min(n, 20))], true
}
