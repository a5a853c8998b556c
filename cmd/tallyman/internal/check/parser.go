package check

import (
	"runtime"
	"sync"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/ingest"
)

// A stretch is handed to a parser when it has so many items, or bytes of them, so that handing over costs little.
const (
	stretchItems = 64
	stretchBytes = 256 << 10
)

// stretch is a run of items that one parser validates.
type stretch struct {
	items []pending
	data  []byte // of the items, until they are validated
	done  chan struct{}
	taken int // items that were reported
}

// pending is an item that the ingest takes, and then what its worker would find.
type pending struct {
	item        payload.Item
	document    string
	annotations int64 // -1 when it is rejected
	findings    []ingest.Finding
}

// parsers validate the items that go into batches, on all processors, while the ingest reads on. What they found is taken
// in the order of the items.
type parsers struct {
	options annotation.Options
	work    chan *stretch
	running sync.WaitGroup

	mu    sync.Mutex
	queue []*stretch // given out and not yet taken, in order
	open  *stretch   // being filled
}

func startParsers(options annotation.Options) *parsers {
	n := runtime.GOMAXPROCS(0)
	p := &parsers{options: options, work: make(chan *stretch, n)}
	for range n {
		p.running.Go(func() {
			for s := range p.work {
				p.validate(s)
			}
		})
	}
	return p
}

// stop waits for the parsers; nothing may be added any more.
func (p *parsers) stop() {
	close(p.work)
	p.running.Wait()
}

// add has an item validated, whose bytes are the caller's.
func (p *parsers) add(it payload.Item, id ingest.Identity) {
	p.mu.Lock()
	s := p.open
	if s == nil {
		s = &stretch{done: make(chan struct{}), data: make([]byte, 0, max(stretchBytes, len(it.Data)))}
		p.open = s
	}
	s.data = append(s.data, it.Data...)
	s.items = append(s.items, pending{item: it, document: id.Document, annotations: int64(id.Annotations)})
	full := len(s.items) >= stretchItems || len(s.data) >= stretchBytes
	if full {
		p.queue, p.open = append(p.queue, s), nil
	}
	p.mu.Unlock()
	if full {
		p.work <- s
	}
}

// take returns what was found in the items up to a number, in their order.
func (p *parsers) take(upTo int64) []pending {
	var all []pending
	for {
		s := p.first(upTo)
		if s == nil {
			return all
		}
		<-s.done
		from := s.taken
		for s.taken < len(s.items) && s.items[s.taken].item.Number <= upTo {
			s.taken++
		}
		all = append(all, s.items[from:s.taken]...)
		if s.taken < len(s.items) {
			return all
		}
		p.mu.Lock()
		p.queue = p.queue[1:]
		p.mu.Unlock()
	}
}

// first returns the first stretch with an item up to a number; one that is not full is validated here.
func (p *parsers) first(upTo int64) *stretch {
	p.mu.Lock()
	var rest *stretch
	if len(p.queue) == 0 && p.open != nil && p.open.items[0].item.Number <= upTo {
		rest, p.open = p.open, nil
		p.queue = append(p.queue, rest)
	}
	var s *stretch
	if len(p.queue) > 0 && p.queue[0].items[p.queue[0].taken].item.Number <= upTo {
		s = p.queue[0]
	}
	p.mu.Unlock()
	if rest != nil {
		p.validate(rest)
	}
	return s
}

func (p *parsers) validate(s *stretch) {
	data := s.data
	for i := range s.items {
		v := &s.items[i]
		n := len(v.item.Data)
		v.item.Data, data = data[:n:n], data[n:]
		item, findings := p.options.For(v.item.File).Parse(v.item.Data)
		if item == nil {
			v.annotations = -1
		}
		for _, f := range findings {
			v.findings = append(v.findings, found(f, v))
		}
		v.item.Data = nil
	}
	s.data = nil
	close(s.done)
}

// found gives what a worker would find its place.
func found(f annotation.Finding, v *pending) ingest.Finding {
	severity := ingest.SeverityWarning
	if f.Severity == annotation.Error {
		severity = ingest.SeverityError
	}
	it := &v.item
	return ingest.Finding{
		Code: string(f.Code), Severity: severity, File: it.File, Line: it.Line, Item: it.Number, Offset: it.Offset,
		Document: v.document, Path: f.Path, Message: f.Message,
	}
}
