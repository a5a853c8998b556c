package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	version    = 1
	footerSize = 5

	// MaxItems is the largest number of items a frame can hold.
	MaxItems = 1 << 20

	// keepCapacity is how much memory an encoder keeps for the next frame; what one huge item took is given back.
	keepCapacity = 16 << 20
)

// ErrFull is returned by Append when the frame already holds MaxItems items or as many bytes as a frame can.
var ErrFull = errors.New("payload: frame is full")

// compressor is shared by all encoders: EncodeAll is safe for concurrent use and takes its state from a pool. Single
// segments carry their size in the header, however small they are, and Decode relies on it. The window is memory of each
// state, and a larger one makes frames hardly smaller at this level.
var compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithSingleSegment(true), zstd.WithWindowSize(1<<20))
})

// Encoder packs items into a frame. The zero value is ready to use, and after Finish it is ready for the next frame,
// reusing its memory. It is not safe for concurrent use.
type Encoder struct {
	data  []byte
	items []byte // metadata of the items
	count int
	prev  Item // without Data

	files, documents table
}

// Append adds an item. The item's bytes are copied: the caller may reuse them. It fails, changing nothing, when the item's
// number does not exceed that of the item before it, when a position or length is impossible, or with ErrFull.
func (e *Encoder) Append(it Item) error {
	switch {
	case it.Number < 1 || it.Number <= e.prev.Number:
		return fmt.Errorf("payload: append item %d after item %d: numbers must grow", it.Number, e.prev.Number)
	case it.Line < 1 || it.Offset < 0:
		return fmt.Errorf("payload: append item %d: impossible position: line %d, offset %d", it.Number, it.Line, it.Offset)
	case it.Length < int64(len(it.Data)):
		return fmt.Errorf("payload: append item %d: length %d is less than its %d bytes", it.Number, it.Length, len(it.Data))
	case e.count >= MaxItems, e.RawSize()+int64(len(it.Data)) > math.MaxInt32:
		return ErrFull
	}
	file, document := e.files.index(it.File), uint64(0)
	if it.Document != "" {
		document = e.documents.index(it.Document) + 1
	}
	line, offset := it.Line, it.Offset
	if e.count > 0 && it.File == e.prev.File {
		line, offset = line-e.prev.Line, offset-e.prev.Offset
	}
	m := binary.AppendUvarint(e.items, uint64(it.Number-e.prev.Number))
	m = binary.AppendUvarint(m, file)
	m = binary.AppendVarint(m, line)
	m = binary.AppendVarint(m, offset)
	m = binary.AppendUvarint(m, document)
	m = binary.AppendUvarint(m, uint64(len(it.Data)))
	e.items = binary.AppendUvarint(m, uint64(it.Length-int64(len(it.Data))))
	e.data = append(e.data, it.Data...)
	e.count++
	e.prev = it
	e.prev.Data = nil
	return nil
}

// Len returns the number of items appended since the last Finish or Reset.
func (e *Encoder) Len() int { return e.count }

// RawSize returns about how many bytes the frame decompresses to if it is finished now.
func (e *Encoder) RawSize() int64 {
	return int64(len(e.data)) + int64(len(e.items)) + e.files.size + e.documents.size + footerSize
}

// Finish returns the frame, newly allocated, and resets the encoder. A frame of no items is valid.
func (e *Encoder) Finish() ([]byte, error) {
	start := len(e.data)
	raw := binary.AppendUvarint(e.data, uint64(e.count))
	raw = e.files.append(raw)
	raw = e.documents.append(raw)
	raw = append(raw, e.items...)
	raw, frame, err := seal(raw, start, version)
	if err != nil {
		return nil, err
	}
	e.data = raw
	e.Reset()
	return frame, nil
}

// seal appends the footer to raw, whose metadata begins at start, and returns it with the frame.
func seal(raw []byte, start int, version byte) (grown, frame []byte, err error) {
	z, err := compressor()
	if err != nil {
		return raw, nil, fmt.Errorf("payload: start compressor: %w", err)
	}
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(raw)-start))
	raw = append(raw, version)
	return raw, z.EncodeAll(raw, make([]byte, 0, len(raw)/4+64)), nil
}

// Reset drops what has been appended.
func (e *Encoder) Reset() {
	if cap(e.data) > keepCapacity {
		e.data = nil
	}
	e.data, e.items, e.count, e.prev = e.data[:0], e.items[:0], 0, Item{}
	e.files.reset()
	e.documents.reset()
}

// table numbers distinct strings in order of first appearance.
type table struct {
	indexes map[string]uint64
	strings []string
	size    int64
	last    uint64 // index last answered: neighbors are mostly equal
}

func (t *table) index(s string) uint64 {
	if t.last < uint64(len(t.strings)) && t.strings[t.last] == s {
		return t.last
	}
	i, ok := t.indexes[s]
	if !ok {
		if t.indexes == nil {
			t.indexes = make(map[string]uint64)
		}
		i = uint64(len(t.strings))
		t.indexes[s] = i
		t.strings = append(t.strings, s)
		t.size += int64(len(s)) + binary.MaxVarintLen32
	}
	t.last = i
	return i
}

func (t *table) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(t.strings)))
	for _, s := range t.strings {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func (t *table) reset() {
	clear(t.indexes)
	clear(t.strings)
	t.strings, t.size, t.last = t.strings[:0], 0, 0
}
