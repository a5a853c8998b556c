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
	bytes   int      // that pending takes in a message, at most
	closed  bool
	misuse  error // what the handler did wrong
}

// report is what was reported of one item.
type report struct {
	outcome  pb.Outcome
	findings []*pb.ItemFinding
	bytes    int
}

// runBytes is the most that one more run of outcomes takes in a message.
const runBytes = 2 + 1 + 6 + 2

func newProgress(items []payload.Item, done int, cancel context.CancelCauseFunc, reported func([]Result)) *progress {
	return &progress{items: items, acked: done, cancel: cancel, reported: reported}
}

func (p *progress) report(results []Result) {
	p.mu.Lock()
	if p.closed || p.misuse != nil || len(results) == 0 {
		p.mu.Unlock()
		return
	}
	if err := p.add(results); err != nil {
		p.misuse = err
		p.mu.Unlock()
		p.cancel(err)
		return
	}
	p.mu.Unlock()
	p.reported(results)
}

func (p *progress) add(results []Result) error {
	position := p.acked + len(p.pending)
	if left := len(p.items) - position; len(results) > left {
		return fmt.Errorf("the handler reported %d items where %d of the batch's %d were left", len(results), left, len(p.items))
	}
	for i, r := range results {
		if !r.Outcome.valid() {
			return fmt.Errorf("the handler reported %v for item %d of the batch, which is not for a handler to decide",
				r.Outcome, position+i+1)
		}
	}
	for i, r := range results {
		findings, size := wire(r.Findings, &p.items[position+i], position+i)
		size += runBytes
		p.pending = append(p.pending, report{outcome: pb.Outcome(r.Outcome), findings: findings, bytes: size})
		p.bytes += size
	}
	return nil
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
	return p.acked + len(p.pending), p.misuse
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
		if n := len(e.outcomes); n > 0 && e.outcomes[n-1].Outcome == r.outcome {
			e.outcomes[n-1].Count++
			continue
		}
		e.outcomes = append(e.outcomes, &pb.OutcomeRun{Count: 1, Outcome: r.outcome})
	}
	return e
}

// acknowledge notes that the coordinator has recorded the outcomes of the first n items of the batch, and reports
// whether that is news. What it says beyond what was reported is not believed.
func (p *progress) acknowledge(n int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := min(int(n)-p.acked, len(p.pending))
	if news <= 0 {
		return false
	}
	for _, r := range p.pending[:news] {
		p.bytes -= r.bytes
	}
	p.acked += news
	p.pending = append([]report(nil), p.pending[news:]...)
	return true
}
