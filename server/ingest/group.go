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
	// Commit makes the group and its position durable, both or neither. It may block; Run reads ahead meanwhile, and not
	// more than a group. An error ends the Run. The group is the sink's.
	Commit(context.Context, *Group) error
}

// Whatever their size, no more than these are committed at once.
const (
	groupBatches  = 64
	groupRejected = 1000
	groupFindings = 4000
)

// grouping collects pieces into groups.
type grouping struct {
	config   Config
	sink     Sink
	group    Group
	rejected payload.Encoder
	bytes    int64
	findings int
	summary  Summary
}

// run commits what the cutting gives, until it ends.
func (g *grouping) run(ctx context.Context, c *cutting) error {
	timer := time.NewTimer(g.config.FlushInterval)
	defer timer.Stop()
	for {
		select {
		case p, ok := <-c.pieces:
			if !ok {
				return g.end(ctx, c)
			}
			if g.group.Items == 0 {
				timer.Reset(g.config.FlushInterval)
			}
			if err := g.add(p); err != nil {
				return err
			}
			if !g.full() {
				continue
			}
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := g.commit(ctx); err != nil {
			return err
		}
	}
}

// end commits what is left when the cutting has ended.
func (g *grouping) end(ctx context.Context, c *cutting) error {
	var format *FormatError
	if c.err != nil && !errors.As(c.err, &format) {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx) // c.err only says that src was closed
		}
		return errors.Join(c.err, g.commit(ctx))
	}
	if format != nil {
		g.group.Findings = []Finding{format.Finding()}
		g.summary.Stopped = format
	}
	position, err := c.reader.Position()
	if err != nil {
		return err
	}
	g.group.Position, g.group.Last = position, true
	return g.commit(ctx)
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

func (g *grouping) commit(ctx context.Context) error {
	if g.group.Items == 0 && !g.group.Last {
		return nil
	}
	group := g.group
	if g.rejected.Len() > 0 {
		frame, err := g.rejected.Finish()
		if err != nil {
			return fmt.Errorf("pack rejected items: %w", err)
		}
		group.RejectedFrame = frame
	}
	g.group, g.bytes, g.findings = Group{}, 0, 0
	// Counted before the sink may change the group, kept only when it has taken it.
	sum := g.summary
	sum.Items += group.Items
	sum.Rejected += int64(len(group.Rejected))
	sum.Batches += int64(len(group.Batches))
	for _, b := range group.Batches {
		sum.Bytes += b.Bytes
	}
	if err := g.sink.Commit(ctx, &group); err != nil {
		return fmt.Errorf("commit group: %w", err)
	}
	g.summary = sum
	return nil
}
