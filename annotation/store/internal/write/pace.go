package write

import (
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/annotation/store"
)

// The bounds of a transaction.
const (
	transactionTime  = 50 * time.Millisecond
	transactionItems = 512
	transactionBytes = 4 << 20
	leastWeight      = 1024 // a usual batch, with what its items weigh themselves: what every transaction costs, smaller ones only cost more often
	firstWeight      = 2048
	mostWeight       = 16384
)

// pace finds out how much fits into a transaction of transactionTime.
type pace struct {
	mu     sync.Mutex
	weight int
}

func newPace() pace { return pace{weight: firstWeight} }

// weigh returns what storing an item costs, in annotations.
func weigh(e store.Entry) int { return 1 + e.Item.Annotations() + len(e.Item.Text)/1024 }

// take returns how many entries to store in the next transaction, at least one.
func (p *pace) take(entries []store.Entry) int {
	p.mu.Lock()
	limit := p.weight
	p.mu.Unlock()
	weight, bytes := 0, 0
	var before *store.Given
	for n, e := range entries[:min(len(entries), transactionItems)] {
		weight, bytes = weight+weigh(e), bytes+len(e.Item.Text)
		if e.Given != nil && e.Given != before {
			bytes += len(e.Given.Text)
		}
		before = e.Given
		if n > 0 && (weight > limit || bytes > transactionBytes) {
			return n
		}
	}
	return min(len(entries), transactionItems)
}

// took learns from a transaction, unless most of its time went into the review of annotations that were there: smaller
// transactions would only review them more often.
func (p *pace) took(entries []store.Entry, reviewed int, took time.Duration) {
	weight := 0
	for _, e := range entries {
		weight += weigh(e)
	}
	if reviewed > weight {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case took > transactionTime:
		p.weight = max(leastWeight, min(p.weight, weight)/2)
	case took < transactionTime/2 && weight > p.weight/2:
		p.weight = min(mostWeight, 2*p.weight)
	}
}
