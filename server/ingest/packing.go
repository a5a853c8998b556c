package ingest

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/tallyman-dev/tallyman/payload"
)

const (
	// maxPackers is how many batches of one upload are packed at a time at most, where there are as many processors.
	maxPackers = 4

	// packAtOnce is from how many bytes on a batch is packed where it was cut: no second one of its size is in memory.
	packAtOnce = 12 << 20
)

// packing packs batches in goroutines of its own, several at a time. It holds as many encoders as batches may be in
// memory unpacked: the one that is open, and one for each packer.
type packing struct {
	free  chan *payload.Encoder
	work  chan *frame
	ended sync.WaitGroup
}

// frame is a batch's frame, which may still be in the making.
type frame struct {
	encoder *payload.Encoder // until it is done
	done    chan struct{}
	data    []byte
	err     error
}

// wait returns the frame once it is made. That takes as long as compressing does, and does not depend on others.
func (f *frame) wait() ([]byte, error) {
	<-f.done
	return f.data, f.err
}

// newPacking leaves a processor to the reading and committing, which together take as long as packing does.
func newPacking() *packing {
	packers := min(max(runtime.GOMAXPROCS(0)-1, 1), maxPackers)
	p := &packing{
		free: make(chan *payload.Encoder, packers+1),
		work: make(chan *frame, packers+1), // nobody ever waits for room
	}
	for range cap(p.free) {
		p.free <- new(payload.Encoder)
	}
	for range packers {
		p.ended.Go(func() {
			for f := range p.work {
				p.pack(f)
			}
		})
	}
	return p
}

// encoder returns an encoder for the next batch, when there is one.
func (p *packing) encoder(ctx context.Context) (*payload.Encoder, error) {
	select {
	case e := <-p.free:
		return e, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// start begins to pack what is in an encoder, which is not the caller's any more.
func (p *packing) start(e *payload.Encoder) *frame {
	f := &frame{encoder: e, done: make(chan struct{})}
	if e.RawSize() >= packAtOnce {
		p.pack(f)
	} else {
		p.work <- f
	}
	return f
}

func (p *packing) pack(f *frame) {
	if f.data, f.err = f.encoder.Finish(); f.err != nil {
		f.encoder.Reset()
		f.err = fmt.Errorf("pack batch: %w", f.err)
	}
	p.free <- f.encoder
	f.encoder = nil
	close(f.done)
}

// close waits until all that was begun is done. Nothing may be begun any more.
func (p *packing) close() {
	close(p.work)
	p.ended.Wait()
}
