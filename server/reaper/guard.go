package reaper

import (
	"fmt"
	"sync"
	"time"
)

// guard decides whether a lease that looks expired may be ended. A worker cannot beat while the database is away, the
// coordinators are down, or the machine sleeps, and a clock that was stepped makes leases look older than they are. So
// the guard compares, from round to round, the database's clock with its own monotonic one: a gap of more than a third
// of a lease in either, or a difference of more than two seconds between them, gives every worker one lease to come
// back in.
//
// That lease is made of time in which all was well: of a gap, however long, no more than a usual one counts. So an outage
// that begins before the workers could come back after the one before it takes nothing of their time. Likewise shorter
// gaps add up to a long one, unless all was well for as long in between. A database that is slow for good rests nobody
// for ever: rounds that take a fifth of a lease each still count. Safe for concurrent use.
type guard struct {
	lease time.Duration

	mu       sync.Mutex
	database time.Time     // the database's clock at the last round
	own      time.Time     // ours, monotonic
	rest     time.Duration // that is left, of time in which all is well
	missed   time.Duration // in which all was not well, and that has not been made up for
	well     time.Duration // in which all was, ever
}

// clockTolerance is how far the two clocks may drift apart between two rounds.
const clockTolerance = 2 * time.Second

// usual is the longest gap between two rounds that counts in full as time in which all is well. Rounds come at least twice
// as often.
func (g *guard) usual() time.Duration { return g.lease / 10 }

// check notes a round and returns why nothing may be ended for one lease, "" when all is well.
func (g *guard) check(database time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	gap, own, first := database.Sub(g.database), now.Sub(g.own), g.own.IsZero()
	g.database, g.own = database, now
	if first {
		return ""
	}
	counts := min(own, g.usual())
	g.well += counts
	g.rest = max(g.rest-counts, 0)
	g.missed = max(g.missed-counts, 0) + own - counts
	var why string
	switch most := g.lease / 3; {
	case own > most:
		why = fmt.Sprintf("the last round was %v ago", own.Round(time.Millisecond))
	case gap > most, gap < 0, (gap - own).Abs() > clockTolerance:
		why = fmt.Sprintf("the database's clock moved by %v in %v", gap.Round(time.Millisecond), own.Round(time.Millisecond))
	case g.missed > most:
		why = fmt.Sprintf("the last rounds were late by %v together", g.missed.Round(time.Millisecond))
	default:
		return ""
	}
	g.rest, g.missed = g.lease, 0
	return why
}

// resting reports whether nothing may be ended at the moment: a lease is being given to the workers, or it may turn out
// that one must be.
func (g *guard) resting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rest > 0 || !g.own.IsZero() && time.Since(g.own) > g.lease/3
}

// healthy returns for how long all has been well since the guard was made.
func (g *guard) healthy() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.well
}
