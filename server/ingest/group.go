package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/payload"
)

// Rejected is an item that enters no batch.
type Rejected struct {
	Item     payload.Item // without Data, which is in the group's RejectedFrame
	Findings []Finding    // complete, at least one error among them
}

// Group is what a Sink commits at once: everything between the position before it and its own.
type Group struct {
	Batches       []Batch    // in order of the upload
	Rejected      []Rejected // in order of the upload
	RejectedFrame []byte     // the rejected items, as package payload packs them; nil without any
	Findings      []Finding  // about the file; only in the last group
	Position      Position   // from which a resumed upload goes on once the group is committed
	Items         int64      // in batches and rejected
	Last          bool       // nothing follows: the upload was read to its end, or to where it cannot be read further
}

// Sink takes what an upload was made into.
type Sink interface {
	// Commit makes the group and its position durable, both or neither. It may block; Run reads ahead meanwhile, not more
	// than the next group and the batches that are being packed. An error ends the Run. The group is the sink's.
	Commit(context.Context, *Group) error
}

// Whatever their size, no more than these are committed at once.
const (
	groupBatches  = 64
	groupRejected = 1000
	groupFindings = 4000
)

// grouping collects pieces into groups, in a goroutine of its own: while one is committed, the next. How it ended may be
// read once groups is closed.
type grouping struct {
	config   Config
	group    Group
	rejected payload.Encoder
	bytes    int64
	findings int

	idle   chan struct{} // one for each time that nothing is being committed
	groups chan *Group   // one for each of these; nobody waits to send
	err    error
	source error        // the cutting's error, once everything before it has been given
	format *FormatError // why the file could not be read to its end
}

// run makes groups of what the cutting gives, until it ends.
func (g *grouping) run(ctx context.Context, c *cutting) error {
	timer := time.NewTimer(g.config.FlushInterval)
	defer timer.Stop()
	idle, due := false, false
	for {
		pieces := c.pieces
		if g.full() {
			pieces = nil // until what is being committed is
		}
		select {
		case p, ok := <-pieces:
			if !ok {
				return g.end(ctx, c, idle)
			}
			if g.group.Items == 0 {
				timer.Reset(g.config.FlushInterval)
				due = false
			}
			if err := g.add(p); err != nil {
				return err
			}
		case <-g.idle:
			idle = true
		case <-timer.C:
			due = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if idle && g.group.Items > 0 && (due || g.full()) {
			if err := g.give(); err != nil {
				return err
			}
			idle, due = false, false
		}
	}
}

// end gives what is left when the cutting has ended.
func (g *grouping) end(ctx context.Context, c *cutting, idle bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // the cutting's error only says that src was closed
	}
	whole := c.err == nil || errors.As(c.err, &g.format)
	if whole {
		if g.format != nil {
			g.group.Findings = []Finding{g.format.Finding()}
		}
		position, err := c.reader.Position()
		if err != nil {
			return err
		}
		g.group.Position, g.group.Last = position, true
	}
	if g.group.Items > 0 || g.group.Last {
		if !idle {
			select {
			case <-g.idle:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := g.give(); err != nil {
			return errors.Join(c.err, err)
		}
	}
	if !whole {
		g.source = c.err
	}
	return g.source
}

func (g *grouping) add(p piece) error {
	for _, r := range p.rejected {
		if !g.config.Unpacked {
			if err := g.rejected.Append(r.Item); err != nil {
				return fmt.Errorf("keep rejected item: %w", err)
			}
		}
		g.bytes += int64(len(r.Item.Data))
		g.findings += len(r.Findings)
		r.Item.Data = nil
		g.group.Rejected = append(g.group.Rejected, r)
	}
	g.group.Items += int64(len(p.rejected))
	if p.batch.Items > 0 {
		if p.frame != nil {
			data, err := p.frame.wait()
			if err != nil {
				return err
			}
			p.batch.Frame = data
		}
		g.group.Batches = append(g.group.Batches, p.batch)
		g.group.Items += int64(p.batch.Items)
		g.bytes += p.batch.Bytes
	}
	g.group.Position = p.position
	return nil
}

func (g *grouping) full() bool {
	return g.bytes >= g.config.FlushBytes || len(g.group.Batches) >= groupBatches ||
		len(g.group.Rejected) >= groupRejected || g.findings >= groupFindings
}

// commit commits groups until there are no more, and returns what it committed.
func (g *grouping) commit(ctx context.Context, sink Sink) (sum Summary, err error) {
	for {
		g.idle <- struct{}{}
		group, ok := <-g.groups
		if !ok {
			return sum, nil
		}
		if ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		// Counted before the sink may change the group, kept only when it has taken it.
		after := sum
		after.Items += group.Items
		after.Rejected += int64(len(group.Rejected))
		after.Batches += int64(len(group.Batches))
		for _, b := range group.Batches {
			after.Bytes += b.Bytes
		}
		if err := sink.Commit(ctx, group); err != nil {
			return sum, fmt.Errorf("commit group: %w", err)
		}
		sum = after
	}
}

// give hands the group over to be committed, and begins the next.
func (g *grouping) give() error {
	group := g.group
	if g.rejected.Len() > 0 {
		frame, err := g.rejected.Finish()
		if err != nil {
			return fmt.Errorf("pack rejected items: %w", err)
		}
		group.RejectedFrame = frame
	}
	g.group, g.bytes, g.findings = Group{}, 0, 0
	g.groups <- &group
	return nil
}
