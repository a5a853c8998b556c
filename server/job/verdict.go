package job

// Accident is the death of a process on a worker, with the batches that it had begun with.
type Accident struct {
	Batches   []int64 // those that ingest cut, also where parts of them died
	Elsewhere bool    // all of these have completed, whole and on other workers
	Completed int64   // batches that the worker has completed since
}

// Verdict is what speaks against a worker.
type Verdict struct {
	Batches   []int64 // different ones that died on it, each the first that is new of its accident
	Elsewhere int     // of these, with all that died together with them, completed on other workers
	Completed int64   // batches that it completed since the first of them died
}

// What it takes to find a worker guilty: so many different batches died on it, so many of these completed elsewhere, and
// more died than it completed since. Where it had completed more since an earlier death, it takes more, in a row.
const (
	accused       = 3
	acquitted     = 2
	accusedInARow = 2 * accused
)

// Judge says whether it is a worker's fault that batches died on it, and not theirs, by its accidents, oldest first.
// However many batches die together, any one of them may be guilty: they count as one.
func Judge(list []Accident) (v Verdict, guilty bool) {
	if v = weigh(list); len(v.Batches) >= accused && v.Elsewhere >= acquitted && int64(len(v.Batches)) > v.Completed {
		return v, true
	}
	for i := range list {
		if list[i].Completed == 0 {
			v = weigh(list[i:])
			return v, len(v.Batches) >= accusedInARow && v.Elsewhere >= accusedInARow*acquitted/accused
		}
	}
	return v, false
}

func weigh(list []Accident) (v Verdict) {
	seen := map[int64]bool{}
	for i := range list {
		fresh := int64(0)
		for _, b := range list[i].Batches {
			if !seen[b] && fresh == 0 {
				fresh = b
			}
			seen[b] = true
		}
		if fresh == 0 {
			continue
		}
		v.Batches = append(v.Batches, fresh)
		if list[i].Elsewhere {
			v.Elsewhere++
		}
	}
	if len(list) > 0 {
		v.Completed = list[0].Completed
	}
	return v
}

// Acquit takes back that a batch died, all of whose deaths were the fault of the one worker on which it did.
func (d *Delta) Acquit(b *Batch) {
	if b.RootID != 0 || b.Crashes == 0 {
		return
	}
	if b.Losses == 0 {
		d.CrashedEver--
	}
	if b.State.Ended() {
		d.Acquitted++
	}
}
