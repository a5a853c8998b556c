package job

import "testing"

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
