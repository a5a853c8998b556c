package worker

import (
	"math/rand/v2"
	"time"
)

// The bounds of a rest.
const (
	firstRest = time.Second
	longRest  = time.Minute
)

// respite is the time for which a worker claims nothing, since what its handlers need is not there. It doubles for as long
// as that is so. The session's lock guards it.
type respite struct {
	until time.Time
	last  time.Duration
	why   string // what is missing, as its first miss says
}

// begin notes that a handler had to give its batch back. Those that do so meanwhile are of the same outage.
func (r *respite) begin(why string) time.Duration {
	if r.trouble() == "" {
		r.why = why
	}
	if left := time.Until(r.until); left > 0 {
		return left
	}
	r.last = min(max(2*r.last, firstRest), longRest)
	// Workers that missed the same thing do not come back together.
	d := r.last/2 + rand.N(r.last/2)
	r.until = time.Now().Add(d)
	return d
}

// trouble returns what is missing, "" when nobody has missed it for a while.
func (r *respite) trouble() string {
	if time.Since(r.until) > longRest {
		return ""
	}
	return r.why
}

// over notes that a handler has done its work.
func (r *respite) over() { *r = respite{} }
