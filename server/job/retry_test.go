package job

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRetryTakesBackAtOnce(t *testing.T) {
	items := func(failed, crashed, cancelled int64) (o [outcomes]int64) {
		o[ItemFailed], o[ItemCrashed], o[ItemCancelled] = failed, crashed, cancelled
		return o
	}
	for _, test := range []struct {
		name                 string
		retrying, states     States
		row, taken, unfolded [outcomes]int64
		named                [outcomes]int64 // of batches reopened at once
		wantRow, wantTaken   [outcomes]int64
		wantDelta            [outcomes]int64
		forgiven             int64
	}{
		{"all of it", 0, Bad, items(1, 2, 3), items(0, 0, 0), items(0, 0, 0), items(0, 0, 0),
			items(0, 0, 0), items(1, 2, 3), items(0, 0, 0), 0},
		{"one state", 0, StatesOf(BatchFailed), items(1, 2, 3), items(0, 0, 0), items(0, 0, 0), items(0, 0, 0),
			items(0, 2, 3), items(1, 0, 0), items(0, 0, 0), 2},
		{"what is not folded yet", 0, StatesOf(BatchFailed), items(1, 2, 3), items(0, 0, 0), items(4, 5, 0), items(0, 0, 0),
			items(0, 2, 3), items(5, 0, 0), items(-4, 0, 0), 7},
		{"named batches", 0, 0, items(3, 2, 1), items(0, 0, 0), items(0, 0, 0), items(-2, 0, -1),
			items(1, 2, 0), items(0, 0, 0), items(0, 0, 0), 3},
		{"named batches that are not folded yet", 0, 0, items(1, 0, 0), items(0, 0, 0), items(4, 0, 0), items(-3, 0, 0),
			items(1, 0, 0), items(0, 0, 0), items(-3, 0, 0), 2},
		{"what an earlier retry has not moved, and what ended since", StatesOf(BatchFailed), StatesOf(BatchCrashed),
			items(2, 3, 4), items(5, 0, 0), items(1, 0, 0), items(0, 0, 0),
			items(0, 0, 4), items(8, 3, 0), items(-1, 0, 0), 0},
		{"named batches that an earlier retry has not moved", StatesOf(BatchFailed), 0,
			items(0, 3, 0), items(5, 0, 0), items(0, 0, 0), items(-2, 0, 0),
			items(0, 3, 0), items(3, 0, 0), items(0, 0, 0), 3},
	} {
		j := Job{Run: 1, Retrying: test.retrying, TakenBack: test.taken, ForgivenBad: 99}
		j.ItemOutcomes = test.row
		var unfolded, d Delta
		unfolded.ItemOutcomes, d.ItemOutcomes = test.unfolded, test.named
		j.Retry(test.states, &unfolded, &d)
		want := Job{Run: 2, Retrying: test.retrying | test.states, TakenBack: test.wantTaken, ForgivenBad: test.forgiven}
		want.ItemOutcomes = test.wantRow
		if diff := cmp.Diff(want, j); diff != "" {
			t.Errorf("%s: job (-want +got):\n%s", test.name, diff)
		}
		if diff := cmp.Diff(test.wantDelta, d.ItemOutcomes); diff != "" {
			t.Errorf("%s: delta (-want +got):\n%s", test.name, diff)
		}
	}
}

// Whatever is moved in whichever steps, and whenever the retry ends, each item has its outcome again once or is open.
func TestRetryKeepsItsBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batches := rapid.SliceOf(rapid.Custom(func(t *rapid.T) Batch {
			return Batch{
				State:    rapid.SampledFrom([]BatchState{BatchFailed, BatchCrashed, BatchCancelled}).Draw(t, "state"),
				Outcomes: []Run{{Count: rapid.Int32Range(1, 9).Draw(t, "stored"), Outcome: Stored}},
			}
		})).Draw(t, "batches")
		var j Job
		for i := range batches {
			b := &batches[i]
			b.Outcomes = append(b.Outcomes, Run{Count: rapid.Int32Range(1, 9).Draw(t, "undone"), Outcome: endings[b.State]})
			j.AddRuns(b.Outcomes)
			if b.State == BatchCrashed {
				j.Errors += int64(b.Outcomes[1].Count) // the findings that name them
			}
			j.Batches[b.State]++
		}
		states := States(rapid.Uint32().Draw(t, "states")) & Bad
		before := j.Counters
		j.Retry(states, &Delta{}, &Delta{})
		begun := j.ItemsEnded()
		want := before
		for _, b := range batches {
			if !states.Has(b.State) || rapid.Bool().Draw(t, "stays") {
				continue
			}
			var d Delta
			if kept := d.Reopen(&b); len(kept) != 1 {
				t.Fatalf("kept %v of %v", kept, b.Outcomes)
			}
			j.Moved(&d)
			j.Add(&d.Counters)
			if j.ItemsEnded() != begun {
				t.Fatalf("%d items have ended after a step, %d before", j.ItemsEnded(), begun)
			}
			want.ItemOutcomes[endings[b.State]] -= int64(b.Outcomes[1].Count)
			if b.State == BatchCrashed {
				want.Errors -= int64(b.Outcomes[1].Count)
			}
			want.Move(b.State, BatchPending)
		}
		j.EndRetry(&j.Counters)
		if diff := cmp.Diff(want, j.Counters); diff != "" || j.Retrying != 0 || j.TakenBack != [outcomes]int64{} {
			t.Errorf("at the end %v is taken back (-want +got):\n%s", j.TakenBack, diff)
		}
	})
}
