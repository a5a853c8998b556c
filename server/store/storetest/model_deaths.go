package storetest

import (
	"cmp"
	"slices"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// endings is one call that ends attempts, with what its ends are decided by as of its beginning.
type endings struct {
	by     *coordinator
	shared map[*knownSession]int // batches that sessions have begun with, or had when they died
	splits map[*knownJob]int64   // batches that were split, as far as the store knows
}

func (m *model) endings(by *coordinator) *endings {
	x := &endings{by, map[*knownSession]int{}, map[*knownJob]int64{}}
	for _, s := range m.sessions {
		x.shared[s] = s.fallen()
	}
	for _, b := range m.running(nil) {
		if !b.waiting {
			x.shared[b.session]++
		}
	}
	for _, j := range m.jobs {
		x.splits[j] = j.seen.Batches[job.BatchSplit]
	}
	return x
}

// death says what is known of the death of the process that handled a batch.
func (m *model) death(x *endings, b *knownBatch, crash *job.Crash) job.Death {
	d := job.Death{Worker: b.session.worker, Splits: x.splits[b.job], Drained: b.session.condemned}
	for _, s := range m.sessions {
		d.Others = d.Others || s.takes() && !s.broken && s.worker != d.Worker
	}
	if crash != nil {
		d.Suspect = crash.Suspect
	} else {
		d.Process, d.Shared = true, x.shared[b.session] > 1
	}
	return d
}

// end ends the live attempt at a batch, as package job decides.
func (m *model) end(x *endings, b *knownBatch, e job.End, news []job.Outcome, findings []store.Finding) store.Ended {
	m.touch(b, touched{settled: true})
	if e.Kind == job.EndDied && e.Crash == nil && b.waiting {
		e = job.End{Kind: job.EndReleased, Message: store.WaitingMessage}
	}
	before := b.done()
	b.add(news)
	c := job.Case{End: e.Kind, Retryable: e.Retryable, State: b.job.state, Policy: b.job.header.Policy}
	if e.Kind == job.EndDied {
		c.Death = m.death(x, b, e.Crash)
	}
	was := job.Batch{
		ItemCount: b.cut.Items, DoneItems: b.done(), Failures: b.failures, Crashes: b.crashes, Losses: b.losses, Suspicion: b.Suspicion,
	}
	d := job.Decide(&was, c)
	if e.Kind == job.EndDied {
		m.judge(b, c, d)
	}
	for d.Undone != 0 && b.done() < b.cut.Items {
		b.add([]job.Outcome{d.Undone})
	}
	b.find(findings, before, b.done())
	b.crashed = b.crashed || e.Kind.Crashed() && d.Crashes+d.Losses > 0
	if e.Kind.Crashed() {
		b.session.crashed++
	}
	if e.Kind == job.EndDied && e.Crash == nil || e.Kind == job.EndLost {
		b.session.falls = append(b.session.falls, m.tick())
	}
	completed := b.session.completed
	if d.State == job.BatchCompleted {
		b.session.completed++
	}
	end := knownEnd{b.lease(), e.Kind, e.Message, b.session.worker, d.State, d.Why, b.beats, e.Crash, m.tick(), completed}
	b.ends = append(b.ends, end)
	b.state, b.failures, b.crashes, b.losses, b.Suspicion = d.State, d.Failures, d.Crashes, d.Losses, d.Suspicion
	b.session, b.request, b.expired, b.deserted, b.waiting = nil, "", false, false, false
	b.returned = d.State == job.BatchPending
	b.backedOff = d.Backoff > 0
	b.shunned, b.avoided = d.Avoid > 0, d.Avoid > 0
	b.job.dirty = true
	x.by.choosy = x.by.choosy || b.returned && b.choosy()
	if d.State == job.BatchCrashed {
		m.accuse(b, b.cut.FirstItem+int64(d.Suspect)-1, e)
	}
	if d.State == job.BatchSplit {
		x.splits[b.job]++
		m.split(x, b, d, e)
	}
	return store.Ended{
		Lease: end.lease, JobID: b.job.id, Kind: end.kind, Message: end.message, State: end.state, WorkerID: end.worker,
		Decision: end.decision, Documents: b.cut.Documents[:min(len(b.cut.Documents), 10)], Total: len(b.cut.Documents),
	}
}

// split replaces a batch by its parts.
func (m *model) split(x *endings, b *knownBatch, d job.Decision, e job.End) {
	next := int32(0)
	for _, p := range d.Parts {
		if p.First != next || p.Items < 1 {
			m.Fatalf("batch %d of %d items is split into %+v", b.id, b.cut.Items, d.Parts)
		}
		next += p.Items
		part := &knownBatch{
			place: place{ordinal: b.ordinal}, job: b.job, parent: b, state: p.State, Suspicion: p.Suspicion,
			cut: store.NewBatch{
				// An item weighs 1 here.
				FirstItem: b.cut.FirstItem + int64(p.First), Items: p.Items, Weight: p.Items, Frame: b.cut.Frame,
				Documents: b.cut.Documents[p.First : p.First+p.Items],
			},
			returned: p.State == job.BatchPending,
		}
		if p.DiedOn != "" {
			part.crashes = d.Crashes
		}
		if p.State == job.BatchCompleted {
			if p.First != 0 || p.Items != b.done() {
				m.Fatalf("batch %d with %d done items is split into %+v", b.id, b.done(), d.Parts)
			}
			part.outcomes = b.outcomes
		}
		if p.State == job.BatchCrashed {
			part.add([]job.Outcome{job.ItemCrashed})
			m.accuse(part, part.cut.FirstItem, e)
		}
		m.touch(part, touched{settled: true})
		m.unseen = append(m.unseen, part)
		b.job.batches = append(b.job.batches, part)
		x.by.choosy = x.by.choosy || p.Solo
	}
	if next != b.cut.Items {
		m.Fatalf("batch %d of %d items is split into %+v", b.id, b.cut.Items, d.Parts)
	}
}

// adopt learns the ids of batches whose rows were not seen before.
func (m *model) adopt(c *coordinator, j *knownJob) {
	for _, row := range m.rows(c.fixture, j) {
		if m.batches[row.ID] != nil {
			continue
		}
		i := slices.IndexFunc(j.batches, func(b *knownBatch) bool {
			if b.id != 0 || b.ordinal != row.Ordinal || b.cut.FirstItem != row.FirstItem {
				return false
			}
			return b.parent == nil && row.ParentID == 0 || b.parent != nil && b.parent.id == row.ParentID
		})
		if i < 0 {
			m.Fatalf("nobody knows batch %+v", row.Batch)
		}
		j.batches[i].id = row.ID
		m.batches[row.ID] = j.batches[i]
	}
	slices.SortFunc(j.batches, func(x, y *knownBatch) int {
		return cmp.Or(cmp.Compare(x.ordinal, y.ordinal), cmp.Compare(x.id, y.id))
	})
}

// adoptParts does that for the parts of batches that were split.
func (m *model) adoptParts(c *coordinator) {
	for _, b := range m.unseen {
		if b.id == 0 {
			m.adopt(c, b.job)
		}
	}
	m.unseen = nil
}

// accuse notes that an item is called the culprit.
func (m *model) accuse(b *knownBatch, item int64, e job.End) {
	if m.poison != nil && !m.poison.kills(item) {
		m.Fatalf("item %d of job %d is called the culprit, and is innocent", item, b.job.id)
	}
	if n := b.job.deaths[item]; n < 2 {
		m.Fatalf("item %d of job %d is called the culprit after %d deaths of its own", item, b.job.id, n)
	}
	named := store.Culprit(&payload.Item{Number: item}, b.job.id, b.id, &e)
	b.named = append(b.named, finding{b.id, item, named.Message})
}

// judge keeps count of the deaths that accuse a single item: it was at hand, or the only open one, and the process had no
// other batch. It makes sure that a decision rests on that.
func (m *model) judge(b *knownBatch, c job.Case, d job.Decision) {
	open := b.cut.Items - b.done()
	if open == 0 || c.State.Stopping() {
		return
	}
	if c.Death.Drained {
		if d.State != job.BatchPending || d.Suspicion != b.Suspicion || d.Crashes != b.crashes {
			m.Fatalf("batch %d is accused by its death on a worker on which everything dies: %+v", b.id, d)
		}
		return
	}
	at := c.Death.Suspect
	if open == 1 {
		at = b.cut.Items
	}
	if !c.Death.Shared && (!c.Death.Others || d.DiedOn == job.Several) {
		b.root().deaths++
	}
	alone := at > b.done() && at <= b.cut.Items && !c.Death.Shared
	if alone {
		b.job.deaths[b.cut.FirstItem+int64(at)-1]++
	}
	switch {
	case d.State == job.BatchPending:
	case c.Death.Shared:
		m.Fatalf("a process with several batches died, and batch %d became %v: %s", b.id, d.State, d.Why)
	case c.Death.Others && d.DiedOn != job.Several:
		m.Fatalf("batch %d died on %q only while another worker lived, and became %v: %s", b.id, d.DiedOn, d.State, d.Why)
	case d.State == job.BatchSplit && !alone && b.LoneDeaths == 0:
		m.Fatalf("batch %d died for the first time, nobody knows at which item, and was split: %s", b.id, d.Why)
	}
	if d.State == job.BatchCrashed && b.cut.Items != 1 {
		m.Fatalf("batch %d crashed with %d items: %s", b.id, b.cut.Items, d.Why)
	}
}

// checkParts makes sure that every item of a batch that ingest cut is in exactly one batch that was not split.
func (m *model) checkParts(rows []store.BatchRow) {
	whole := map[int64]store.BatchRow{}
	parts := map[int64][]store.BatchRow{}
	for _, r := range rows {
		root := cmp.Or(r.RootID, r.ID)
		if r.RootID == 0 {
			whole[root] = r
		}
		if r.State != job.BatchSplit {
			parts[root] = append(parts[root], r)
		}
	}
	for root, list := range parts {
		slices.SortFunc(list, func(x, y store.BatchRow) int { return cmp.Compare(x.FirstItem, y.FirstItem) })
		next := whole[root].FirstItem
		for _, p := range list {
			if p.FirstItem != next {
				m.Errorf("a part of batch %d begins with item %d, want %d", root, p.FirstItem, next)
			}
			next = p.FirstItem + int64(p.ItemCount)
		}
		if end := whole[root].FirstItem + int64(whole[root].ItemCount); next != end {
			m.Errorf("the parts of batch %d end before item %d, want %d", root, next, end)
		}
	}
}
