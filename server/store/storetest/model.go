package storetest

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Model drives a store at random against a model of what it must remember, and checks the books after every step: what
// a job counts is what its batches say; attempts strictly grow; what has ended never changes; a settlement counts
// exactly when its lease is live; every job ends once all of its batches have. At most runs sequences are tried, all
// on one store, since jobs do not know each other.
func Model(t *testing.T, open Open, runs int) {
	t.Helper()
	s := open(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		if run > runs && runs > 0 {
			return
		}
		m := &model{
			fixture: &fixture{tb: rt, Store: s, ctx: context.WithoutCancel(t.Context())}, run: run,
			rejected: map[int64]int64{}, attempts: map[int64]int32{}, over: map[int64]store.BatchRow{},
			outcomes: map[int64][]job.Outcome{}, revisions: map[int64]int64{},
		}
		steps := actions{"": m.check}
		for _, of := range []actions{m.uploadActions(), m.jobActions(), m.workerActions(), m.coordinatorActions()} {
			maps.Copy(steps, of)
		}
		rt.Repeat(steps)
		m.finish()
	})
}

// actions are what one kind of actor may do next, each by its name.
type actions = map[string]func(*rapid.T)

// model is what one run knows of the store.
type model struct {
	*fixture
	run      int
	names    int // given out so far, to be unique
	uploads  []store.Upload
	sessions []int64
	grants   []store.Grant // every one, live or not
	settled  []settled

	rejected  map[int64]int64          // items rejected at ingest, by job
	attempts  map[int64]int32          // last seen, by batch
	over      map[int64]store.BatchRow // ended batches, as they ended
	outcomes  map[int64][]job.Outcome  // reported by workers, by batch
	revisions map[int64]int64          // last seen, by job
}

func (m *model) name(prefix string) string {
	m.names++
	return fmt.Sprintf("%s-%d-%d", prefix, m.run, m.names)
}

// pick draws one of list, or skips the action when there is none.
func pick[T any](t *rapid.T, list []T, label string) T {
	if len(list) == 0 {
		t.Skip("none yet")
	}
	return list[rapid.IntRange(0, len(list)-1).Draw(t, label)]
}
