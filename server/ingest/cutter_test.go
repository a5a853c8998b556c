package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
)

func readData(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "data", "annotations", name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("SKIPPED: no shared data: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCutsAreThoseOfTheGoldenFile(t *testing.T) {
	t.Parallel()
	type batch struct {
		First  int64 `json:"first_item"`
		Last   int64 `json:"last_item"`
		Items  int   `json:"items"`
		Weight int   `json:"weight"`
	}
	var golden map[string][]batch
	if err := json.Unmarshal(readData(t, "batch_golden.json"), &golden); err != nil {
		t.Fatal(err)
	}
	for name, want := range golden {
		file := name + ".jsonl"
		if matches, _ := filepath.Glob(filepath.Join("..", "..", "..", "shared", "data", "annotations", name+".array.json")); len(matches) > 0 {
			file = name + ".array.json"
		}
		data := readData(t, file)
		sink := &memory{}
		if _, err := Run(t.Context(), io.NopCloser(bytes.NewReader(data)), Config{Identify: Annotations(annotation.Options{})}, sink); err != nil {
			t.Fatal(err)
		}
		var got []batch
		for _, b := range sink.batches() {
			got = append(got, batch{b.FirstItem, b.LastItem, b.Items, b.Weight})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if len(golden) != 3 {
		t.Errorf("the golden file has %d entries, want 3", len(golden))
	}
}

func TestCutter(t *testing.T) {
	t.Parallel()
	type add struct {
		document string
		weight   int
		size     int64
		cut      bool
	}
	tests := map[string][]add{
		"overshoots, then cuts":           {{"a", 9, 1, false}, {"b", 9, 1, false}, {"c", 1, 1, true}, {"d", 1, 1, false}},
		"never inside a document":         {{"a", 10, 1, false}, {"a", 10, 1, false}, {"a", 1, 1, false}, {"b", 1, 1, true}},
		"anywhere without one":            {{"", 10, 1, false}, {"", 1, 1, true}, {"", 9, 1, false}, {"", 1, 1, true}},
		"no weight counts as one":         {{"a", 0, 1, false}, {"b", 9, 1, false}, {"c", 0, 1, true}},
		"bytes, inside a document":        {{"a", 1, 60, false}, {"a", 1, 40, false}, {"a", 1, 1, true}},
		"larger than a batch, alone":      {{"a", 1, 1, false}, {"a", 1, 200, true}, {"a", 1, 1, true}},
		"larger than a batch, first":      {{"a", 1, 200, false}, {"b", 1, 200, true}},
		"items, inside a document":        {{"a", 1, 1, false}, {"a", 1, 1, false}, {"a", 1, 1, false}, {"a", 1, 1, true}},
		"items begin to count again then": {{"a", 1, 1, false}, {"b", 1, 1, false}, {"c", 1, 1, false}, {"d", 1, 1, true}, {"e", 1, 1, false}, {"f", 1, 1, false}, {"g", 1, 1, true}},
	}
	for name, adds := range tests {
		c := NewCutter(CutConfig{Weight: 10, Bytes: 100, Items: 3})
		for i, a := range adds {
			if got := c.Add(a.document, a.weight, a.size); got != a.cut {
				t.Errorf("%s: adding entry %d cut %t, want %t", name, i, got, a.cut)
			}
		}
	}
}

// TestCutterResumes draws items and goes on with a new Cutter at any boundary.
func TestCutterResumes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		config := CutConfig{Weight: 10, Bytes: 100, Items: 5}
		one, many := NewCutter(config), NewCutter(config)
		for range rapid.IntRange(1, 60).Draw(t, "items") {
			document := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "document")
			weight := rapid.IntRange(0, 12).Draw(t, "weight")
			size := rapid.Int64Range(0, 120).Draw(t, "size")
			want := one.Add(document, weight, size)
			if got := many.Add(document, weight, size); got != want {
				t.Fatalf("resumed: cut %t, undisturbed: %t", got, want)
			}
			if want {
				many = NewCutter(config)
				many.Add(document, weight, size)
			}
		}
	})
}

// memory is a sink that keeps what it gets.
type memory struct{ groups []*Group }

func (m *memory) Commit(_ context.Context, g *Group) error {
	m.groups = append(m.groups, g)
	return nil
}

func (m *memory) batches() []Batch {
	var all []Batch
	for _, g := range m.groups {
		all = append(all, g.Batches...)
	}
	return all
}
