//go:build linux

package e2e

import (
	"maps"
	"slices"
	"testing"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestItemsThatKillTheirWorker has items kill the whole worker, which handles four batches at a time and is started again
// whenever it is dead. What it handled besides is not to blame.
func TestItemsThatKillTheirWorker(t *testing.T) {
	t.Parallel()
	const items, batch = 200, 20
	killers := []int64{35, 55, 150} // two of them are handled at the same time
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			// A lease that outlasts the worker's return, however slow that is: its death is known, and not taken for silence.
			s.serve("--lease", jobTimeout.String(), "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms")
			deeds := each(items, slow) // so that the others are in the middle of their batches
			for _, n := range killers {
				deeds[n] = killWorker
			}
			p := newPoison(t, items, deeds)
			o := newOrdeal(t, s, "killed", p, &tallymanv1.Policy{BatchItems: batch})
			lives := 0
			for ended := false; !ended; lives++ {
				w := o.exec("worker", "killed", p, "--slots", "4")
				eventually(t, jobTimeout, "the worker, or the job, to end", func() bool {
					ended = client.Ended(o.site.job(o.id).GetState())
					return ended || !w.running()
				})
			}
			o.checkEnd(o.await(o.id), jobWithErrors, map[tallymanv1.Outcome]int64{isStored: items - 3, isCrashed: 3})
			o.checkNamed("", killers...)
			o.checkResults(killers...)
			o.checkInnocents(killers)
			t.Logf("the worker lived %d times", lives)
		})
	}
}

// checkInnocents fails the test if a batch without a culprit was split, or died more than once, which it may beside a guilty
// one; or if one with a culprit took more deaths than it must.
func (o *ordeal) checkInnocents(culprits []int64) {
	o.t.Helper()
	of := map[int64]int{}
	for _, d := range o.deaths() {
		of[d.root()]++
	}
	shared := 0
	for _, b := range o.batches(o.id) {
		if b.GetRootId() != 0 {
			continue
		}
		most := 1
		guilty := slices.ContainsFunc(culprits, func(n int64) bool {
			return n >= b.GetFirstItem() && n < b.GetFirstItem()+int64(b.GetItemCount())
		})
		if guilty {
			most = mostDeaths(int64(b.GetItemCount())) + 1
		} else {
			shared += of[b.GetBatchId()]
		}
		if n := of[b.GetBatchId()]; n > most {
			o.t.Errorf("batch %d took %d deaths, want at most %d", b.GetBatchId(), n, most)
		}
		if !guilty && b.GetState() != tallymanv1.BatchState_BATCH_STATE_COMPLETED {
			o.t.Errorf("batch %d, with no culprit, is %v", b.GetBatchId(), b.GetState())
		}
	}
	o.t.Logf("deaths of batches: %v, %d of them of innocent ones", slices.Sorted(maps.Values(of)), shared)
	if shared == 0 {
		o.t.Error("no innocent batch was beside a guilty one, so that nothing is proved")
	}
}
