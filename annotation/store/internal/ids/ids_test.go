package ids

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// document is what a store keeps of a document's ids.
type document map[Name]Claim

// add adds claims and looks up ids as a store does.
func (d document) add(t *rapid.T, claims []Claim) {
	a := New(len(d) == 0)
	added := make([]*Claim, len(claims))
	for i, c := range claims {
		added[i] = &c
		a.Add(&c)
	}
	for names := a.Unknown(); len(names) > 0; names = a.Unknown() {
		var stored []*Claim
		for _, name := range names {
			if c, ok := d[name]; ok {
				stored = append(stored, &c)
			}
		}
		if err := a.Learn(names, stored); err != nil {
			t.Fatal(err)
		}
	}
	renamed := a.Renamed()
	for _, c := range renamed {
		before, _ := c.Renamed()
		delete(d, Name{c.Class, before})
	}
	for _, c := range append(renamed, added...) {
		if _, taken := d[c.Name()]; taken {
			t.Fatalf("%q is given twice", c.ID)
		}
		d[c.Name()] = Claim{Class: c.Class, Job: c.Job, Item: c.Item, Block: c.Block, Ordinal: c.Ordinal, Given: c.Given, Unnamed: c.Unnamed, ID: c.ID}
	}
}

func TestAnyOrderGivesTheSameIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var claims []Claim
		for item := range rapid.Int64Range(1, 8).Draw(t, "items") {
			// Ids that look like substitutes are there to be in their way.
			given := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"T1", "T2", "T1.2", "T1.3", "T1.2.2", "T1.2.2.2", "T1.3.3"}), 0, 5,
				rapid.ID).Draw(t, "given")
			for ordinal, id := range given {
				claims = append(claims, Claim{Class: Spans, Job: item % 2, Item: item/2 + 1, Block: ordinal%2 == 0, Ordinal: ordinal / 2, Given: id,
					Unnamed: rapid.Bool().Draw(t, "unnamed")})
			}
		}
		if len(claims) == 0 {
			return
		}
		want := document{}
		want.add(t, claims)
		if len(want) != len(claims) {
			t.Fatalf("%d annotations have %d ids", len(claims), len(want))
		}
		first := map[string]bool{}
		for _, c := range claims {
			first[c.Given] = first[c.Given] || !c.Unnamed
		}
		for id, named := range first {
			if c, ok := want[Name{Spans, id}]; !ok || named && (c.Given != id || c.Unnamed) {
				t.Fatalf("nobody who was given %q has it", id)
			}
		}
		order := rapid.Permutation(claims).Draw(t, "order")
		got := document{}
		for len(order) > 0 {
			n := rapid.IntRange(1, len(order)).Draw(t, "n")
			got.add(t, order[:n])
			order = order[n:]
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Claim{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestSubstitutes(t *testing.T) {
	t.Parallel()
	a := New(true)
	var claims []*Claim
	for item := range int64(3) {
		for ordinal, given := range []string{"T1", "T1.1"} {
			c := &Claim{Class: Spans, Job: 7, Item: item, Ordinal: ordinal, Given: given}
			claims = append(claims, c)
			a.Add(c)
		}
	}
	a.Add(&Claim{Class: Relations, Job: 7, Item: 9, Given: "T1"})
	var got []string
	for _, c := range claims {
		got = append(got, fmt.Sprintf("%d %s", c.Item, c.ID))
	}
	want := []string{"0 T1", "0 T1.1", "1 T1.1.2", "1 T1.1.1", "2 T1.2", "2 T1.1.2.2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c := a.Holder(Name{Relations, "T1"}); c == nil || c.Item != 9 {
		t.Errorf("relations share their ids with spans: %v", c)
	}
}

func TestStoredIDThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"T2", "T1.5", "T1.4.x", "T1.4.1", "T1.4."} {
		a := New(false)
		a.Add(&Claim{Class: Spans, Item: 4, Given: id})
		err := a.Learn(a.Unknown(), []*Claim{{Class: Spans, Item: 4, Ordinal: 1, Given: "T1", ID: id}})
		if err == nil {
			t.Errorf("%q passes for a substitute of T1 in item 4", id)
		}
	}
}
