package passages

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// composed is the definition: what Compose must come to.
func composed(items []Item) (string, []Anchor) {
	items = slices.SortedFunc(slices.Values(items), func(a, b Item) int { return cmp.Compare(a.Number, b.Number) })
	var text strings.Builder
	var anchors []Anchor
	length := 0
	for i, it := range items {
		if i > 0 && items[i-1].Text == it.Text {
			anchors = append(anchors, Anchor{Item: it.Number, Begin: anchors[i-1].Begin, Length: it.Length})
			continue
		}
		if i > 0 {
			text.WriteString("\n")
			length++
		}
		anchors = append(anchors, Anchor{Item: it.Number, Begin: length, Length: it.Length})
		text.WriteString(it.Text)
		length += it.Length
	}
	return text.String(), anchors
}

func items(texts ...string) []Item {
	var list []Item
	for i, text := range texts {
		list = append(list, Item{Number: int64(i + 1), Text: text, Length: utf8.RuneCountInString(text)})
	}
	return list
}

var texts = rapid.SampledFrom([]string{"a", "b", "ab", "aa", "é", "日本", "a\nb", "b ", "\na", "x𝄞y", strings.Repeat("ü", 700)})

// document is what a store keeps of a document between calls.
type document struct {
	text    string
	anchors []Anchor
}

func (d *document) merge(added, moved []Anchor) {
	for _, m := range moved {
		i := slices.IndexFunc(d.anchors, func(a Anchor) bool { return a.Item == m.Item })
		d.anchors[i] = m
	}
	for _, a := range added {
		if a.Length > 0 {
			d.anchors = append(d.anchors, a)
		}
	}
	slices.SortFunc(d.anchors, func(a, b Anchor) int { return cmp.Compare(a.Item, b.Item) })
}

func TestComposeInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := items(rapid.SliceOfN(texts, 1, 12).Draw(t, "texts")...)
		wantText, wantAnchors := composed(all)
		order := rapid.Permutation(all).Draw(t, "order")

		var doc document
		for len(order) > 0 {
			n := rapid.IntRange(1, len(order)).Draw(t, "n")
			step := slices.SortedFunc(slices.Values(order[:n]), func(a, b Item) int { return cmp.Compare(a.Number, b.Number) })
			order = order[n:]
			c, err := Compose(doc.text, doc.anchors, step)
			if err != nil {
				t.Fatal(err)
			}
			if c.Changed != (c.Text != doc.text) || c.Length != utf8.RuneCountInString(c.Text) {
				t.Fatalf("changed %v, length %d: %q after %q", c.Changed, c.Length, c.Text, doc.text)
			}
			doc.text = c.Text
			doc.merge(c.Added, c.Moved)
		}
		if diff := gocmp.Diff(document{wantText, wantAnchors}, doc, gocmp.AllowUnexported(document{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestPlaceInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(texts, 1, 12).Draw(t, "document"), "\n")
		all := items(rapid.SliceOfN(texts, 1, 12).Draw(t, "texts")...)
		var want document
		p, err := Place(text, nil, nil, all)
		if err != nil {
			t.Fatal(err)
		}
		want.merge(p.Added, p.Moved)
		for i, a := range p.Added {
			if contained := strings.Contains(text, all[i].Text); contained != (a.Length > 0) {
				t.Fatalf("item %d: contained %v, placed at %v", i+1, contained, a)
			}
			if a.Length > 0 && string([]rune(text)[a.Begin:a.Begin+a.Length]) != all[i].Text {
				t.Fatalf("%q is not at %v of %q", all[i].Text, a, text)
			}
		}

		order := rapid.Permutation(all).Draw(t, "order")
		var got document
		for len(order) > 0 {
			n := rapid.IntRange(1, len(order)).Draw(t, "n")
			step := slices.SortedFunc(slices.Values(order[:n]), func(a, b Item) int { return cmp.Compare(a.Number, b.Number) })
			order = order[n:]
			p, err := Place(text, nil, got.anchors, step)
			if err != nil {
				t.Fatal(err)
			}
			got.merge(p.Added, p.Moved)
		}
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(document{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// alike are texts that are the same but for characters that are mapped, for how they are laid out, or for some letters.
var alike = rapid.SampledFrom([]string{"a-b", "a–b", "A-B", "α c", "alpha c", "ALPHA  c", "Α\u00a0c", "x", "one two three", "one too three", "ph"})

// TestPlaceAlignedInAnyOrder does the same where the document does not hold all texts as they are.
func TestPlaceAlignedInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(alike, 1, 12).Draw(t, "document"), "\n")
		prepared := align.New(text)
		all := items(rapid.SliceOfN(alike, 1, 12).Draw(t, "texts")...)
		for i, it := range all {
			if a := prepared.Align(it.Text, 0); a.Level() > align.Exact && a.Share() >= 0.3 {
				all[i].Alignment = a
			}
		}
		var want document
		p, err := Place(text, prepared, nil, all)
		if err != nil {
			t.Fatal(err)
		}
		want.merge(p.Added, p.Moved)
		for i, a := range p.Added {
			if it := all[i]; it.Alignment != nil && (a.Level != it.Alignment.Level() || a.Length == 0) {
				t.Fatalf("%+v lies at %+v", it, a)
			}
		}
		order := rapid.Permutation(all).Draw(t, "order")
		var got document
		for len(order) > 0 {
			n := rapid.IntRange(1, len(order)).Draw(t, "n")
			step := slices.SortedFunc(slices.Values(order[:n]), func(a, b Item) int { return cmp.Compare(a.Number, b.Number) })
			order = order[n:]
			p, err := Place(text, prepared, got.anchors, step)
			if err != nil {
				t.Fatal(err)
			}
			got.merge(p.Added, p.Moved)
		}
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(document{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// A text and its passages sent once more must come to lie where they were composed.
func TestPlaceAgreesWithCompose(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := items(rapid.SliceOfN(texts.Filter(func(s string) bool { return strings.TrimSpace(s) != "" }), 1, 12).Draw(t, "texts")...)
		text, want := composed(all)
		p, err := Place(text, nil, nil, all)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, p.Added); diff != "" {
			t.Fatalf("in %q (-want +got):\n%s", text, diff)
		}
	})
}

func TestPlaceSuccessively(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		items      []string
		want       []int
	}{
		{"whole", "abc", []string{"abc"}, []int{0}},
		{"successive places", "x y x z x", []string{"x", "y", "x", "z", "x"}, []int{0, 2, 4, 6, 8}},
		{"behind the item before after mapping characters", "a–b, c, a–b", []string{"c", "a-b", "a-b", "c", "A-B"}, []int{5, 8, 8, 5, 8}},
		{"successive places after mapping characters", "a–b, c, a‐b, a–b", []string{"a-b", "c", "a-b", "c", "A-B", "c", "a-b"}, []int{0, 5, 8, 5, 13, 5, 13}},
		{"the last when none is left", "x y x", []string{"x", "y", "x", "y", "x"}, []int{0, 2, 4, 2, 4}},
		{"the same passage again", "x y x", []string{"x", "x", "y"}, []int{0, 0, 2}},
		{"behind the item before", "ab b", []string{"ab", "b"}, []int{0, 3}},
		{"out of order", "p q r", []string{"r", "p", "q"}, []int{4, 0, 2}},
		{"same text when out of order", "a b a", []string{"b", "a", "b", "a"}, []int{2, 4, 2, 4}},
		{"code points", "𝄞é x𝄞é", []string{"𝄞é", "x𝄞é"}, []int{0, 3}},
	} {
		all, prepared := items(test.items...), align.New(test.text)
		for i, it := range all {
			if a := prepared.Align(it.Text, 0); a.Level() == align.Mapped {
				all[i].Alignment = a
			}
		}
		p, err := Place(test.text, prepared, nil, all)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, a := range p.Added {
			got = append(got, a.Begin)
		}
		if diff := gocmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestInconsistentAnchors(t *testing.T) {
	t.Parallel()
	for _, anchors := range [][]Anchor{
		nil,
		{{Item: 1, Begin: 0, Length: 2}},
		{{Item: 1, Begin: 1, Length: 2}},
		{{Item: 1, Begin: 0, Length: 1}, {Item: 2, Begin: 3, Length: 1}},
		{{Item: 1, Begin: 0, Length: 9}},
	} {
		if _, err := Compose("a\nb", anchors, items("", "", "c")[2:]); err == nil {
			t.Errorf("Compose takes %v for the passages of %q", anchors, "a\nb")
		}
	}
	if _, err := Place("ab", nil, []Anchor{{Item: 1, Begin: 1, Length: 5}}, nil); err == nil {
		t.Error("Place takes an anchor behind the end")
	}
	if _, err := Cut("ab", []Anchor{{Item: 1, Begin: 1, Length: 5}}); err == nil {
		t.Error("Cut takes an anchor behind the end")
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a𝄞é日", 1000)
	x := newIndex(text)
	points := 0
	for at := range text {
		if x.points(at) != points || x.bytes(points) != at {
			t.Fatalf("byte %d, code point %d: points %d, bytes %d", at, points, x.points(at), x.bytes(points))
		}
		points++
	}
	if x.bytes(points) != len(text) {
		t.Errorf("the end is at byte %d, want %d", x.bytes(points), len(text))
	}
}

// One job's items make up what Compose makes of them; a further job's lie where Place puts them, as far as it does.
func TestCombine(t *testing.T) {
	t.Parallel()
	filled := texts.Filter(func(s string) bool { return strings.TrimSpace(s) != "" })
	rapid.Check(t, func(t *rapid.T) {
		first := items(rapid.SliceOfN(filled, 1, 8).Draw(t, "first")...)
		second := items(rapid.SliceOfN(filled, 0, 8).Draw(t, "second")...)
		text, want := composed(first)
		var members []Member
		for _, it := range first {
			members = append(members, Member{Job: 3, Item: it})
		}
		for _, it := range second {
			members = append(members, Member{Job: 7, Item: it})
		}
		c := Combine(members)
		if c.First != 3 || !strings.HasPrefix(c.Text, text) || c.Length != utf8.RuneCountInString(c.Text) {
			t.Fatalf("%+v of %q", c, text)
		}
		if own := c.Text != text; own != (c.Last == 7) {
			t.Fatalf("the last composer is %d: %q of %q", c.Last, c.Text, text)
		}
		for i, m := range members {
			parts, err := Cut(c.Text, []Anchor{{Item: m.Number, Begin: c.Begins[i], Length: m.Length}})
			if err != nil || parts[0] != m.Text {
				t.Fatalf("%q lies at %q, %v", m.Text, parts, err)
			}
			if i < len(want) && want[i].Begin != c.Begins[i] {
				t.Fatalf("item %d of the first job begins at %d, want %d", i+1, c.Begins[i], want[i].Begin)
			}
		}
		if c.Last == 7 {
			return
		}
		p, err := Place(text, nil, nil, second)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range p.Added {
			if a.Begin != c.Begins[len(first)+i] {
				t.Fatalf("item %d of the second job begins at %d, Place puts it at %d", i+1, c.Begins[len(first)+i], a.Begin)
			}
		}
	})
}

func TestCombineThree(t *testing.T) {
	t.Parallel()
	var members []Member
	for job, list := range [][]string{{"a", "b"}, {"c", "b", "c", "c"}, {"b\nc", "d", "c", "a\nb\nc"}} {
		for _, it := range items(list...) {
			members = append(members, Member{Job: int64(job + 1), Item: it})
		}
	}
	want := Combination{Text: "a\nb\nc\nc\nd", Length: 9, Begins: []int{0, 2, 4, 2, 6, 6, 2, 8, 6, 0}, First: 1, Last: 3}
	got := Combine(members)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
