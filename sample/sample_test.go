package sample_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/sample"
)

func generate(t *testing.T, c sample.Config) ([]byte, sample.Summary) {
	t.Helper()
	var b bytes.Buffer
	s, err := sample.Generate(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), s
}

// The validator accepts every good item without so much as a warning, rejects every bad one, and counts the same.
func TestValidity(t *testing.T) {
	for name, c := range map[string]sample.Config{
		"default":         {Documents: 300, Bad: 40, Seed: 7},
		"sparse":          {Documents: 100, Bad: 1, Seed: 8, Annotations: 1},
		"dense":           {Documents: 20, Bad: 20, Seed: 9, Annotations: 500, Passages: 7},
		"no annotations":  {Documents: 50, Seed: 10, Annotations: -1},
		"only bad":        {Bad: 34, Seed: 11},
		"more bad":        {Documents: 3, Bad: 100, Seed: 12},
		"single passages": {Documents: 50, Passages: 1},
		"empty":           {},
	} {
		t.Run(name, func(t *testing.T) {
			collection, got := generate(t, c)
			want := sample.Summary{Bytes: int64(len(collection))}
			keys := map[annotation.Key]bool{}
			for line := range bytes.Lines(collection) {
				want.Items++
				item, findings := annotation.Options{}.Parse(bytes.TrimSuffix(line, []byte("\n")))
				if annotation.HasError(findings) {
					want.Bad++
					continue
				}
				if len(findings) > 0 {
					t.Errorf("a good item has findings: %v\n%s", findings, line)
				}
				keys[item.Key] = true
				want.Annotations += int64(item.Annotations())
			}
			want.Documents = int64(len(keys))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("summary (-as parsed +as generated):\n%s", diff)
			}
			if want.Documents != int64(c.Documents) || want.Bad != int64(c.Bad) {
				t.Errorf("%d documents and %d bad items, want %d and %d", want.Documents, want.Bad, c.Documents, c.Bad)
			}
		})
	}
}

// Each denotation lies on a word, whatever lengths its characters have in bytes and UTF-16.
func TestSpans(t *testing.T) {
	collection, _ := generate(t, sample.Config{Documents: 200, Seed: 3})
	surfaces := map[string]string{}
	for line := range bytes.Lines(collection) {
		item, _ := annotation.Options{}.Parse(bytes.TrimSuffix(line, []byte("\n")))
		text := []rune(item.Text)
		for _, d := range item.Denotations {
			surfaces[string(text[d.Begin:d.End])] = d.Obj
		}
	}
	for surface, want := range map[string]string{
		"tarvin-2": "Protein", "NF-κQ": "Protein", "𝛂-phage": "Species", "DNA🧬": "Protein", "virus🦠": "Species", "caféol": "Chemical",
	} {
		if surfaces[surface] != want {
			t.Errorf("%q is labeled %q, want %q", surface, surfaces[surface], want)
		}
	}
	for surface := range surfaces {
		if strings.TrimSpace(surface) != surface || strings.HasSuffix(surface, ".") {
			t.Errorf("a denotation lies on %q", surface)
		}
	}
}

func TestDeterminism(t *testing.T) {
	c := sample.Config{Documents: 100, Bad: 10, Seed: 1}
	first, _ := generate(t, c)
	second, _ := generate(t, c)
	if !bytes.Equal(first, second) {
		t.Error("the same configuration gives different collections")
	}
	c.Seed = 2
	if other, _ := generate(t, c); bytes.Equal(first, other) {
		t.Error("another seed gives the same collection")
	}
	short, _ := generate(t, sample.Config{Documents: 50, Seed: 1})
	long, _ := generate(t, sample.Config{Documents: 100, Seed: 1})
	if !bytes.HasPrefix(long, short) {
		t.Error("a longer collection does not begin with the shorter one")
	}
}

// Bad items lie all over the collection, never at its very end or all in one place.
func TestBadItemsAreSpread(t *testing.T) {
	collection, s := generate(t, sample.Config{Documents: 1000, Bad: 4, Seed: 1, Passages: 1})
	var at []int64
	n := int64(0)
	for line := range bytes.Lines(collection) {
		if _, findings := (annotation.Options{}).Parse(bytes.TrimSuffix(line, []byte("\n"))); annotation.HasError(findings) {
			at = append(at, n*100/s.Items)
		}
		n++
	}
	if diff := cmp.Diff([]int64{20, 40, 60, 80}, at); diff != "" {
		t.Errorf("places of the bad items in per cent:\n%s", diff)
	}
}

func TestInvalidConfig(t *testing.T) {
	for _, c := range []sample.Config{{Documents: -1}, {Bad: -1}, {Annotations: 1_000_000}, {Passages: -1}, {Passages: 10_000}} {
		if _, err := sample.Generate(io.Discard, c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

var errFull = errors.New("disk full")

// full takes some bytes and then no more.
type full struct{ left int }

func (w *full) Write(p []byte) (int, error) {
	n := min(w.left, len(p))
	w.left -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestWriteError(t *testing.T) {
	s, err := sample.Generate(&full{left: 1_000_000}, sample.Config{Documents: 1_000_000_000})
	if !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
	if s.Bytes != 1_000_000 {
		t.Errorf("the summary counts %d bytes, 1,000,000 were taken", s.Bytes)
	}
}

// Memory does not grow with the collection.
func TestConstantMemory(t *testing.T) {
	allocations := func(documents int) float64 {
		return testing.AllocsPerRun(3, func() {
			if _, err := sample.Generate(io.Discard, sample.Config{Documents: documents}); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocations(300), allocations(3_000); many > few+10 {
		t.Errorf("300 documents take %g allocations, 3,000 take %g", few, many)
	}
}

func BenchmarkGenerate(b *testing.B) {
	for b.Loop() {
		s, err := sample.Generate(io.Discard, sample.Config{Documents: 10_000, Bad: 10})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(s.Bytes)
	}
}
