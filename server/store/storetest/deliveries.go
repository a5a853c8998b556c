package storetest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// takeDue takes what is due and returns the ids, in no order.
func (f *fixture) takeDue(hold time.Duration, limit int) map[string]int32 {
	f.Helper()
	got, err := f.TakeDeliveries(f.ctx, hold, limit)
	f.must(err)
	taken := map[string]int32{}
	for _, d := range got {
		taken[d.ID] = d.Tries
	}
	return taken
}

func (f *fixture) deliver(id string) bool {
	f.Helper()
	added, err := f.AddDelivery(f.ctx, store.Delivery{ID: id, Event: "event", Body: []byte(`{"a":1}`)})
	f.must(err)
	return added
}

// deliveries: messages are taken by one at a time, until they have arrived.
var deliveries = []scenario{
	{"one is added once, and taken as it was added", func(f *fixture) {
		before := f.now()
		f.equal("added", f.deliver("a"), true)
		f.equal("added again", f.deliver("a"), false)
		got, err := f.TakeDeliveries(f.ctx, long, 10)
		f.must(err)
		if len(got) != 1 || got[0].CreatedAt.Before(before) {
			f.Fatalf("took %+v", got)
		}
		got[0].CreatedAt = time.Time{}
		f.equal("taken", got, []store.Delivery{{ID: "a", Event: "event", Body: []byte(`{"a":1}`), Tries: 1}})
		f.equal("taken again", f.takeDue(long, 10), map[string]int32{})
	}},
	{"one that nobody ended is due again", func(f *fixture) {
		f.deliver("a")
		f.equal("first", f.takeDue(short, 10), map[string]int32{"a": 1})
		f.pass(f.now().Add(short))
		f.equal("second", f.takeDue(long, 10), map[string]int32{"a": 2})
		// Who was late decides nothing any more.
		f.must(f.PostponeDelivery(f.ctx, "a", 1, 0))
		f.equal("postponed by who is late", f.takeDue(long, 10), map[string]int32{})
		f.must(f.PostponeDelivery(f.ctx, "a", 2, 0))
		f.equal("postponed", f.takeDue(long, 10), map[string]int32{"a": 3})
		f.must(f.PostponeDelivery(f.ctx, "a", 3, long))
		f.equal("postponed for long", f.takeDue(long, 10), map[string]int32{})
	}},
	{"one that has arrived is over, and remembered for a while", func(f *fixture) {
		f.deliver("a")
		f.takeDue(0, 1)
		f.must(f.EndDelivery(f.ctx, "a"))
		f.must(f.EndDelivery(f.ctx, "a"))
		f.must(f.PostponeDelivery(f.ctx, "a", 1, 0))
		f.equal("taken", f.takeDue(long, 10), map[string]int32{})
		f.equal("added again", f.deliver("a"), false)
		n, err := f.ForgetDeliveries(f.ctx, time.Hour, 10)
		f.must(err)
		f.equal("forgotten, too young", n, 0)
		f.deliver("open")
		n, err = f.ForgetDeliveries(f.ctx, 0, 10)
		f.must(err)
		f.equal("forgotten", n, 1)
		f.equal("added once forgotten", f.deliver("a"), true)
		f.equal("taken at last", f.takeDue(long, 10), map[string]int32{"a": 1, "open": 1})
	}},
	{"many who take at once get each once", func(f *fixture) {
		const n = 40
		for i := range n {
			f.deliver(strconv.Itoa(i))
		}
		var (
			wg  sync.WaitGroup
			mu  sync.Mutex
			got = map[string]int{}
		)
		for range 8 {
			wg.Go(func() {
				for {
					list, err := f.TakeDeliveries(f.ctx, long, 3)
					if err != nil {
						f.Errorf("take: %v", err)
					}
					if len(list) == 0 {
						return
					}
					mu.Lock()
					for _, d := range list {
						got[d.ID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id := range f.takeDue(long, n) { // what was locked when everybody looked
			got[id]++
		}
		for i := range n {
			if got[strconv.Itoa(i)] != 1 {
				f.Errorf("%d was taken %d times", i, got[strconv.Itoa(i)])
			}
		}
	}},
	{"a fold that ends a job says so, once for each run", func(f *fixture) {
		silent := f.submit("silent", 1)
		s := f.register("w")
		f.settle(completed(f.claimOne(s, "0", long, silent)))
		f.fold(silent)
		f.equal("before anybody wants to know", f.takeDue(0, 10), map[string]int32{})
		f.DeliverEnds()
		id := f.submit("a", 2, 1)
		f.settle(completed(f.claimOne(s, "1", long, id)))
		f.fold(id)
		f.equal("while it is open", f.takeDue(0, 10), map[string]int32{})
		f.settle(ended(f.claimOne(s, "2", long, id), job.EndFailed))
		f.fold(id)
		f.fold(id)
		got, err := f.TakeDeliveries(f.ctx, long, 10)
		f.must(err)
		if len(got) != 1 {
			f.Fatalf("took %+v", got)
		}
		var said struct {
			ID, Event string
			Job       struct {
				ID       string           `json:"job_id"`
				State    string           `json:"state"`
				Items    int64            `json:"items"`
				Outcomes map[string]int64 `json:"items_by_outcome"`
				Batches  map[string]int64 `json:"batches_by_state"`
			}
		}
		f.must(json.Unmarshal(got[0].Body, &said))
		f.equal("id", said.ID, got[0].ID)
		f.equal("event", []string{said.Event, got[0].Event}, []string{store.EventJobEnded, store.EventJobEnded})
		f.equal("job", []any{said.Job.ID, said.Job.State, said.Job.Items}, []any{strconv.FormatInt(id, 10), "completed_with_errors", int64(3)})
		f.equal("outcomes", said.Job.Outcomes, map[string]int64{"stored": 2, "failed": 1})
		f.equal("batches", said.Job.Batches, map[string]int64{"completed": 1, "failed": 1})
		_, err = f.RetryJob(f.ctx, id, store.Retry{RequestID: "again"})
		f.must(err)
		f.wait("the retry to have moved all", func() bool {
			_, more, err := f.RetryStep(f.ctx, id, 10)
			f.must(err)
			return !more
		})
		f.settle(completed(f.claimOne(s, "3", long, id)))
		f.fold(id)
		f.equal("of the second run", f.takeDue(long, 10), map[string]int32{fmt.Sprintf("job-%d-run-2", id): 1})
	}},
}
