package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tallyman-dev/tallyman/payload"
)

// Identity is what the ingest must know of an item to cut the upload.
type Identity struct {
	Document    string // canonical key; "" where the item has none
	Weight      int    // below 1 counts as 1
	Annotations int    // in the item, for the count of a job
	// Findings are complete but for the place. Any of severity error rejects the item, which is then kept with all of
	// them; those of an item that is not rejected are dropped, since its worker finds them again.
	Findings []Finding
}

// Identify looks at an item, whose Data it must not keep. It bounds the number and the length of what it returns. It is
// called for one item after another, and not for items above the size limit.
type Identify func(payload.Item) Identity

// These are the largest values of settings. Together they keep every frame below what package payload can hold.
const (
	maxItemBytes  = 512 << 20
	maxBatchBytes = 512 << 20
	maxFlushBytes = 256 << 20
)

// Config configures Run. Zero values mean the defaults.
type Config struct {
	Reader ReaderConfig
	Cut    CutConfig
	// Identify looks at each item; nil takes each as valid, without document, of weight 1.
	Identify Identify
	// Unpacked leaves out the frames of batches and of rejected items, for a sink that wants to know only how the upload is
	// cut.
	Unpacked bool
	// FlushInterval is how long a closed batch or a rejected item waits for others to be committed with it; default 100 ms.
	FlushInterval time.Duration
	// FlushBytes is how many raw bytes are committed at once, more or less; default 4 MiB.
	FlushBytes int64
}

// Validate reports the first setting that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.FlushInterval < 0:
		return fmt.Errorf("flush interval is %v, must not be negative", c.FlushInterval)
	case c.FlushBytes < 0:
		return fmt.Errorf("flush bytes are %d, must not be negative", c.FlushBytes)
	case c.FlushBytes > maxFlushBytes:
		return fmt.Errorf("flush bytes are %d, must be at most %d", c.FlushBytes, maxFlushBytes)
	}
	return errors.Join(c.Reader.Validate(), c.Cut.Validate())
}

func (c Config) withDefaults() Config {
	c.Reader, c.Cut = c.Reader.withDefaults(), c.Cut.withDefaults()
	if c.FlushInterval == 0 {
		c.FlushInterval = 100 * time.Millisecond
	}
	if c.FlushBytes == 0 {
		c.FlushBytes = 4 << 20
	}
	if c.Identify == nil {
		c.Identify = func(payload.Item) Identity { return Identity{} }
	}
	return c
}

// Summary is what a Run read, which after a resume is not the whole upload.
type Summary struct {
	Items    int64 // in batches and rejected
	Rejected int64
	Batches  int64
	Bytes    int64 // raw bytes of the items in batches
	Received int64 // bytes read from the source
	// Stopped says why the file could not be read to its end; nil when it was.
	Stopped *FormatError
}

// Run reads an upload to its end, cuts it, and hands it to the sink in groups, the last of which is marked and may be
// empty. What is closed is committed within the flush interval, also while src blocks; the open batch waits for the items
// that belong to it.
//
// What is wrong with items or with the file is no error of Run: it ends as findings in the groups. Errors are those of
// the config, the context, src (everything closed before has been committed, so that the upload can resume), the sink, and
// ErrUploadChanged. The summary counts what was committed, also beside an error.
//
// Run closes src, also to end a Read that blocks when the context or the sink fails, and has no goroutines left when it
// returns.
func Run(ctx context.Context, src io.ReadCloser, config Config, sink Sink) (Summary, error) {
	if err := config.Validate(); err != nil {
		return Summary{}, errors.Join(fmt.Errorf("ingest: %w", err), src.Close())
	}
	config = config.withDefaults()
	reader, err := NewReader(src, config.Reader)
	if err != nil {
		return Summary{}, errors.Join(fmt.Errorf("ingest: %w", err), src.Close())
	}
	reading, stop := context.WithCancel(ctx)
	closed := make(chan struct{})
	context.AfterFunc(reading, func() {
		defer close(closed)
		src.Close() // whatever it answers: nothing more is wanted of it
	})
	c := &cutting{
		reader:   reader,
		cutter:   NewCutter(config.Cut),
		identify: config.Identify,
		config:   config,
		pieces:   make(chan piece, 1),
	}
	if !config.Unpacked {
		c.packer.packing = newPacking()
	}
	go func() {
		defer close(c.pieces)
		c.err = c.run(reading)
	}()
	g := &grouping{config: config, idle: make(chan struct{}, 1), groups: make(chan *Group, 1)}
	go func() {
		defer close(g.groups)
		g.err = g.run(reading, c)
	}()
	summary, err := g.commit(ctx, sink)
	// Whatever runs still ends, each with what it takes from.
	stop()
	for range g.groups {
	}
	for range c.pieces {
	}
	if c.packer.packing != nil {
		c.packer.packing.close()
	}
	<-closed
	if err == nil {
		err = g.err
	} else if g.source != nil {
		err = errors.Join(g.source, err)
	}
	summary.Received, summary.Stopped = reader.Received(), g.format
	if err = errors.Join(err, reader.Close()); err != nil {
		return summary, fmt.Errorf("ingest: %w", err)
	}
	return summary, nil
}
