package payload

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestResultsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		want := make([]Result, rapid.IntRange(0, 50).Draw(rt, "results"))
		next := int32(0)
		for i := range want {
			want[i] = Result{
				Position: next + rapid.Int32Range(0, math.MaxInt32/200).Draw(rt, "gap"),
				Items:    rapid.Int32Range(1, math.MaxInt32/200).Draw(rt, "items"),
				Value:    rapid.SliceOf(rapid.Byte()).Draw(rt, "value"),
			}
			next = want[i].Position + want[i].Items
		}
		frame, err := EncodeResults(want)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := DecodeResults(frame, 0)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("results changed on their way (-want +got):\n%s", diff)
		}
		if _, err := Decode(frame, 0); !errors.Is(err, ErrCorrupt) {
			rt.Fatalf("taken for items: %v", err)
		}
	})
}

func TestEncodeResultsRefuses(t *testing.T) {
	t.Parallel()
	for name, results := range map[string][]Result{
		"no items":       {{Position: 1}},
		"before 0":       {{Position: -1, Items: 1}},
		"the same item":  {{Position: 1, Items: 1}, {Position: 1, Items: 1}},
		"an item within": {{Position: 1, Items: 3}, {Position: 3, Items: 1}},
		"past the last":  {{Position: math.MaxInt32, Items: 1}},
	} {
		if frame, err := EncodeResults(results); err == nil {
			t.Errorf("%s: %x", name, frame)
		}
	}
	if _, err := EncodeResults(make([]Result, MaxItems+1)); err == nil {
		t.Errorf("more than %d were taken", MaxItems)
	}
}

// resultsContent is content, of results.
func resultsContent(data string, meta ...any) []byte {
	raw := content(data, meta...)
	raw[len(raw)-1] = resultsVersion
	return raw
}

func TestDecodeResultsHostile(t *testing.T) {
	t.Parallel()
	// Two results: at position 1 of 1 item, 2 bytes; at position 2 of 3 items, 1 byte.
	good := resultsContent("{}1", 2, 1, 0, 2, 0, 2, 1)
	results, err := DecodeResults(compress(t, good), 0)
	if diff := cmp.Diff([]Result{{1, 1, []byte("{}")}, {2, 3, []byte("1")}}, results); diff != "" || err != nil {
		t.Fatalf("the good one: %v (-want +got):\n%s", err, diff)
	}
	huge := uint64(math.MaxInt64)
	for name, raw := range map[string][]byte{
		"items":                  content("{}", 1, 1, "f", 1, "d", 1, 0, 2, 0, 1, 2, 0),
		"count too large":        resultsContent("{}1", 3, 1, 0, 2, 0, 2, 1),
		"count huge":             resultsContent("{}1", huge, 1, 0, 2, 0, 2, 1),
		"position huge":          resultsContent("{}", 1, huge, 0, 2),
		"items huge":             resultsContent("{}", 1, 1, huge, 2),
		"past the last item":     resultsContent("{}", 1, uint64(math.MaxInt32), 0, 2),
		"more bytes than data":   resultsContent("{}", 1, 1, 0, 3),
		"fewer bytes than data":  resultsContent("{}", 1, 1, 0, 1),
		"metadata after the end": resultsContent("{}", 1, 1, 0, 2, 0),
		"cut":                    resultsContent("{}", 1, 1, 0),
		"size too large":         binary.LittleEndian.AppendUint32([]byte{0}, 9),
	} {
		if results, err := DecodeResults(compress(t, raw), 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, %v, want ErrCorrupt", name, results, err)
		}
	}
	var limit *LimitError
	if _, err := DecodeResults(compress(t, good), 5); !errors.As(err, &limit) {
		t.Errorf("above the limit: %v", err)
	}
}

func FuzzDecodeResults(f *testing.F) {
	f.Add(resultsContent("{}1", 2, 1, 0, 2, 0, 2, 1), false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, framed bool) {
		if !framed {
			b = compress(t, b)
		}
		results, err := DecodeResults(b, 1<<20)
		if err != nil {
			return
		}
		frame, err := EncodeResults(results)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeResults(frame, 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(results, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}
