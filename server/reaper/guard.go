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
// back in. Safe for concurrent use.
type guard struct {
	lease time.Duration

	mu       sync.Mutex
	database time.Time // the database's clock at the last round
	own      time.Time // ours, monotonic
	until    time.Time // rests until, monotonic
}

// clockTolerance is how far the two clocks may drift apart between two rounds.
const clockTolerance = 2 * time.Second

// check notes a round and returns why nothing may be ended for one lease, "" when all is well.
func (g *guard) check(database time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	gap, own, first := database.Sub(g.database), now.Sub(g.own), g.own.IsZero()
	g.database, g.own = database, now
	var why string
	switch most := g.lease / 3; {
	case first:
		return ""
	case own > most:
		why = fmt.Sprintf("the last round was %v ago", own.Round(time.Millisecond))
	case gap > most, gap < 0, (gap - own).Abs() > clockTolerance:
		why = fmt.Sprintf("the database's clock moved by %v in %v", gap.Round(time.Millisecond), own.Round(time.Millisecond))
	default:
		return ""
	}
	g.until = now.Add(g.lease)
	return why
}

// resting reports whether nothing may be ended at the moment.
func (g *guard) resting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.until)
}
