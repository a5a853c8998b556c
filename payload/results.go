package payload

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Result is what a handler made of an item of a batch, or of several that follow each other, together.
type Result struct {
	Position int32  // in the batch, from 0, of the first of them
	Items    int32  // how many they are, at least 1
	Value    []byte // JSON
}

const (
	resultsVersion    = 128 + 1 // so that neither kind of frame is taken for the other
	minResultMetadata = 3       // in bytes: three varints
)

// EncodeResults packs results, none of which may be about an item of the one before it or an earlier one, into a frame. It
// copies their values. ErrFull.
func EncodeResults(results []Result) ([]byte, error) {
	size, next := 0, int32(0)
	for _, r := range results {
		if r.Position < next || r.Items < 1 || r.Position > math.MaxInt32-r.Items {
			return nil, fmt.Errorf("payload: result of %d items at position %d where the next free one is %d", r.Items, r.Position, next)
		}
		next = r.Position + r.Items
		size += len(r.Value) + minResultMetadata
	}
	raw := make([]byte, 0, size+size/8+footerSize)
	for _, r := range results {
		raw = append(raw, r.Value...)
	}
	values := len(raw)
	raw = binary.AppendUvarint(raw, uint64(len(results)))
	next = 0
	for _, r := range results {
		raw = binary.AppendUvarint(raw, uint64(r.Position-next))
		raw = binary.AppendUvarint(raw, uint64(r.Items-1))
		raw = binary.AppendUvarint(raw, uint64(len(r.Value)))
		next = r.Position + r.Items
	}
	if len(results) > MaxItems || len(raw)+footerSize > math.MaxInt32 {
		return nil, ErrFull
	}
	_, frame, err := seal(raw, values, resultsVersion)
	return frame, err
}

// DecodeResults returns the results of a frame, by position. Its errors are those of Decode.
func DecodeResults(frame []byte, limit int64) ([]Result, error) {
	raw, err := decompress(frame, limit)
	if err != nil {
		return nil, err
	}
	data, m, err := unframe(raw, resultsVersion)
	if err != nil {
		return nil, err
	}
	results := make([]Result, m.count(minResultMetadata))
	next := int64(0)
	for i := range results {
		position := m.sum(next, m.length())
		next = m.sum(position, m.sum(m.length(), 1))
		n := m.length()
		if m.bad || next > math.MaxInt32 || n > int64(len(data)) {
			return nil, fmt.Errorf("%w: bad metadata of result %d", ErrCorrupt, i)
		}
		results[i] = Result{Position: int32(position), Items: int32(next - position), Value: data[:n:n]}
		data = data[n:]
	}
	if m.bad || len(m.rest) > 0 || len(data) > 0 {
		return nil, fmt.Errorf("%w: %d bytes left over", ErrCorrupt, len(m.rest)+len(data))
	}
	return results, nil
}
