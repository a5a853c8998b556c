package storetest

import (
	"errors"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// workers: what is known of single ones.
var workers = []scenario{
	{"a worker shows what it holds and how its attempts ended", func(f *fixture) {
		if _, err := f.GetWorker(f.ctx, "w", 9, 9); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("an unknown worker: %v, want ErrNotFound", err)
		}
		id := f.submit("a", 1, 1, 1, 1, 1)
		s, other := f.register("w"), f.register("other")
		g := f.claim(s, "1", long, 4, id)
		f.claim(other, "1", long, 1, id)
		f.settle(completed(g[0]))
		f.settle(ended(g[1], job.EndFailed))
		now := f.now()
		f.pass(now)
		f.settle(ended(g[2], job.EndReleased))
		again := f.claim(s, "2", long, 1, id)
		f.fold(id)
		w, err := f.GetWorker(f.ctx, "w", 9, 9)
		f.must(err)
		if w.ID != s || w.WorkerID != "w" || w.Running != 2 || w.Completed != 1 || !w.EndedAt.IsZero() {
			f.Errorf("session: %+v", w.Session)
		}
		var held []int64
		for _, b := range w.Held {
			held = append(held, b.ID)
			if b.SessionID != s || b.WorkerID != "w" || b.Total != 1 {
				f.Errorf("held: %+v", b)
			}
		}
		f.equal("held", held, []int64{min(g[3].BatchID, again[0].BatchID), max(g[3].BatchID, again[0].BatchID)})
		var ends []job.EndKind
		for _, a := range w.Attempts {
			ends = append(ends, a.Kind)
		}
		f.equal("attempts", ends, []job.EndKind{job.EndReleased, job.EndFailed})
		w, err = f.GetWorker(f.ctx, "w", 1, 1)
		f.must(err)
		if len(w.Held) != 1 || len(w.Attempts) != 1 || w.Running != 2 {
			f.Errorf("bounded by 1: %d held, %d attempts", len(w.Held), len(w.Attempts))
		}
	}},
	{"a worker shows its newest session", func(f *fixture) {
		f.register("w")
		second := f.register("w")
		w, err := f.GetWorker(f.ctx, "w", 9, 9)
		f.must(err)
		f.equal("session", w.ID, second)
		_, err = f.EndSession(f.ctx, second, "done")
		f.must(err)
		w, err = f.GetWorker(f.ctx, "w", 9, 9)
		f.must(err)
		if w.ID != second || w.EndedAt.IsZero() || w.EndReason != "done" {
			f.Errorf("after its end: %+v", w.Session)
		}
	}},
}
