package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// piece is what becomes final at once: a batch with the items rejected within it, or a rejected item between batches.
type piece struct {
	batch    Batch  // none when it has no items; without its frame
	frame    *frame // of the batch, nil when none is wanted
	rejected []Rejected
	position Position // after it; its Hash is its own
}

// cutting reads items and makes pieces of them, in a goroutine of its own. Its err may be read once pieces is closed.
type cutting struct {
	reader   *Reader
	cutter   *Cutter
	identify Identify
	config   Config
	pieces   chan piece
	err      error

	packer   packer
	position Position // after the last item
	// The items rejected since the open batch began wait for it: committed before it, they would be read, and rejected,
	// again when the upload resumes at its beginning.
	held      []Rejected
	heldBytes int64
}

// run reads to the end of the file and closes the last batch, also when the end is a FormatError.
func (c *cutting) run(ctx context.Context) error {
	for {
		it, err := c.reader.Next()
		if err == nil {
			if err = c.take(ctx, it); err != nil {
				return err
			}
			if err = c.reader.position(&c.position); err != nil {
				return err
			}
			if err = c.settle(ctx); err != nil {
				return err
			}
			continue
		}
		var format *FormatError
		if !atEnd(err) && !errors.As(err, &format) {
			return err
		}
		if err := c.close(ctx); err != nil {
			return err
		}
		if format != nil {
			return format
		}
		return nil
	}
}

// take puts the item into a batch or among the rejected, and closes the open batch if it must be cut before it.
func (c *cutting) take(ctx context.Context, read Item) error {
	it := read.Item
	var id Identity
	if read.Refusal != nil {
		id.Findings = []Finding{*read.Refusal}
	} else if it.Truncated() {
		id.Findings = []Finding{{Code: CodeItemTooLarge, Severity: SeverityError,
			Message: fmt.Sprintf("the item has %d bytes, the limit %s is %d; its first %d are kept",
				it.Length, SettingMaxItem, c.config.Reader.MaxItem, len(it.Data))}}
	} else {
		id = c.identify(it)
	}
	it.Document = id.Document
	if slices.ContainsFunc(id.Findings, func(f Finding) bool { return f.Severity == SeverityError }) {
		for i := range id.Findings {
			f := &id.Findings[i]
			f.File, f.Line, f.Item, f.Offset, f.Document = it.File, it.Line, it.Number, it.Offset, it.Document
		}
		it.Data = slices.Clone(it.Data)
		c.held = append(c.held, Rejected{Item: it, Findings: id.Findings})
		c.heldBytes += int64(len(it.Data))
		return nil
	}
	if c.cutter.Add(id.Document, id.Weight, int64(len(it.Data))) {
		if err := c.close(ctx); err != nil {
			return err
		}
	}
	return c.packer.add(ctx, it, id)
}

// settle lets go of rejected items that need not wait for a batch, or cannot: so many within one batch close it, which
// keeps memory bounded. It depends on the content alone, like every cut.
func (c *cutting) settle(ctx context.Context) error {
	if len(c.held) == 0 {
		return nil
	}
	full := c.config.Cut
	if c.packer.open() && len(c.held) < full.Items && c.heldBytes < full.Bytes {
		return nil
	}
	c.cutter.Close()
	return c.close(ctx)
}

// close ends the open batch, at the position after the last item, and sends it with the rejected items held.
func (c *cutting) close(ctx context.Context) error {
	p := piece{rejected: c.held, position: c.position}
	if c.packer.open() {
		p.batch, p.frame = c.packer.finish()
	} else if len(p.rejected) == 0 {
		return nil
	}
	p.position.Hash = slices.Clone(p.position.Hash)
	c.held, c.heldBytes = nil, 0
	select {
	case c.pieces <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
