package store

import (
	"slices"
	"time"
)

// Choosy is a pending batch that not every session may have, since it died.
type Choosy struct {
	Grant
	Solo   bool
	Avoid  string        // worker whose sessions may not have it; "" when all may
	Waited time.Duration // since it became available
}

// Claimant is a session that may have batches.
type Claimant struct {
	Session int64
	Worker  string
	Held    int // leases
	Room    int // batches that it asks for
}

// may reports whether a session may have a batch.
func (c *Claimant) may(b *Choosy) bool {
	return c.Worker != b.Avoid && (!b.Solo || c.Held == 0)
}

// Match gives batches, in their order, to sessions that ask, in their order, and returns for each batch the index of the
// session, or -1. A solo batch goes to one that holds nothing, and which then gets nothing else. It counts what it gives in
// claimants.
func Match(batches []Choosy, claimants []Claimant) []int {
	to := make([]int, len(batches))
	for i := range batches {
		to[i] = slices.IndexFunc(claimants, func(c Claimant) bool { return c.Room > 0 && c.may(&batches[i]) })
		if to[i] < 0 {
			continue
		}
		c := &claimants[to[i]]
		c.Held++
		c.Room--
		if batches[i].Solo {
			c.Room = 0
		}
	}
	return to
}

// soloPatience is how long a solo batch waits for a session that holds nothing, before one is kept from taking more.
const soloPatience = 2 * time.Second

// Keep returns the session that is to take nothing more until it holds nothing, so that a solo batch which waits for that
// is not waiting for ever; 0 for none. It is always the one that holds least, so that it stays the same.
func Keep(waiting []Choosy, live []Claimant) int64 {
	for i := range waiting {
		b := &waiting[i]
		if !b.Solo || b.Waited < soloPatience {
			continue
		}
		var best *Claimant
		for k := range live {
			c := &live[k]
			if c.Worker != b.Avoid && c.Held > 0 && (best == nil || c.Held < best.Held || c.Held == best.Held && c.Session < best.Session) {
				best = c
			}
		}
		if best != nil {
			return best.Session
		}
	}
	return 0
}
