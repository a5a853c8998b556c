package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestDecide(t *testing.T) {
	tests := []struct {
		name      string
		batch     Batch
		end       EndKind
		retryable bool
		state     State
		want      Decision
	}{
		{"completed", Batch{ItemCount: 5, DoneItems: 5}, EndCompleted, false, Running, Decision{State: BatchCompleted}},
		{"completed while cancelling", Batch{ItemCount: 5, DoneItems: 5}, EndCompleted, false, Cancelling,
			Decision{State: BatchCompleted}},
		{"died after its last item", Batch{ItemCount: 5, DoneItems: 5}, EndDied, false, Running,
			Decision{State: BatchCompleted, Crashes: 1}},
		{"first failure", Batch{ItemCount: 5}, EndFailed, true, Running, Decision{State: BatchPending, Failures: 1}},
		{"third failure", Batch{ItemCount: 5, Failures: 2}, EndFailed, true, Running,
			Decision{State: BatchFailed, Undone: ItemFailed, Failures: 3}},
		{"permanent failure", Batch{ItemCount: 5}, EndFailed, false, Running,
			Decision{State: BatchFailed, Undone: ItemFailed, Failures: 1}},
		{"failure while cancelling", Batch{ItemCount: 5}, EndFailed, true, Cancelling,
			Decision{State: BatchCancelled, Undone: ItemCancelled, Failures: 1}},
		{"died while cancelling", Batch{ItemCount: 5, DoneItems: 2}, EndDied, false, Cancelling,
			Decision{State: BatchCancelled, Undone: ItemCancelled, Crashes: 1}},
		{"losses accuse nobody", Batch{ItemCount: 5, Crashes: 2, Losses: 9, LoneLosses: 2}, EndLost, false, Running,
			Decision{State: BatchPending, Crashes: 2, Losses: 10, LoneLosses: 2}},
		{"a release breaks no row of losses", Batch{ItemCount: 5, Losses: 2, LoneLosses: 2}, EndReleased, false, Running,
			Decision{State: BatchPending, Losses: 2, LoneLosses: 2}},
		{"failures and crashes are counted apart", Batch{ItemCount: 5, Crashes: 2}, EndFailed, true, Running,
			Decision{State: BatchPending, Failures: 1, Crashes: 2}},
		{"released", Batch{ItemCount: 5, Crashes: 2, Failures: 2}, EndReleased, false, Running,
			Decision{State: BatchPending, Failures: 2, Crashes: 2}},
		{"released while cancelling", Batch{ItemCount: 5}, EndReleased, false, Cancelling,
			Decision{State: BatchCancelled, Undone: ItemCancelled}},
		{"lost while cancelling", Batch{ItemCount: 5}, EndLost, false, Cancelling,
			Decision{State: BatchCancelled, Undone: ItemCancelled, Losses: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Decide(&test.batch, Case{End: test.end, Retryable: test.retryable, State: test.state})
			if got.State == BatchPending && test.end == EndFailed {
				if got.Backoff < backoffFirst/2 || got.Backoff > backoffFirst {
					t.Errorf("first backoff is %v, want about a second", got.Backoff)
				}
				got.Backoff = 0
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if !BatchRunning.MayBecome(got.State) {
				t.Errorf("a running batch must not become %v", got.State)
			}
		})
	}
}

func TestVanished(t *testing.T) {
	gone := func(session int64) Past { return Past{EndLost, session, true} }
	for _, test := range []struct {
		name    string
		earlier []Past
		want    bool
	}{
		{"the first", nil, false},
		{"the second", []Past{gone(2)}, false},
		{"the third", []Past{gone(2), gone(1)}, true},
		{"with a release in between", []Past{{EndReleased, 9, false}, gone(2), gone(1)}, true},
		{"one came back", []Past{gone(2), {EndLost, 1, false}}, false},
		{"the same one again and again", []Past{gone(3), gone(3), gone(2)}, false},
		{"a failure in between", []Past{gone(2), {EndFailed, 9, true}, gone(1)}, false},
	} {
		if got := Vanished(3, test.earlier); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestSilence(t *testing.T) {
	const silent = 30 * time.Second
	beating, quiet := Peer{time.Hour, 5 * time.Second}, Peer{time.Hour, 25 * time.Second}
	for _, test := range []struct {
		name   string
		lone   int32
		others []Peer
		want   EndKind
		then   int32
	}{
		{"no other session", 2, nil, EndLost, 2},
		{"the first loss", 0, []Peer{beating}, EndLost, 1},
		{"the third in a row", 2, []Peer{beating}, EndDied, 3},
		{"most others beat", 2, []Peer{beating, quiet, beating}, EndDied, 3},
		{"half of the others beat", 2, []Peer{beating, quiet}, EndLost, 2},
		{"all are silent", 2, []Peer{quiet, quiet}, EndLost, 2},
		{"others began after it fell silent", 2, []Peer{{20 * time.Second, 0}, quiet}, EndLost, 2},
		{"others were gone before", 2, []Peer{beating, {time.Hour, 61 * time.Second}, {time.Hour, 10 * time.Hour}}, EndDied, 3},
	} {
		b := Batch{LoneLosses: test.lone}
		if got := b.Silence(silent, test.others); got != test.want || b.LoneLosses != test.then {
			t.Errorf("%s: %v and %d lone losses, want %v and %d", test.name, got, b.LoneLosses, test.want, test.then)
		}
	}
}

func TestBackoffIsBounded(t *testing.T) {
	for n := int32(1); n < 200; n++ {
		if d := backoff(n); d <= 0 || d > backoffMost {
			t.Fatalf("backoff(%d) = %v", n, d)
		}
	}
}

func TestFoldEndsJob(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stored := func(n int64) *Delta {
		d := &Delta{}
		d.ItemsTotal = n
		d.ItemOutcomes[Stored] = n
		return d
	}
	tests := []struct {
		name  string
		job   Job
		delta *Delta
		want  State
	}{
		{"all stored", Job{State: Running, IngestDone: true}, stored(3), Succeeded},
		{"upload still open", Job{State: Running}, stored(3), Running},
		{"nothing uploaded", Job{State: Running, IngestDone: true}, &Delta{}, Succeeded},
		{"a rejected item", Job{State: Running, IngestDone: true, Counters: Counters{ItemOutcomes: [outcomes]int64{Rejected: 1}}},
			stored(3), CompletedWithErrors},
		{"an error about the file", Job{State: Running, IngestDone: true, Counters: Counters{Errors: 1}}, stored(3),
			CompletedWithErrors},
		{"a batch is open", Job{State: Running, IngestDone: true, Counters: Counters{Batches: [batchStates]int64{BatchPending: 1}}},
			stored(3), Running},
		{"cancelling with an open batch",
			Job{State: Cancelling, StopAs: Cancelled, Counters: Counters{Batches: [batchStates]int64{BatchRunning: 1}}},
			&Delta{}, Cancelling},
		{"cancelled", Job{State: Cancelling, StopAs: Cancelled}, stored(3), Cancelled},
		{"stopped as failed", Job{State: Cancelling, StopAs: Failed}, stored(3), Failed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := test.job
			j.Fold(test.delta, now)
			if j.State != test.want {
				t.Errorf("state %q, want %q", j.State, test.want)
			}
			if j.State.Ended() != !j.EndedAt.IsZero() {
				t.Errorf("state %q ended at %v", j.State, j.EndedAt)
			}
			if j.Revision != test.job.Revision+1 {
				t.Errorf("revision %d, want %d", j.Revision, test.job.Revision+1)
			}
		})
	}
}

func drawRuns(t *rapid.T, label string) []Run {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Run {
		return Run{Count: rapid.Int32Range(1, 1000).Draw(t, "count"), Outcome: Outcome(rapid.IntRange(1, 8).Draw(t, "outcome"))}
	}), 0, 20).Draw(t, label)
}

// flat spells runs out, item by item.
func flat(runs []Run) []Outcome {
	var out []Outcome
	for _, r := range runs {
		for range r.Count {
			out = append(out, r.Outcome)
		}
	}
	return out
}

func TestRunsSurviveStoring(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRuns(t, "a"), drawRuns(t, "b")
		got, err := ParseRuns(append(AppendRuns(nil, a), AppendRuns(nil, b)...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append(flat(a), flat(b)...), flat(got)); diff != "" {
			t.Errorf("stored and read (-want +got):\n%s", diff)
		}
		n := rapid.Int32Range(0, Items(a)).Draw(t, "n")
		if diff := cmp.Diff(flat(a)[n:], append([]Outcome{}, flat(SkipItems(a, n))...)); diff != "" && n < Items(a) {
			t.Errorf("without the first %d (-want +got):\n%s", n, diff)
		}
	})
}

func FuzzParseRuns(f *testing.F) {
	f.Add(AppendRuns(nil, []Run{{3, Stored}, {1, Rejected}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		runs, err := ParseRuns(data)
		if err != nil {
			return
		}
		for _, r := range runs {
			if r.Count < 1 || !r.Outcome.Valid() {
				t.Fatalf("run %+v", r)
			}
		}
	})
}

func TestDeltaSurvivesStoring(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := new(Delta)
		for i, f := range d.fields() {
			if rapid.Bool().Draw(t, "set") {
				*f = rapid.Int64().Draw(t, "value")
			}
			_ = i
		}
		for range rapid.IntRange(0, 3).Draw(t, "slowest") {
			d.Slowest = append(d.Slowest, Settled{rapid.Int64().Draw(t, "id"), time.Duration(rapid.Int64().Draw(t, "took"))})
		}
		got, err := ParseDelta(d.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, got); diff != "" {
			t.Errorf("stored and read (-want +got):\n%s", diff)
		}
	})
}

func FuzzParseDelta(f *testing.F) {
	d := &Delta{}
	d.ItemsTotal = 7
	d.End(3, BatchCompleted, true, time.Second)
	f.Add(d.Append(nil))
	f.Add([]byte{deltaVersion})
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := ParseDelta(data); err == nil {
			if _, err := ParseDelta(d.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDeltaOfANewerVersionIsLeft(t *testing.T) {
	if _, err := ParseDelta([]byte{deltaVersion + 1, 0}); err == nil {
		t.Error("a delta of a newer version was read")
	}
}

func TestHistogramQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h Histogram
		ms := rapid.SliceOfN(rapid.Int64Range(1, 10_000_000), 1, 200).Draw(t, "ms")
		var sum time.Duration
		for _, m := range ms {
			d := time.Duration(m) * time.Millisecond
			sum += d
			h.Observe(d)
		}
		if got, want := h.Mean(), sum/time.Duration(len(ms)); got != want {
			t.Errorf("mean %v, want %v", got, want)
		}
		longest := time.Duration(0)
		for _, m := range ms {
			longest = max(longest, time.Duration(m)*time.Millisecond)
		}
		if top := h.Quantile(1); top < longest || float64(top) > 1.51*float64(longest) {
			t.Errorf("the largest of %v is said to be %v", longest, top)
		}
		if h.Quantile(0.5) > h.Quantile(0.99) {
			t.Error("the median lies above the 99th percentile")
		}
	})
}

func TestMergeSlowestKeepsTheSlowest(t *testing.T) {
	var kept []Settled
	for i := range int64(100) {
		kept = MergeSlowest(kept, []Settled{{i, time.Duration(i%50) * time.Second}})
	}
	if len(kept) != slowestKept || kept[0].Duration != 49*time.Second || kept[0].BatchID != 49 {
		t.Errorf("kept %d, first %+v", len(kept), kept[0])
	}
}

// Batches that end one after the other leave the same as when they are merged.
func TestEndKeepsTheSlowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d Delta
		var want []Settled
		for range rapid.IntRange(0, 60).Draw(t, "ends") {
			s := Settled{rapid.Int64Range(1, 40).Draw(t, "batch"), time.Duration(rapid.IntRange(0, 30).Draw(t, "took")) * time.Second}
			d.End(s.BatchID, BatchCompleted, false, s.Duration)
			want = MergeSlowest(want, []Settled{s})
		}
		if diff := cmp.Diff(want, d.Slowest, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("slowest (-want +got):\n%s", diff)
		}
	})
}
