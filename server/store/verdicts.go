package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// Judged is for how long the deaths of batches are held against their workers.
const Judged = time.Hour

// DeathsJudged bounds the deaths that are looked at together, of all workers: the last ones.
const DeathsJudged = 1000

// WorkerDeath is an attempt that died on a worker that lives, in a session later than the last one that was drained.
type WorkerDeath struct {
	Live      Colleague // the worker, in its session of now
	Session   int64     // of now
	Batch     int64
	Root      int64 // the batch that ingest cut
	DiedIn    int64 // the session that held it
	Reported  bool  // by a worker that lived: it was alone in its process
	At        time.Time
	Completed int64 // batches that the session had completed by then
	Elsewhere bool  // the root has completed since, whole and on another worker
}

// DrainedWorker is one that was drained since everything dies on it.
type DrainedWorker struct {
	Session int64
	Worker  string
	Reason  string
	Jobs    []int64 // those with batches that were acquitted
}

// Defendant is a worker on which batches died.
type Defendant struct {
	Live    Colleague
	Session int64
	deaths  []WorkerDeath // oldest first
}

// Defendants sorts deaths by worker.
func Defendants(deaths []WorkerDeath) []Defendant {
	var list []Defendant
	for _, d := range deaths {
		i := slices.IndexFunc(list, func(x Defendant) bool { return x.Session == d.Session })
		if i < 0 {
			i = len(list)
			list = append(list, Defendant{Live: d.Live, Session: d.Session})
		}
		list[i].deaths = append(list[i].deaths, d)
	}
	for i := range list {
		slices.SortStableFunc(list[i].deaths, func(a, b WorkerDeath) int {
			return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Batch, b.Batch))
		})
	}
	return list
}

// Batches returns the batches that died on the worker.
func (d *Defendant) Batches() []int64 {
	ids := make([]int64, len(d.deaths))
	for i, x := range d.deaths {
		ids[i] = x.Batch
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Judge returns why a worker is to be drained, "" when it is not. completed is what its sessions have completed, by id;
// workers are those that live and take batches.
func (d *Defendant) Judge(completed map[int64]int64, workers []Colleague) string {
	v, guilty := job.Judge(d.accidents(completed))
	if !guilty {
		return ""
	}
	for _, kind := range d.Live.Kinds {
		if !Others(workers, d.Live.ID, kind) {
			return "" // a bad worker is better than none, and nobody can tell that it is one
		}
	}
	last := v.Batches[max(len(v.Batches)-5, 0):]
	return fmt.Sprintf("%d different batches died on it, while it completed %d; %d of them completed on other workers. The last were %s",
		len(v.Batches), v.Completed, v.Elsewhere, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(last)), ", "), "[]"))
}

// accidents puts together what died in one process, and counts what the worker has completed since.
func (d *Defendant) accidents(completed map[int64]int64) []job.Accident {
	var list []job.Accident
	process := map[int64]int{} // accidents by the session that died
	for _, x := range d.deaths {
		if i, known := process[x.DiedIn]; known && !x.Reported {
			list[i].Batches = append(list[i].Batches, x.Root)
			list[i].Elsewhere = list[i].Elsewhere && x.Elsewhere
			continue
		}
		if !x.Reported {
			process[x.DiedIn] = len(list)
		}
		a := job.Accident{Batches: []int64{x.Root}, Elsewhere: x.Elsewhere, Completed: -x.Completed}
		for session, n := range completed {
			if session >= x.DiedIn {
				a.Completed += n
			}
		}
		list = append(list, a)
	}
	return list
}
