package storetest

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// check compares every job of the run with the model.
func (m *model) check(*rapid.T) {
	for _, up := range m.uploads {
		j := m.audit(up.JobID, m.rejected[up.JobID])
		if j.Revision < m.revisions[up.JobID] {
			m.Fatalf("revision %d after %d", j.Revision, m.revisions[up.JobID])
		}
		m.revisions[up.JobID] = j.Revision
		var reported int64
		for _, b := range m.batches(up.JobID) {
			if last := m.attempts[b.ID]; b.Attempt < last {
				m.Fatalf("batch %d is at attempt %d after %d", b.ID, b.Attempt, last)
			}
			m.attempts[b.ID] = b.Attempt
			reported += int64(len(m.outcomes[b.ID]))
			m.checkOutcomes(b)
			if first, ok := m.over[b.ID]; ok {
				m.equal("an ended batch", b, first)
			} else if b.State.Ended() {
				m.over[b.ID] = b
			}
		}
		if j.Warnings != reported {
			m.Fatalf("%d findings for %d reported items", j.Warnings, reported)
		}
	}
}

// checkOutcomes compares the outcomes of a batch with what workers reported and what its end says of the rest.
func (m *model) checkOutcomes(b store.BatchRow) {
	want := slices.Clone(m.outcomes[b.ID])
	undone, ok := map[job.BatchState]job.Outcome{
		job.BatchFailed: job.ItemFailed, job.BatchCrashed: job.ItemCrashed, job.BatchCancelled: job.ItemCancelled,
	}[b.State]
	for ok && len(want) < int(b.ItemCount) {
		want = append(want, undone)
	}
	var got []job.Outcome
	for _, r := range b.Outcomes {
		for range r.Count {
			got = append(got, r.Outcome)
		}
	}
	m.equal(fmt.Sprintf("outcomes of a batch that is %v", b.State), got, want)
}

// finish brings every job of the run to its end, by completing what can be claimed or by stopping it.
func (m *model) finish() {
	s := m.register(m.name("worker"))
	for _, up := range m.uploads {
		if up.Finished && up.JobID%2 == 0 {
			for {
				grants := m.claim(s, m.name("request"), long, 10, up.JobID)
				if len(grants) == 0 {
					break
				}
				for _, g := range grants {
					m.settle(completed(g))
				}
			}
		}
		if !m.fold(up.JobID).State.Ended() {
			m.stop(up.JobID)
			m.sweep(up.JobID)
		}
		for _, b := range m.batches(up.JobID) {
			if b.State == job.BatchRunning {
				l := job.Lease{BatchID: b.ID, Attempt: b.Attempt, SessionID: b.SessionID}
				m.settle(store.Settlement{Lease: l, End: job.End{Kind: job.EndReleased, From: b.DoneItems}})
			}
		}
		if j := m.audit(up.JobID, m.rejected[up.JobID]); !j.State.Ended() {
			m.Fatalf("nothing is open, and the job is %v", j.State)
		}
	}
}
