package payload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

func encode(t testing.TB, items []Item) []byte {
	t.Helper()
	var e Encoder
	for _, it := range items {
		if err := e.Append(it); err != nil {
			t.Fatal(err)
		}
	}
	frame, err := e.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// compress makes a frame of arbitrary content, as an attacker would.
func compress(t testing.TB, raw []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(raw, nil)
}

func drawItems(t *rapid.T) []Item {
	files := []string{"a.jsonl", "b.tgz!dir/x.json", ""}
	documents := []string{"", "PMC:1", "PubMed:2"}
	items := make([]Item, rapid.IntRange(0, 50).Draw(t, "items"))
	number := int64(0)
	for i := range items {
		number += rapid.Int64Range(1, math.MaxInt64/100).Draw(t, "step")
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		items[i] = Item{
			Number:   number,
			File:     rapid.SampledFrom(files).Draw(t, "file"),
			Line:     rapid.Int64Range(1, math.MaxInt64).Draw(t, "line"),
			Offset:   rapid.Int64Range(0, math.MaxInt64).Draw(t, "offset"),
			Document: rapid.SampledFrom(documents).Draw(t, "document"),
			Data:     data,
			Length:   int64(len(data)) + rapid.SampledFrom([]int64{0, 1, math.MaxInt32}).Draw(t, "cut off"),
		}
	}
	return items
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var e Encoder
		for range 2 { // an encoder is reused
			want := drawItems(rt)
			for _, it := range want {
				if err := e.Append(it); err != nil {
					rt.Fatal(err)
				}
			}
			frame, err := e.Finish()
			if err != nil {
				rt.Fatal(err)
			}
			got, err := Decode(frame, 0)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				rt.Fatalf("items changed on their way (-want +got):\n%s", diff)
			}
			if len(want) == 0 {
				continue
			}
			from := rapid.IntRange(0, len(want)-1).Draw(rt, "from")
			to := rapid.IntRange(from, len(want)).Draw(rt, "to")
			got, err = DecodeRange(frame, want[from].Number, to-from, 0)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(want[from:to], got, cmpopts.EquateEmpty()); diff != "" {
				rt.Fatalf("range changed (-want +got):\n%s", diff)
			}
		}
	})
}

func TestDecodeRangeOutside(t *testing.T) {
	t.Parallel()
	frame := encode(t, []Item{{Number: 3, Line: 1}, {Number: 5, Line: 2}})
	for _, r := range []struct {
		first int64
		count int
	}{{4, 1}, {3, 3}, {5, 2}, {6, 1}, {6, 0}, {0, 1}, {3, -1}} {
		if items, err := DecodeRange(frame, r.first, r.count, 0); !errors.Is(err, ErrNoSuchItems) {
			t.Errorf("range of %d from %d on: got %v, %v, want ErrNoSuchItems", r.count, r.first, items, err)
		}
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("a"), 1<<20)
	frame := encode(t, []Item{{Number: 1, Line: 1, Data: data, Length: 1 << 20}})
	_, err := Decode(frame, 1<<20)
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != 1<<20 || !strings.Contains(err.Error(), LimitSetting) {
		t.Fatalf("a frame above the limit: got %v, want a LimitError naming %s", err, LimitSetting)
	}
	if _, err := Decode(frame, 1<<20+100); err != nil {
		t.Fatalf("a frame below the limit: %v", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]Item{
		"number repeated":    {Number: 7, Line: 1},
		"number zero":        {Number: 0, Line: 1},
		"no line":            {Number: 8},
		"negative offset":    {Number: 8, Line: 1, Offset: -1},
		"length below bytes": {Number: 8, Line: 1, Data: []byte("ab"), Length: 1},
	}
	for name, it := range tests {
		var e Encoder
		if err := e.Append(Item{Number: 7, Line: 1}); err != nil {
			t.Fatal(err)
		}
		if err := e.Append(it); err == nil {
			t.Errorf("%s: appended", name)
		}
		if e.Len() != 1 {
			t.Errorf("%s: the encoder holds %d items, want 1", name, e.Len())
		}
	}
}

// content builds what a frame decompresses to, so that each field can be made wrong alone.
func content(data string, meta ...any) []byte {
	var m []byte
	for _, v := range meta {
		switch v := v.(type) {
		case int:
			m = binary.AppendUvarint(m, uint64(v))
		case uint64:
			m = binary.AppendUvarint(m, v)
		case string:
			m = binary.AppendUvarint(m, uint64(len(v)))
			m = append(m, v...)
		}
	}
	raw := append([]byte(data), m...)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(m)))
	return append(raw, version)
}

func TestDecodeHostile(t *testing.T) {
	t.Parallel()
	// One item: number 1, file 0, line 1 (zigzag 2), offset 0, document 1, 2 bytes, none cut off.
	good := content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 1, 2, 0)
	if items, err := Decode(compress(t, good), 0); err != nil || len(items) != 1 {
		t.Fatalf("the good one: %v, %v", items, err)
	}
	huge := uint64(math.MaxUint64)
	tests := map[string][]byte{
		"empty":                  {},
		"only a footer, size 9":  {9, 0, 0, 0, version},
		"other version":          append(bytes.Clone(good[:len(good)-1]), 99),
		"count too large":        content("{}", 9, 1, "f", 1, "d", 1, 0, 2, 0, 1, 2, 0),
		"count huge":             content("{}", huge, 1, "f", 1, "d", 1, 0, 2, 0, 1, 2, 0),
		"files huge":             content("{}", 1, huge),
		"file name too long":     content("{}", 1, 1, 200),
		"number zero":            content("{}", 1, 1, "f", 1, "d", 0, 0, 2, 0, 1, 2, 0),
		"number huge":            content("{}", 1, 1, "f", 1, "d", huge, 0, 2, 0, 1, 2, 0),
		"no such file":           content("{}", 1, 1, "f", 1, "d", 1, 1, 2, 0, 1, 2, 0),
		"line zero":              content("{}", 1, 1, "f", 1, "d", 1, 0, 0, 0, 1, 2, 0),
		"line negative":          content("{}", 1, 1, "f", 1, "d", 1, 0, 1, 0, 1, 2, 0),
		"offset negative":        content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 1, 1, 2, 0),
		"no such document":       content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 2, 2, 0),
		"more bytes than data":   content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 1, 3, 0),
		"fewer bytes than data":  content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 1, 1, 0),
		"length overflows":       content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 1, 2, uint64(math.MaxInt64)),
		"metadata after the end": content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 1, 2, 0, 0),
		"numbers overflow": content("", 2, 1, "f", 0, uint64(math.MaxInt64), 0, 2, 0, 0, 0, 0,
			1, 0, 2, 0, 0, 0, 0),
	}
	for name, raw := range tests {
		if items, err := Decode(compress(t, raw), 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, %v, want ErrCorrupt", name, items, err)
		}
	}
	frame := compress(t, good)
	for name, frame := range map[string][]byte{
		"no bytes":     nil,
		"no frame":     []byte("no frame at all"),
		"cut":          frame[:len(frame)-1],
		"flipped":      append(bytes.Clone(frame[:len(frame)-6]), append([]byte{frame[len(frame)-6] ^ 1}, frame[len(frame)-5:]...)...),
		"two frames":   append(bytes.Clone(frame), frame...),
		"claims 1 GiB": {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0},
	} {
		if items, err := Decode(frame, 1<<30); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, %v, want ErrCorrupt", name, items, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, []Item{{Number: 1, Line: 1, File: "f", Data: []byte("{}"), Length: 2, Document: "d"}}), true)
	f.Add(content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 1, 2, 0), false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, framed bool) {
		if !framed {
			b = compress(t, b)
		}
		items, err := Decode(b, 1<<20)
		if err != nil {
			return
		}
		// What decodes is a valid batch: it encodes again, to the same items.
		again, err := Decode(encode(t, items), 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(items, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}

func batch() (items []Item, size int64) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range int64(500) {
		var b strings.Builder
		fmt.Fprintf(&b, `{"sourcedb":"PMC","sourceid":"%d","text":"`, i)
		for range 200 {
			fmt.Fprintf(&b, "word%d ", r.IntN(5000))
		}
		b.WriteString(`"}`)
		data := []byte(b.String())
		items = append(items, Item{Number: i + 1, File: "f.jsonl", Line: i + 1, Offset: size,
			Document: fmt.Sprintf("PMC:%d", i), Data: data, Length: int64(len(data))})
		size += int64(len(data)) + 1
	}
	return items, size
}

func BenchmarkEncode(b *testing.B) {
	items, size := batch()
	var e Encoder
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for _, it := range items {
			if err := e.Append(it); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := e.Finish(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	items, size := batch()
	frame := encode(b, items)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(frame, 0); err != nil {
			b.Fatal(err)
		}
	}
}
