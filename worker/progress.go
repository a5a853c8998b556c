package worker

import (
	"context"
	"fmt"
	"sync"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// progress is what a handler has reported of its batch: the outcomes of the items at its front. The coordinator has
// acknowledged those of the first of them; the rest is kept until it does. It is safe for concurrent use.
type progress struct {
	items    []payload.Item
	cancel   context.CancelCauseFunc // ends the handler's context
	reported func([]Result)          // is told of each report that counts

	mu      sync.Mutex
	acked   int      // items whose outcomes the coordinator has recorded
	pending []report // of the items after them
	waiting int      // items that pending is about
	bytes   int      // that pending takes in a message, at most
	closed  bool
	misuse  error // what the handler did wrong
}

// report is what was reported of one item, or of several together: these go in one message.
type report struct {
	items    int
	outcome  pb.Outcome
	findings []*pb.ItemFinding
	result   *pb.ItemResult // nil without one
	bytes    int
}

const (
	// runBytes is the most that one more run of outcomes takes in a message.
	runBytes = 2 + 1 + 6 + 2
	// resultBytes is the most that a result takes there beside its value.
	resultBytes = 6 + 2*6 + 6
)

func newProgress(items []payload.Item, done int, cancel context.CancelCauseFunc, reported func([]Result)) *progress {
	return &progress{items: items, acked: done, cancel: cancel, reported: reported}
}

// report takes what the handler says of the next items: a result each or, together, one for all that are left.
func (p *progress) report(together bool, results []Result) {
	p.mu.Lock()
	position := p.acked + p.waiting
	left := len(p.items) - position
	if together {
		results = spread(results[0], left)
	}
	if p.closed || p.misuse != nil || len(results) == 0 {
		p.mu.Unlock()
		return
	}
	if err := p.judge(results, position, left); err != nil {
		p.misuse = err
		p.mu.Unlock()
		p.cancel(err)
		return
	}
	if together {
		p.add(results[0], position, left)
	} else {
		for i, r := range results {
			p.add(r, position+i, 1)
		}
	}
	p.mu.Unlock()
	p.reported(results)
}

// spread returns a result of n items as n results, the first of which has what is said only once.
func spread(r Result, n int) []Result {
	results := make([]Result, n)
	for i := range results {
		results[i].Outcome = r.Outcome
	}
	copy(results, []Result{r})
	return results
}

// judge returns what is wrong with what was reported of the items from a position on.
func (p *progress) judge(results []Result, position, left int) error {
	if len(results) > left {
		return fmt.Errorf("the handler reported %d items where %d of the batch's %d were left", len(results), left, len(p.items))
	}
	for i, r := range results {
		if !r.Outcome.valid() {
			return fmt.Errorf("the handler reported %v for item %d of the batch, which is not for a handler to decide",
				r.Outcome, position+i+1)
		}
	}
	return nil
}

// add keeps what was reported of the items from a position on. The lock must be held.
func (p *progress) add(r Result, position, items int) {
	value, r := r.value()
	findings, size := wire(r.Findings, &p.items[position], position)
	kept := report{items: items, outcome: pb.Outcome(r.Outcome), findings: findings, bytes: size + runBytes}
	if value != nil {
		kept.result = &pb.ItemResult{Position: int32(position), Value: value}
		if items > 1 {
			kept.result.Items = int32(items)
		}
		kept.bytes += len(value) + resultBytes
	}
	p.pending = append(p.pending, kept)
	p.waiting += items
	p.bytes += kept.bytes
}

// close ends reporting: nothing changes what has been reported any more.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// standing returns the number of items that were reported or done before, and what the handler did wrong.
func (p *progress) standing() (done int, misuse error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked + p.waiting, p.misuse
}

// unacknowledged returns the bytes that the outcomes which the coordinator does not know yet take in a message.
func (p *progress) unacknowledged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// excerpt is a part of what was reported, as the protocol has it.
type excerpt struct {
	from     int32
	outcomes []*pb.OutcomeRun
	findings []*pb.ItemFinding
	results  []*pb.ItemResult
	bytes    int
}

// first returns what is not acknowledged, from its beginning and as much as fits into limit bytes; at least one item if
// limit is positive, since no item alone is too large for a message.
func (p *progress) first(limit int) excerpt {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := excerpt{from: int32(p.acked)}
	for _, r := range p.pending {
		if limit <= 0 || (e.bytes > 0 && e.bytes+r.bytes > limit) {
			break
		}
		e.bytes += r.bytes
		e.findings = append(e.findings, r.findings...)
		if r.result != nil {
			e.results = append(e.results, r.result)
		}
		if n := len(e.outcomes); n > 0 && e.outcomes[n-1].Outcome == r.outcome {
			e.outcomes[n-1].Count += int32(r.items)
			continue
		}
		e.outcomes = append(e.outcomes, &pb.OutcomeRun{Count: int32(r.items), Outcome: r.outcome})
	}
	return e
}

// acknowledge notes that the coordinator has recorded the outcomes of the first n items of the batch, and reports
// whether that is news. What it says beyond what was reported is not believed.
func (p *progress) acknowledge(n int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	whole, items := 0, 0 // reports, of which all items are recorded
	for _, r := range p.pending {
		if p.acked+items+r.items > int(n) {
			break
		}
		whole++
		items += r.items
		p.bytes -= r.bytes
	}
	if whole == 0 {
		return false
	}
	p.acked += items
	p.waiting -= items
	p.pending = append([]report(nil), p.pending[whole:]...)
	return true
}
