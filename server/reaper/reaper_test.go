package reaper

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestGuardRestsWhenTimeIsNotWhatItSeems(t *testing.T) {
	const lease = 30 * time.Second
	tests := []struct {
		name     string
		passes   time.Duration // by our clock, between two rounds
		database time.Duration // by the database's
		rests    bool
	}{
		{"a usual round", time.Second, time.Second, false},
		{"the database was away, or we were frozen", 11 * time.Second, 11 * time.Second, true},
		{"the database's clock was stepped forward", time.Second, 9 * time.Second, true},
		{"the database's clock was stepped back", time.Second, -time.Second, true},
		{"clocks drift a little", 5 * time.Second, 6 * time.Second, false},
		{"a new primary with another clock", time.Second, time.Hour, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := guard{lease: lease}
				database := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
				if why := g.check(database); why != "" || g.resting() {
					t.Fatalf("the first round rests: %q", why)
				}
				pass(test.passes)
				why := g.check(database.Add(test.database))
				if (why != "") != test.rests || g.resting() != test.rests {
					t.Errorf("reason %q, rests %t, want %t", why, g.resting(), test.rests)
				}
				database = database.Add(test.database)
				for range 30 {
					pass(time.Second)
					database = database.Add(time.Second)
					if why := g.check(database); why != "" {
						t.Errorf("rests again: %s", why)
					}
				}
				if g.resting() {
					t.Error("rests longer than a lease")
				}
			})
		})
	}
}

// An outage after another one takes nothing of the time in which the workers are to come back, however short it is, and
// several short ones are a long one.
func TestGuardCountsTimeInWhichAllIsWell(t *testing.T) {
	const lease, second = 30 * time.Second, time.Second
	for name, test := range map[string]struct {
		gaps []time.Duration // between rounds
		rest time.Duration   // that is left after them, if rounds come every second from then on
	}{
		"one outage":                     {[]time.Duration{second, 20 * second}, 30 * second},
		"one, and some time":             {[]time.Duration{20 * second, second, second}, 28 * second},
		"a long one after it":            {[]time.Duration{20 * second, second, second, 11 * second}, 30 * second},
		"a short one after it":           {[]time.Duration{20 * second, second, second, 9 * second}, 25 * second},
		"short ones after it":            {[]time.Duration{20 * second, 9 * second, second, 9 * second}, 23 * second},
		"a short one alone":              {[]time.Duration{second, 9 * second, second}, 0},
		"short ones, with time between":  {[]time.Duration{9 * second, second, second, second, second, second, second, 9 * second}, 0},
		"short ones in a row":            {[]time.Duration{9 * second, 9 * second, 9 * second, 9 * second}, 27 * second},
		"slow for good":                  {slices.Repeat([]time.Duration{6 * second}, 50), 0},
		"slow for good after an outage":  {append([]time.Duration{20 * second}, slices.Repeat([]time.Duration{6 * second}, 10)...), 0},
		"slower than that, now and then": {append(slices.Repeat([]time.Duration{6 * second}, 20), 8*second, second), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := guard{lease: lease}
				g.check(time.Now())
				for _, gap := range test.gaps {
					pass(gap)
					g.check(time.Now())
				}
				began := time.Now()
				for g.resting() {
					pass(second)
					g.check(time.Now())
				}
				if rest := time.Since(began); rest != test.rest {
					t.Errorf("rests for %v more, want %v", rest, test.rest)
				}
			})
		})
	}
}

// Whoever asks before the round that notices an outage is told to wait for it.
func TestGuardRestsWhileNoRoundComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guard{lease: 30 * time.Second}
		if g.resting() {
			t.Error("rests before the first round")
		}
		g.check(time.Now())
		pass(9 * time.Second)
		if g.resting() {
			t.Error("rests between two rounds")
		}
		pass(2 * time.Second)
		if !g.resting() {
			t.Error("does not rest in an outage")
		}
	})
}
