//go:build linux

package e2e

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const (
	jobSucceeded  = tallymanv1.JobState_JOB_STATE_SUCCEEDED
	jobWithErrors = tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS
	jobFailed     = tallymanv1.JobState_JOB_STATE_FAILED
)

// affliction is a file of poison, and what must become of a job on it. Unless it says otherwise everything is stored but
// the items that do harm again and again.
type affliction struct {
	name   string
	items  int64
	batch  int32 // items of one
	deeds  map[int64]deed
	flags  []string // of the worker, in mode stream only
	stream bool     // it is about this mode only
	said   string   // of the deaths; default SIGSEGV

	maxSplits int32
	maxBad    int64
	state     tallymanv1.JobState // default: completed with errors
	outcomes  func(*testing.T, map[tallymanv1.Outcome]int64)
}

// each has every item do something.
func each(items int64, d deed) map[int64]deed {
	deeds := map[int64]deed{}
	for n := range items {
		deeds[n+1] = d
	}
	return deeds
}

var afflictions = []affliction{
	{name: "two next to each other", items: 400, batch: 100, deeds: map[int64]deed{150: segfault, 151: segfault}},
	{name: "two far apart", items: 400, batch: 100, deeds: map[int64]deed{103: segfault, 197: segfault}},
	{
		name: "the first and the last of the file and of a batch", items: 400, batch: 100,
		deeds: map[int64]deed{1: segfault, 200: segfault, 201: segfault, 400: segfault},
	},
	{name: "batches of one", items: 9, batch: 1, deeds: map[int64]deed{4: segfault, 9: segfault}},
	{name: "a file of one", items: 1, batch: 100, deeds: each(1, segfault)},
	{name: "every item", items: 40, batch: 10, deeds: each(40, segfault)},
	{
		name: "every item, with few splits", items: 200, batch: 10, deeds: each(200, segfault), maxSplits: 10,
		outcomes: func(t *testing.T, got map[tallymanv1.Outcome]int64) {
			t.Helper()
			if got[isCrashed]+got[isFailed] != 200 || got[isFailed] == 0 {
				t.Errorf("items by outcome are %v, want 200 that crashed or failed", got)
			}
		},
	},
	{
		name: "every item, with a limit", items: 200, batch: 10, deeds: each(200, segfault), maxBad: 5, state: jobFailed,
		outcomes: func(t *testing.T, got map[tallymanv1.Outcome]int64) {
			t.Helper()
			if got[isCrashed]+got[isCancelled] != 200 || got[isCrashed] <= 5 || got[isCrashed] > 50 {
				t.Errorf("items by outcome are %v, want few more than 5 that crashed, and the rest cancelled", got)
			}
		},
	},
	{
		name: "one that hangs", items: 40, batch: 20, deeds: map[int64]deed{25: hang}, stream: true, said: "exec-item-timeout",
		flags: []string{"--exec-item-timeout", "2s", "--exec-start-timeout", "5s"},
	},
	{
		name: "one that takes all memory", items: 40, batch: 20, deeds: map[int64]deed{25: eat}, stream: true,
		said: "exec-max-memory-bytes", flags: []string{"--exec-max-memory-bytes", "268435456"},
	},
	{
		name: "answers that are none", items: 60, batch: 20, deeds: map[int64]deed{15: babble, 25: babble, 60: babble}, stream: true,
		said: "which is no answer",
	},
	{name: "one that kills only once", items: 400, batch: 100, deeds: map[int64]deed{150: once}, state: jobSucceeded},
}

// TestCulprits has items do harm of any kind: those that do are named, and nothing else is, and every job ends.
func TestCulprits(t *testing.T) {
	t.Parallel()
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.serve()
			for _, a := range afflictions {
				t.Run(a.name+", a line at a time", func(t *testing.T) {
					t.Parallel()
					a.streamed(a.inflict(t, s, "stream", a.flags...))
				})
				if a.stream {
					continue
				}
				t.Run(a.name+", a batch at a time", func(t *testing.T) {
					t.Parallel()
					a.batched(a.inflict(t, s, "batch"))
				})
			}
		})
	}
}

// inflict has a job done, and checks what is so in any mode.
func (a affliction) inflict(t *testing.T, s *site, mode string, flags ...string) *ordeal {
	t.Helper()
	p := newPoison(t, a.items, a.deeds)
	policy := &tallymanv1.Policy{BatchItems: a.batch, MaxSplits: a.maxSplits, MaxBadItems: a.maxBad}
	// Workers of other kinds have nothing to do with this one's.
	kind := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, mode+"-"+a.name)
	o := newOrdeal(t, s, kind, p, policy)
	w := o.exec(kind, kind, p, append(flags, "--exec-mode", mode, "--slots", "4")...)
	job := o.await(o.id)
	w.terminate()
	state := cmp.Or(a.state, jobWithErrors)
	if a.outcomes != nil {
		if job.GetState() != state {
			t.Errorf("the job is %v, want %v: %s", job.GetState(), state, job.GetReason())
		}
		checkSums(t, job, a.items)
		a.outcomes(t, outcomes(job))
		return o
	}
	want := map[tallymanv1.Outcome]int64{isStored: a.items - int64(len(a.culprits())), isCrashed: int64(len(a.culprits()))}
	maps.DeleteFunc(want, func(_ tallymanv1.Outcome, n int64) bool { return n == 0 })
	o.checkEnd(job, state, want)
	o.checkNamed(cmp.Or(a.said, "SIGSEGV"), a.culprits()...)
	return o
}

// culprits are the items to be named.
func (a affliction) culprits() []int64 {
	var all []int64
	for _, n := range slices.Sorted(maps.Keys(a.deeds)) {
		if a.deeds[n] != once {
			all = append(all, n)
		}
	}
	return all
}

// streamed checks what is so when items are handled one after the other.
func (a affliction) streamed(o *ordeal) {
	o.t.Helper()
	if a.outcomes != nil {
		return
	}
	of, want := map[int64]int{}, map[int64]int{}
	for _, d := range o.deaths() {
		of[d.item]++
	}
	for n, d := range a.deeds {
		if want[n] = 2; d == once {
			want[n] = 1
		}
	}
	if diff := gocmp.Diff(want, of); diff != "" {
		o.t.Errorf("deaths by the item at hand (-want +got):\n%s", diff)
	}
	o.checkResults(a.culprits()...)
	o.checkGivenOnce()
}

// batched checks how many deaths it took when nobody knows the item at hand.
func (a affliction) batched(o *ordeal) {
	o.t.Helper()
	most := map[int64]int{} // by batch, as it was cut
	for _, b := range o.batches(o.id) {
		for n := range int64(b.GetItemCount()) {
			if b.GetRootId() == 0 && a.deeds[b.GetFirstItem()+n] != harmless {
				most[b.GetBatchId()] += mostDeaths(int64(b.GetItemCount()))
			}
		}
	}
	of := map[int64]int{}
	for _, d := range o.deaths() {
		of[d.root()]++
	}
	for root, n := range of {
		if n > most[root] {
			o.t.Errorf("batch %d took %d deaths, want at most %d", root, n, most[root])
		}
	}
	o.t.Logf("deaths of the batches with culprits: %v", slices.Sorted(maps.Values(of)))
}
