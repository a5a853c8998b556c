package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// LimitSetting is the name of the setting that bounds what a frame may decompress to.
	LimitSetting = "max-payload-bytes"

	// DefaultLimit is the bound, in bytes, that a limit of 0 stands for: four items of the default largest size.
	DefaultLimit = 256 << 20

	// A zstd block takes at least 4 bytes and gives at most 128 KiB. A header that claims more lies, and is refused before
	// memory is taken for it.
	minBlock = 4
	maxBlock = 128 << 10

	minItemMetadata = 7 // in bytes: seven varints
)

var (
	// ErrCorrupt is wrapped by the errors of Decode and DecodeRange about bytes that are not a frame.
	ErrCorrupt = errors.New("payload: corrupt frame")
	// ErrNoSuchItems is wrapped by the error of DecodeRange when the frame does not hold the range.
	ErrNoSuchItems = errors.New("payload: items not in frame")
)

// LimitError says that a frame decompresses to more than the caller allows. Nothing was decompressed.
type LimitError struct {
	Size  uint64 // in bytes, as the frame's header claims
	Limit int64  // in bytes
}

// Error names the setting that would have to be raised.
func (e *LimitError) Error() string {
	return fmt.Sprintf("payload: frame decompresses to %d bytes, the limit %s is %d", e.Size, LimitSetting, e.Limit)
}

// decompressor is shared: DecodeAll is safe for concurrent use and takes its state from a pool.
var decompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(math.MaxInt32))
})

// Decode returns the items of a frame. It refuses with a LimitError a frame that decompresses to more than limit bytes
// (0 means DefaultLimit), and anything that Encoder would not have written with an error that wraps ErrCorrupt. The items'
// bytes share one piece of memory, which is the caller's.
func Decode(frame []byte, limit int64) ([]Item, error) {
	raw, err := decompress(frame, limit)
	if err != nil {
		return nil, err
	}
	return parse(raw)
}

// DecodeRange returns count items of a frame beginning with the one numbered first, as a child of a split refers to them
// in its ancestor's frame. When the frame does not hold that item, or not that many from there on, the error wraps
// ErrNoSuchItems; other errors are those of Decode. The items do not keep the rest of the frame in memory.
func DecodeRange(frame []byte, first int64, count int, limit int64) ([]Item, error) {
	items, err := Decode(frame, limit)
	if err != nil {
		return nil, err
	}
	all := len(items)
	if items, err = Range(items, first, count); err != nil || count == all {
		return items, err
	}
	items = slices.Clone(items)
	size := 0
	for _, it := range items {
		size += len(it.Data)
	}
	data := make([]byte, 0, size)
	for i := range items {
		n := len(data)
		data = append(data, items[i].Data...)
		items[i].Data = data[n:len(data):len(data)]
	}
	return items, nil
}

// Range returns count of the items of a frame beginning with the one numbered first. When they are not among them, the
// error wraps ErrNoSuchItems.
func Range(items []Item, first int64, count int) ([]Item, error) {
	i := sort.Search(len(items), func(i int) bool { return items[i].Number >= first })
	if count < 0 || i == len(items) || items[i].Number != first || count > len(items)-i {
		return nil, fmt.Errorf("%w: %d from item %d on", ErrNoSuchItems, count, first)
	}
	return items[i : i+count : i+count], nil
}

func decompress(frame []byte, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	z, err := decompressor()
	if err != nil {
		return nil, fmt.Errorf("payload: start decompressor: %w", err)
	}
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, fmt.Errorf("%w: read header: %w", ErrCorrupt, err)
	}
	if h.Skippable || !h.HasFCS {
		return nil, fmt.Errorf("%w: header without size", ErrCorrupt)
	}
	size := h.FrameContentSize
	if size > uint64(limit) {
		return nil, &LimitError{Size: size, Limit: limit}
	}
	if size/maxBlock > uint64(len(frame)/minBlock) || size < footerSize || size > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes cannot hold %d", ErrCorrupt, len(frame), size)
	}
	raw, err := z.DecodeAll(frame, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%w: decompress: %w", ErrCorrupt, err)
	}
	if uint64(len(raw)) != size {
		return nil, fmt.Errorf("%w: %d bytes where the header says %d", ErrCorrupt, len(raw), size)
	}
	return raw, nil
}

// unframe returns the data and the metadata of what a frame of some version decompresses to.
func unframe(raw []byte, version byte) ([]byte, metadata, error) {
	if raw[len(raw)-1] != version {
		return nil, metadata{}, fmt.Errorf("%w: unknown version %d", ErrCorrupt, raw[len(raw)-1])
	}
	body, footer := raw[:len(raw)-footerSize], raw[len(raw)-footerSize:]
	size := int64(binary.LittleEndian.Uint32(footer))
	if size > int64(len(body)) {
		return nil, metadata{}, fmt.Errorf("%w: metadata of %d bytes in %d", ErrCorrupt, size, len(body))
	}
	data := body[:int64(len(body))-size]
	return data, metadata{rest: body[len(data):]}, nil
}

func parse(raw []byte) ([]Item, error) {
	data, m, err := unframe(raw, version)
	if err != nil {
		return nil, err
	}
	count := m.count(minItemMetadata)
	files, documents := m.table(), m.table()
	if m.bad {
		return nil, fmt.Errorf("%w: bad tables", ErrCorrupt)
	}
	items := make([]Item, count)
	var prev Item
	for i := range items {
		it := &items[i]
		it.Number = m.sum(prev.Number, m.length())
		if f := m.length(); f < int64(len(files)) {
			it.File = files[f]
		} else {
			m.bad = true
		}
		if i > 0 && it.File == prev.File {
			it.Line, it.Offset = prev.Line, prev.Offset
		}
		it.Line = m.sum(it.Line, m.varint())
		it.Offset = m.sum(it.Offset, m.varint())
		if d := m.length(); d > int64(len(documents)) {
			m.bad = true
		} else if d > 0 {
			it.Document = documents[d-1]
		}
		n := m.length()
		it.Length = m.sum(n, m.length())
		if m.bad || it.Number <= prev.Number || it.Line < 1 || n > int64(len(data)) {
			return nil, fmt.Errorf("%w: bad metadata of entry %d", ErrCorrupt, i)
		}
		it.Data, data = data[:n:n], data[n:]
		prev = *it
	}
	if len(m.rest) > 0 || len(data) > 0 {
		return nil, fmt.Errorf("%w: %d bytes left over", ErrCorrupt, len(m.rest)+len(data))
	}
	return items, nil
}

// metadata reads varints until the first that is impossible, from which on bad is set and every value is 0.
type metadata struct {
	rest []byte
	bad  bool
}

func (m *metadata) varint() int64 {
	v, n := binary.Varint(m.rest)
	return m.took(v, n)
}

// length reads a number that cannot be negative.
func (m *metadata) length() int64 {
	v, n := binary.Uvarint(m.rest)
	if v > math.MaxInt64 {
		n = 0
	}
	return m.took(int64(v), n)
}

func (m *metadata) took(v int64, n int) int64 {
	if n <= 0 || m.bad {
		m.bad = true
		return 0
	}
	m.rest = m.rest[n:]
	return v
}

// count reads the number of entries that follow, each of at least size bytes.
func (m *metadata) count(size int) int64 {
	n := m.length()
	if n > int64(len(m.rest)/size) || n > MaxItems {
		m.bad = true
		return 0
	}
	return n
}

func (m *metadata) table() []string {
	t := make([]string, m.count(1))
	for i := range t {
		n := m.length()
		if n > int64(len(m.rest)) {
			m.bad = true
			return nil
		}
		t[i] = string(m.rest[:n])
		m.rest = m.rest[n:]
	}
	return t
}

// sum adds and marks results below 0 or beyond an int64.
func (m *metadata) sum(a, b int64) int64 {
	if s := a + b; a >= 0 && s >= 0 && (b < 0 || s >= a) {
		return s
	}
	m.bad = true
	return 0
}
