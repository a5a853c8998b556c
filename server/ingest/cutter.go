package ingest

import (
	"fmt"

	"github.com/tallyman-dev/tallyman/payload"
)

// CutConfig says when a batch is full. The zero value means the defaults.
type CutConfig struct {
	Weight int   // a batch that has reached it closes before the next document; default 500
	Bytes  int64 // raw bytes of its items, exceeded only by an item that is larger alone; default 8 MiB
	Items  int   // default 1,000
}

// Validate reports the first setting that makes no sense.
func (c CutConfig) Validate() error {
	switch {
	case c.Weight < 0:
		return fmt.Errorf("batch_weight is %d, must not be negative", c.Weight)
	case c.Bytes < 0:
		return fmt.Errorf("batch_bytes is %d, must not be negative", c.Bytes)
	case c.Items < 0:
		return fmt.Errorf("batch_items is %d, must not be negative", c.Items)
	case c.Bytes > maxBatchBytes:
		return fmt.Errorf("batch_bytes is %d, must be at most %d", c.Bytes, maxBatchBytes)
	case c.Items > payload.MaxItems:
		return fmt.Errorf("batch_items is %d, must be at most %d", c.Items, payload.MaxItems)
	}
	return nil
}

func (c CutConfig) withDefaults() CutConfig {
	if c.Weight == 0 {
		c.Weight = 500
	}
	if c.Bytes == 0 {
		c.Bytes = 8 << 20
	}
	if c.Items == 0 {
		c.Items = 1000
	}
	return c
}

// Cutter decides where an upload is cut into batches. Neighbors of one document stay together: a batch that has reached
// its weight closes only when the document changes, so it normally overshoots a little. The bounds on bytes and items
// close it anywhere. Rejected items take no part.
//
// A new Cutter continues at any batch boundary exactly as the one that came to it: what it remembers, including the
// previous document, concerns the open batch only.
//
// It is not safe for concurrent use.
type Cutter struct {
	full     CutConfig
	weight   int
	bytes    int64
	items    int
	document string // of the last item; meaningful while items > 0
}

// NewCutter returns a Cutter without an open batch.
func NewCutter(c CutConfig) *Cutter { return &Cutter{full: c.withDefaults()} }

// Add counts an item in and reports whether the open batch must be closed before it, so that the item is the first of
// the next one. An item without document ("") differs from every other. A weight below 1 counts as 1.
func (c *Cutter) Add(document string, weight int, size int64) (cut bool) {
	differs := document == "" || document != c.document
	cut = c.items > 0 &&
		(c.weight >= c.full.Weight && differs || c.items >= c.full.Items || c.bytes+size > c.full.Bytes)
	if cut {
		c.Close()
	}
	c.weight += max(weight, 1)
	c.bytes += size
	c.items++
	c.document = document
	return cut
}

// Close ends the open batch, so that the next item begins another.
func (c *Cutter) Close() { c.weight, c.bytes, c.items, c.document = 0, 0, 0, "" }
