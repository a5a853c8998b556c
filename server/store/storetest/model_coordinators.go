package storetest

import (
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (m *model) coordinatorActions() actions {
	return actions{
		"reap":  m.reapSome,
		"sweep": m.sweepOne,
	}
}

// ended notes attempts that the store ended by itself: an equal settlement is answered with that end.
func (m *model) ended(list []store.Ended, kind job.EndKind) {
	for _, e := range list {
		if kind != "" && e.Kind != kind {
			m.Fatalf("ended as %v, want %v", e.Kind, kind)
		}
		m.settled = append(m.settled, settled{
			store.Settlement{Lease: e.Lease, End: job.End{Kind: e.Kind}}, store.SettleAnswer{State: e.State},
		})
	}
}

func (m *model) reapSome(*rapid.T) {
	got, err := m.Reap(m.ctx, nil, 3)
	m.must(err)
	m.ended(got.Ended, "")
}

func (m *model) sweepOne(t *rapid.T) {
	_, err := m.SweepJob(m.ctx, pick(t, m.uploads, "job").JobID, 2)
	m.must(err)
}
