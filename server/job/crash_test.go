package job

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestDeath(t *testing.T) {
	alone := Death{Worker: "a"}
	tests := []struct {
		name  string
		batch Batch
		death Death
		want  Decision
	}{
		{"its first death", Batch{ItemCount: 5, DoneItems: 2}, alone,
			Decision{State: BatchPending, Suspicion: Suspicion{LoneDeaths: 1, DiedOn: "a"}}},
		{"again: done and two halves", Batch{ItemCount: 7, DoneItems: 2, Suspicion: Suspicion{LoneDeaths: 1, DiedOn: "a"}}, alone,
			Decision{State: BatchSplit, Suspicion: Suspicion{LoneDeaths: 2, DiedOn: "a"}, Parts: []Part{
				{0, 2, BatchCompleted, Suspicion{}},
				{2, 2, BatchPending, Suspicion{LoneDeaths: 2, DiedOn: "a"}},
				{4, 3, BatchPending, Suspicion{LoneDeaths: 2, DiedOn: "a"}}}}},
		{"on a known item: done, before, suspect, after", Batch{ItemCount: 9, DoneItems: 2}, Death{Worker: "a", Suspect: 5},
			Decision{State: BatchSplit, Suspicion: Suspicion{Suspect: 5, DiedOn: "a"}, Parts: []Part{
				{0, 2, BatchCompleted, Suspicion{}},
				{2, 2, BatchPending, Suspicion{}},
				{4, 1, BatchPending, Suspicion{Suspect: 1, DiedOn: "a"}},
				{5, 4, BatchPending, Suspicion{}}}}},
		{"on the first and the last item there is no before and no after", Batch{ItemCount: 2}, Death{Worker: "a", Suspect: 1},
			Decision{State: BatchSplit, Suspicion: Suspicion{Suspect: 1, DiedOn: "a"}, Parts: []Part{
				{0, 1, BatchPending, Suspicion{Suspect: 1, DiedOn: "a"}}, {1, 1, BatchPending, Suspicion{}}}}},
		{"the suspect dies alone: the culprit", Batch{ItemCount: 1, Suspicion: Suspicion{Suspect: 1, DiedOn: "a"}}, alone,
			Decision{State: BatchCrashed, Undone: ItemCrashed, Suspicion: Suspicion{Suspect: 1, DiedOn: "a"}}},
		{"halves inherit that it killed a whole worker", Batch{ItemCount: 5, DoneItems: 1, Suspicion: Suspicion{LoneDeaths: 1, DiedOn: "a", Solo: true}},
			Death{Worker: "b", Process: true},
			Decision{State: BatchSplit, Suspicion: Suspicion{LoneDeaths: 2, DiedOn: Several, Solo: true}, Parts: []Part{
				{0, 1, BatchCompleted, Suspicion{}},
				{1, 2, BatchPending, Suspicion{LoneDeaths: 2, DiedOn: Several, Solo: true}},
				{3, 2, BatchPending, Suspicion{LoneDeaths: 2, DiedOn: Several, Solo: true}}}}},
		{"so do the parts around a suspect", Batch{ItemCount: 3, Suspicion: Suspicion{DiedOn: "a", Solo: true}}, Death{Worker: "a", Suspect: 2},
			Decision{State: BatchSplit, Suspicion: Suspicion{Suspect: 2, DiedOn: "a", Solo: true}, Parts: []Part{
				{0, 1, BatchPending, Suspicion{Solo: true}},
				{1, 1, BatchPending, Suspicion{Suspect: 1, DiedOn: "a", Solo: true}},
				{2, 1, BatchPending, Suspicion{Solo: true}}}}},
		{"a half with one item dies for the first time", Batch{ItemCount: 1, Suspicion: Suspicion{LoneDeaths: 3, DiedOn: "a"}}, alone,
			Decision{State: BatchPending, Suspicion: Suspicion{LoneDeaths: 3, Suspect: 1, DiedOn: "a"}}},
		{"the last open item dies again", Batch{ItemCount: 4, DoneItems: 3, Suspicion: Suspicion{Suspect: 4, DiedOn: "a"}}, alone,
			Decision{State: BatchSplit, Suspicion: Suspicion{Suspect: 4, DiedOn: "a"}, Parts: []Part{
				{0, 3, BatchCompleted, Suspicion{}}, {3, 1, BatchCrashed, Suspicion{Suspect: 1, DiedOn: "a"}}}}},
		{"the last open item dies again when nothing more is to be split", Batch{ItemCount: 4, DoneItems: 3, Suspicion: Suspicion{Suspect: 4, DiedOn: "a"}},
			Death{Worker: "a", Splits: DefaultMaxSplits},
			Decision{State: BatchSplit, Suspicion: Suspicion{Suspect: 4, DiedOn: "a"}, Parts: []Part{
				{0, 3, BatchCompleted, Suspicion{}}, {3, 1, BatchCrashed, Suspicion{Suspect: 1, DiedOn: "a"}}}}},
		{"another item than the one suspected", Batch{ItemCount: 2, Suspicion: Suspicion{Suspect: 1, DiedOn: "a"}}, Death{Worker: "a", Suspect: 2},
			Decision{State: BatchSplit, Suspicion: Suspicion{Suspect: 2, DiedOn: "a"}, Parts: []Part{
				{0, 1, BatchPending, Suspicion{}}, {1, 1, BatchPending, Suspicion{Suspect: 1, DiedOn: "a"}}}}},
		{"the process had others", Batch{ItemCount: 5}, Death{Worker: "a", Process: true, Shared: true},
			Decision{State: BatchPending, Suspicion: Suspicion{DiedOn: "a", Solo: true}}},
		{"alone after it was with others", Batch{ItemCount: 5, Suspicion: Suspicion{DiedOn: "a", Solo: true}}, Death{Worker: "a", Process: true},
			Decision{State: BatchPending, Suspicion: Suspicion{LoneDeaths: 1, DiedOn: "a", Solo: true}}},
		{"while another worker lives", Batch{ItemCount: 5}, Death{Worker: "a", Suspect: 3, Others: true},
			Decision{State: BatchPending, Avoid: avoidFirst, Suspicion: Suspicion{Suspect: 3, DiedOn: "a"}}},
		{"again on the same worker while another lives", Batch{ItemCount: 5, Crashes: 2, Suspicion: Suspicion{Suspect: 3, DiedOn: "a"}},
			Death{Worker: "a", Suspect: 3, Others: true},
			Decision{State: BatchPending, Avoid: 4 * avoidFirst, Suspicion: Suspicion{Suspect: 3, DiedOn: "a"}}},
		{"the same item on another worker: the culprit", Batch{ItemCount: 5, Suspicion: Suspicion{Suspect: 3, DiedOn: "a"}},
			Death{Worker: "b", Suspect: 3, Others: true},
			Decision{State: BatchSplit, Suspicion: Suspicion{Suspect: 3, DiedOn: Several}, Parts: []Part{
				{0, 2, BatchPending, Suspicion{}},
				{2, 1, BatchCrashed, Suspicion{Suspect: 1, DiedOn: Several}},
				{3, 2, BatchPending, Suspicion{}}}}},
		{"a suspect that is done already says nothing", Batch{ItemCount: 5, DoneItems: 3}, Death{Worker: "a", Suspect: 2},
			Decision{State: BatchPending, Suspicion: Suspicion{LoneDeaths: 1, DiedOn: "a"}}},
		{"the budget is used up", Batch{ItemCount: 5}, Death{Worker: "a", Suspect: 2, Splits: DefaultMaxSplits},
			Decision{State: BatchFailed, Undone: ItemFailed, Suspicion: Suspicion{Suspect: 2, DiedOn: "a"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.want.Crashes = test.batch.Crashes + 1
			got := Decide(&test.batch, Case{End: EndDied, Death: test.death, State: Running})
			if got.Why == "" {
				t.Error("nobody is told why")
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(Decision{}, "Why")); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if !BatchRunning.MayBecome(got.State) {
				t.Errorf("a running batch must not become %v", got.State)
			}
		})
	}
}

func TestBudgetNamesItsSetting(t *testing.T) {
	got := Decide(&Batch{ItemCount: 5}, Case{End: EndDied, Death: Death{Worker: "a", Suspect: 2}, State: Running, Policy: Policy{MaxSplits: -1}})
	if got.State != BatchFailed || !strings.Contains(got.Why, "max_splits") {
		t.Errorf("%v because %q, want a failure that names max_splits", got.State, got.Why)
	}
}

// isolation handles a batch and its parts until nothing is open, with items that kill their process whenever they are
// handled, or only the first time. It checks that nothing is lost on the way.
type isolation struct {
	t      *rapid.T
	stream bool         // the item at hand is known
	poison map[int]bool // by the number of the item; false: only the first time
	died   map[int]int  // deaths at each item
	named  []int
	deaths int
	splits int64
}

func (x *isolation) run(b Batch, first int) {
	for {
		if b.State == BatchSplit || b.State.Ended() {
			return
		}
		end := Case{End: EndCompleted, State: Running}
		for ; b.DoneItems < b.ItemCount; b.DoneItems++ {
			n := first + int(b.DoneItems)
			always, bad := x.poison[n]
			if !bad || !always && x.died[n] > 0 {
				if x.stream {
					continue
				}
				// Nothing is durable before the last item is done.
				if clean := x.clean(b, first); clean {
					b.DoneItems = b.ItemCount
					break
				}
				n = x.guilty(b, first)
			}
			x.died[n]++
			x.deaths++
			end.End = EndDied
			end.Death = Death{Worker: "a", Splits: x.splits}
			if x.stream {
				end.Death.Suspect = int32(n-first) + 1
			}
			break
		}
		d := Decide(&b, end)
		b.State, b.Crashes, b.Suspicion = d.State, d.Crashes, d.Suspicion
		switch d.State {
		case BatchPending, BatchRunning, BatchCompleted:
		case BatchCrashed:
			x.named = append(x.named, first+int(d.Suspect)-1)
			if b.ItemCount != 1 {
				x.t.Fatalf("a batch of %d items crashed as a whole", b.ItemCount)
			}
		case BatchSplit:
			x.splits++
			next := int32(0)
			for _, p := range d.Parts {
				if p.First != next || p.Items < 1 {
					x.t.Fatalf("the parts %v do not make up the batch", d.Parts)
				}
				next += p.Items
				if p.State == BatchCrashed {
					if p.Items != 1 {
						x.t.Fatalf("%d items were named at once", p.Items)
					}
					x.named = append(x.named, first+int(p.First))
					continue
				}
				if p.State == BatchCompleted {
					if p.First != 0 || p.Items != b.DoneItems {
						x.t.Fatalf("%v is completed, %d items are done", p, b.DoneItems)
					}
					continue
				}
				x.run(Batch{ItemCount: p.Items, Crashes: d.PartCrashes(p), Suspicion: p.Suspicion}, first+int(p.First))
			}
			if next != b.ItemCount {
				x.t.Fatalf("the parts %v have %d items, the batch %d", d.Parts, next, b.ItemCount)
			}
		case BatchFailed, BatchCancelled:
			x.t.Fatalf("%v: %s", d.State, d.Why)
		}
	}
}

func (x *isolation) guilty(b Batch, first int) int {
	for n := first + int(b.DoneItems); n < first+int(b.ItemCount); n++ {
		if always, bad := x.poison[n]; bad && (always || x.died[n] == 0) {
			return n
		}
	}
	return -1
}

func (x *isolation) clean(b Batch, first int) bool { return x.guilty(b, first) < 0 }

// TestIsolation checks that culprits are found within the bound on deaths, and nobody else is named.
func TestIsolation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.IntRange(1, 600).Draw(t, "items")
		x := isolation{t: t, stream: rapid.Bool().Draw(t, "stream"), poison: map[int]bool{}, died: map[int]int{}}
		for n, always := range rapid.MapOfN(rapid.IntRange(0, items-1), rapid.Bool(), 0, 5).Draw(t, "poison") {
			x.poison[n] = always
		}
		x.run(Batch{ItemCount: int32(items)}, 0)
		want, once := map[int]bool{}, 0
		for n, always := range x.poison {
			if always {
				want[n] = true
			} else {
				once++
			}
		}
		got := map[int]bool{}
		for _, n := range x.named {
			got[n] = true
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) != len(x.named) {
			t.Errorf("named (-want +got):\n%s", diff)
		}
		each := bits.Len(uint(items-1)) + 3
		if x.stream {
			each = 2
		}
		if most := len(want)*each + once; x.deaths > most {
			t.Errorf("%d deaths, at most %d are needed for %s", x.deaths, most, fmt.Sprint(x.poison))
		}
	})
}

// Parts begin with the crashes of the batch that was split, but for those that nothing accuses.
func TestPartCrashes(t *testing.T) {
	for _, c := range []struct {
		name  string
		batch Batch
		death Death
		want  []int32
	}{
		{"around a suspect", Batch{ItemCount: 9, DoneItems: 2, Crashes: 3}, Death{Worker: "a", Suspect: 5}, []int32{0, 0, 4, 0}},
		{"halves", Batch{ItemCount: 9, DoneItems: 2, Crashes: 3, Suspicion: Suspicion{LoneDeaths: 1, DiedOn: "a"}}, Death{Worker: "a"},
			[]int32{0, 4, 4}},
	} {
		d := Decide(&c.batch, Case{End: EndDied, Death: c.death, State: Running})
		var got []int32
		for _, p := range d.Parts {
			got = append(got, d.PartCrashes(p))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestDeathOnADrainedWorkerAccusesNobody(t *testing.T) {
	b := Batch{ItemCount: 1, Crashes: 1, Suspicion: Suspicion{Suspect: 1, DiedOn: "a"}}
	got := Decide(&b, Case{End: EndDied, Death: Death{Worker: "b", Suspect: 1, Drained: true}, State: Running})
	want := Decision{State: BatchPending, Crashes: 1, Suspicion: b.Suspicion}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Decision{}, "Why")); diff != "" || got.Why == "" {
		t.Errorf("decision, because %q (-want +got):\n%s", got.Why, diff)
	}
}
