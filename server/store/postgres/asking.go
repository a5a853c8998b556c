package postgres

import (
	"cmp"
	"slices"

	"github.com/tallyman-dev/tallyman/server/store"
)

// byRequest sorts grants by what was asked, those of a request in the order they were given.
func byRequest(asked int, grants, old []granted) [][]store.Grant {
	by := make([][]store.Grant, asked)
	for _, g := range grants {
		by[g.request-1] = append(by[g.request-1], g.Grant)
	}
	slices.SortFunc(old, func(x, y granted) int { return cmp.Compare(x.BatchID, y.BatchID) })
	for _, g := range old {
		by[g.request-1] = append(by[g.request-1], g.Grant)
	}
	return by
}

// asking is a group of requests as arrays, each request once.
type asking struct {
	sessions []int64
	ids      []string
	most     []int32
	first    []int // index of the request that it stands for
	index    map[requestKey]int
	locks    []int64 // distinct sessions, in order
}

type requestKey struct {
	session int64
	id      string
}

func key(r store.ClaimRequest) requestKey {
	return requestKey{r.SessionID, store.CleanText(r.RequestID, store.MaxName)}
}

func ask(requests []store.ClaimRequest) asking {
	a := asking{index: make(map[requestKey]int, len(requests))}
	for i, r := range requests {
		k := key(r)
		if _, again := a.index[k]; again {
			continue
		}
		a.index[k] = len(a.ids)
		a.sessions = append(a.sessions, k.session)
		a.ids = append(a.ids, k.id)
		a.most = append(a.most, int32(min(max(r.Max, 0), batchesAtOnce)))
		a.first = append(a.first, i)
	}
	a.locks = slices.Compact(slices.Sorted(slices.Values(a.sessions)))
	return a
}

// turnArrays is a list of turns, also as arrays.
type turnArrays struct {
	turns  []store.Turn
	jobs   []int64
	floors []int32
}

func newTurns(turns []store.Turn) turnArrays {
	a := turnArrays{turns: turns}
	for _, t := range turns {
		a.jobs = append(a.jobs, t.JobID)
		a.floors = append(a.floors, t.Floor)
	}
	return a
}

// limited says whether a turn has a limit.
func (a turnArrays) limited() bool {
	return slices.ContainsFunc(a.turns, func(t store.Turn) bool { return t.JobLimit > 0 || t.ProjectLimit > 0 })
}

// allow returns how many batches each turn may take besides those that it has given, in which turns of one project share
// its room in their order.
func (a turnArrays) allow(rooms *store.Rooms, given map[int64]int) []int32 {
	allowed := make([]int32, len(a.turns))
	for i, t := range a.turns {
		t.Most -= given[t.JobID]
		n := rooms.Allowed(t)
		rooms.Take(t, n)
		allowed[i] = int32(n)
	}
	return allowed
}

// took says what each turn that could give batches gave, of those that it was allowed.
func (a turnArrays) took(grants []granted, rooms *store.Rooms, allowed []int32, given map[int64]int, choosy bool) map[int64]store.Took {
	took := map[int64]store.Took{}
	for i, t := range a.turns {
		if t.Most > 0 {
			took[t.JobID] = store.Took{Held: t.Most - given[t.JobID] - int(allowed[i])}
		}
	}
	for _, g := range grants {
		t := took[g.JobID]
		t.Batches++
		if g.fresh {
			t.Fresh++
			t.Last = max(t.Last, g.Ordinal)
		}
		took[g.JobID] = t
	}
	for i, t := range a.turns {
		rooms.Take(t, took[t.JobID].Batches-given[t.JobID]-int(allowed[i]))
	}
	for _, t := range a.turns {
		if g, ok := took[t.JobID]; ok {
			g.Choosy = choosy
			g.Full = rooms.Full(t)
			took[t.JobID] = g
		}
	}
	return took
}
