package ingest

import (
	"context"
	"fmt"

	"github.com/tallyman-dev/tallyman/payload"
)

// Batch is a run of items for one worker.
type Batch struct {
	FirstItem   int64    // number of the first item in the upload
	LastItem    int64    // numbers between them may be missing: rejected items
	Items       int      // at least 1
	Weight      int      // at least Items
	Annotations int      // in the items
	Bytes       int64    // raw bytes of the items
	Documents   []string // distinct, in order of first appearance
	Frame       []byte   // the items, as package payload packs them
}

// packer collects the items of the open batch.
type packer struct {
	packing *packing // nil when no frames are wanted
	encoder *payload.Encoder
	batch   Batch
	seen    map[string]struct{}
}

func (p *packer) add(ctx context.Context, it payload.Item, id Identity) error {
	if p.packing != nil {
		if p.encoder == nil {
			e, err := p.packing.encoder(ctx)
			if err != nil {
				return err
			}
			p.encoder = e
		}
		if err := p.encoder.Append(it); err != nil {
			return fmt.Errorf("add item to batch: %w", err)
		}
	}
	b := &p.batch
	if b.Items == 0 {
		b.FirstItem = it.Number
	}
	b.LastItem = it.Number
	b.Items++
	b.Weight += max(id.Weight, 1)
	b.Annotations += id.Annotations
	b.Bytes += int64(len(it.Data))
	if it.Document == "" || len(b.Documents) > 0 && b.Documents[len(b.Documents)-1] == it.Document {
		return nil
	}
	if _, ok := p.seen[it.Document]; !ok {
		if p.seen == nil {
			p.seen = make(map[string]struct{})
		}
		p.seen[it.Document] = struct{}{}
		b.Documents = append(b.Documents, it.Document)
	}
	return nil
}

func (p *packer) open() bool { return p.batch.Items > 0 }

// finish returns the batch and its frame, unless none is wanted, and begins the next.
func (p *packer) finish() (Batch, *frame) {
	b := p.batch
	var f *frame
	if p.packing != nil {
		f = p.packing.start(p.encoder)
		p.encoder = nil
	}
	p.batch = Batch{}
	clear(p.seen)
	return b, f
}
