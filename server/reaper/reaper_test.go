package reaper

import (
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
				pass(lease)
				if g.resting() {
					t.Error("rests longer than a lease")
				}
			})
		})
	}
}
