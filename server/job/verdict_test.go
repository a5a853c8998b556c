package job

import (
	"math/rand/v2"
	"testing"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	// alone is the death of one batch, which completed elsewhere or not, after which the worker completed some.
	alone := func(batch int64, elsewhere bool, completed int64) Accident {
		return Accident{Batches: []int64{batch}, Elsewhere: elsewhere, Completed: completed}
	}
	row := func(n int, completed int64) (list []Accident) {
		for i := range n {
			list = append(list, alone(int64(i+1), i%3 > 0, completed))
		}
		return list
	}
	for _, c := range []struct {
		name   string
		list   []Accident
		guilty bool
	}{
		{"nothing", nil, false},
		{"two deaths", row(2, 0), false},
		{"three batches, two of which completed elsewhere", row(3, 0), true},
		{"only one completed elsewhere", []Accident{alone(1, true, 0), alone(2, false, 0), alone(3, false, 0)}, false},
		{"one batch three times", []Accident{alone(1, true, 0), alone(1, true, 0), alone(1, true, 0)}, false},
		{"two batches and one of them again", []Accident{alone(1, true, 0), alone(2, true, 0), alone(1, true, 0)}, false},
		{"it completed fewer", row(3, 2), true},
		{"it completed as many", row(3, 3), false},
		{"a rare crash among many that completed", append([]Accident{alone(9, true, 1000)}, row(2, 500)...), false},
		{"four at once, all of them innocent, are one", []Accident{{Batches: []int64{1, 2, 3, 4}, Elsewhere: true}}, false},
		{"three times four", []Accident{
			{Batches: []int64{1, 2, 3, 4}, Elsewhere: true}, {Batches: []int64{5, 6, 7, 8}, Elsewhere: true}, {Batches: []int64{9, 10}},
		}, true},
		{"the same one with others each time", []Accident{
			{Batches: []int64{1, 2}}, {Batches: []int64{1, 3}}, {Batches: []int64{1, 4}},
		}, false},
		{"five in a row, long after others", append([]Accident{alone(99, true, 1000)}, row(5, 0)...), false},
		{"six in a row, long after others", append([]Accident{alone(99, true, 1000)}, row(6, 0)...), true},
	} {
		v, guilty := Judge(c.list)
		if guilty != c.guilty {
			t.Errorf("%s: guilty is %t by %+v, want %t", c.name, guilty, v, c.guilty)
		}
	}
}

// fleet is workers on which attempts die at random, and batches that are tried again, on another worker, until they complete.
type fleet struct {
	chance []float64 // of a death, by worker
	lists  [][]Accident
	drains map[int]int // crashes after which a worker was drained
}

// run has so many attempts made, and judges after each, as long as there are two workers.
func (f *fleet) run(attempts int, r *rand.Rand) {
	f.lists, f.drains = make([][]Accident, len(f.chance)), map[int]int{}
	crashes, last := make([]int, len(f.chance)), -1
	batch := int64(1)
	for range attempts {
		var live []int
		for w := range f.chance {
			if _, drained := f.drains[w]; !drained && w != last {
				live = append(live, w)
			}
		}
		if len(live)+min(last+1, 1) < 2 {
			return // the last one of a kind is never drained
		}
		w := live[r.IntN(len(live))]
		if r.Float64() < f.chance[w] {
			f.lists[w] = append(f.lists[w], Accident{Batches: []int64{batch}})
			crashes[w]++
			last = w
		} else {
			for i := range f.lists[w] {
				f.lists[w][i].Completed++
			}
			for x := range f.lists {
				for i := range f.lists[x] {
					if x != w && f.lists[x][i].Batches[0] == batch {
						f.lists[x][i].Elsewhere = true
					}
				}
			}
			batch, last = batch+1, -1
		}
		for x := range f.lists {
			if _, drained := f.drains[x]; !drained {
				if _, guilty := Judge(f.lists[x]); guilty {
					f.drains[x] = crashes[x]
				}
			}
		}
	}
}

// TestJudgeOfFleets says where the rule's limits are: it finds bad workers within a handful of crashes, among good ones and
// among such as crash now and then, and leaves these alone; but where half of all attempts crash it knows no better than that
// all workers are bad, all but the last.
func TestJudgeOfFleets(t *testing.T) {
	t.Parallel()
	const runs = 100
	for _, c := range []struct {
		name    string
		chance  []float64
		most    int // crashes until the first worker is drained, if that is bad
		drained func(innocent, bad int) bool
	}{
		{"one bad among good ones", []float64{1, 0, 0, 0}, 4, func(innocent, bad int) bool { return innocent == 0 && bad == runs }},
		{"three bad and a good one", []float64{1, 1, 1, 0}, 8, func(innocent, bad int) bool { return innocent == 0 && bad == 3*runs }},
		{"one bad among such as crash now and then", []float64{1, 0.05, 0.05, 0.05}, 6,
			func(innocent, bad int) bool { return innocent < runs/10 && bad == runs }},
		{"all crash now and then", []float64{0.05, 0.05, 0.05, 0.05}, 0, func(innocent, _ int) bool { return innocent <= runs/10 }},
		{"half of everything crashes", []float64{0.5, 0.5, 0.5, 0.5}, 0, func(innocent, _ int) bool { return innocent <= 3*runs }},
	} {
		innocent, bad, most := 0, 0, 0
		for seed := range uint64(runs) {
			f := fleet{chance: c.chance}
			f.run(1000, rand.New(rand.NewPCG(seed, 1)))
			for w, crashes := range f.drains {
				if c.chance[w] < 1 {
					innocent++
				} else {
					bad++
					most = max(most, crashes)
				}
			}
		}
		t.Logf("%s: %d innocent and %d bad workers drained in %d runs, bad ones after at most %d crashes", c.name, innocent, bad, runs, most)
		if !c.drained(innocent, bad) || most > c.most {
			t.Errorf("%s: that is not as it should be", c.name)
		}
	}
}

// What a batch that is acquitted had cost the numbers is taken back once, of the batch that ingest cut.
func TestAcquit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		batch           Batch
		ever, acquitted int64
	}{
		{"open", Batch{Crashes: 2, State: BatchPending}, -1, 0},
		{"ended", Batch{Crashes: 1, State: BatchCompleted}, -1, 1},
		{"lost besides", Batch{Crashes: 1, Losses: 1, State: BatchCompleted}, 0, 1},
		{"never died", Batch{State: BatchCompleted}, 0, 0},
		{"a part", Batch{RootID: 1, Crashes: 2, State: BatchCompleted}, 0, 0},
	} {
		var d Delta
		d.Acquit(&c.batch)
		if d.CrashedEver != c.ever || d.Acquitted != c.acquitted {
			t.Errorf("%s: %d crashed ever and %d acquitted, want %d and %d", c.name, d.CrashedEver, d.Acquitted, c.ever, c.acquitted)
		}
	}
}
