package write

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/align"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

func itemOf(text string) *annotation.Item {
	return &annotation.Item{Key: annotation.Key{SourceDB: "D", SourceID: "1"}, Text: text, Length: utf8.RuneCountInString(text)}
}

// What is prepared of a document serves the items of the next transactions, as long as its text is the same.
func TestAlignments(t *testing.T) {
	t.Parallel()
	a := newAlignments(0)
	doc := &document{Draft: Draft{Key: annotation.Key{SourceDB: "D", SourceID: "1"}}, text: "a–b c"}
	e := &entry{Entry: store.Entry{Number: 1, Item: itemOf("a-b")}}
	if a.document(doc) != nil || a.of(e, nil) != nil {
		t.Error("something is known from the beginning")
	}
	unknown := &unaligned{entries: []*entry{e}}
	unknown.add(doc)
	if err := a.learn(t.Context(), unknown); err != nil {
		t.Fatal(err)
	}
	first := a.document(doc)
	if it := a.of(e, first); it == nil || it.alignment == nil || it.alignment.Level() != align.Mapped {
		t.Errorf("the item is %+v", it)
	}
	a.keep([]store.Entry{e.Entry})
	if a.of(e, first) != nil {
		t.Error("the item is kept")
	}
	if err := a.learn(t.Context(), unknown); err != nil || a.document(doc) != first {
		t.Errorf("the document is prepared once more: %v", err)
	}
	doc.text += " d"
	if a.document(doc) != nil {
		t.Error("the document is what it was before its text changed")
	}
	unknown.add(doc)
	if err := a.learn(t.Context(), unknown); err != nil {
		t.Fatal(err)
	}
	if a.of(e, first) != nil || a.of(e, a.document(doc)) == nil {
		t.Error("the item lies in the text that was")
	}
	a.keep(nil)
	if a.document(doc) != nil {
		t.Error("a document that was not used is kept")
	}
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if err := a.learn(ctx, unknown); !errors.Is(err, reason) {
		t.Errorf("after the end: %v", err)
	}
}

// Texts that are too long are not aligned, whichever it is.
func TestTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", store.MaxAlignedBytes+1)
	for _, texts := range [][2]string{{long, "X"}, {"X", long}} {
		if a := newAligned(itemOf(texts[1]), align.New(texts[0]), 0.3); !a.tooLong || a.alignment != nil {
			t.Errorf("it is %+v", a)
		}
	}
}

// FuzzAligned checks that what is left of an item is valid, and that all else of it is told.
func FuzzAligned(f *testing.F) {
	f.Add("TNF-α acts – on it", "TNF-alpha acts and acts - on it", uint16(0x1234), uint16(0x4321))
	f.Add("one two three", "three two one", uint16(7), uint16(9))
	f.Add("a  b", "A b", uint16(0), uint16(0xffff))
	f.Fuzz(func(t *testing.T, document, text string, from, to uint16) {
		document, text = strings.ToValidUTF8(document, "?"), strings.ToValidUTF8(text, "?")
		if len(document)+len(text) > 1<<11 || strings.TrimSpace(text) == "" || strings.TrimSpace(document) == "" {
			return
		}
		item := itemOf(text)
		for i := range 8 {
			begin := (int(from) + i*int(to)) % item.Length
			end := begin + 1 + (int(to)+i)%(item.Length-begin)
			s := annotation.Span{ID: fmt.Sprintf("T%d", i), Begin: begin, End: end, Obj: "O"}
			if i < 4 {
				item.Denotations = append(item.Denotations, s)
			} else {
				item.Blocks = append(item.Blocks, s)
			}
		}
		item.Relations = []annotation.Relation{{ID: "R1", Subj: "T0", Pred: "p", Obj: "T1"}, {ID: "R2", Subj: "T4", Pred: "p", Obj: "T5"}}
		item.Attributes = []annotation.Attribute{
			{ID: "A1", Subj: "R1", Pred: "q", Value: annotation.BoolValue(true)}, {ID: "A2", Subj: "T6", Pred: "q", Value: annotation.BoolValue(true)},
		}
		before := item.Annotations()
		a := newAligned(item, align.New(document), 0.01)
		if a.alignment == nil {
			return
		}
		lost := 0
		for _, finding := range a.findings {
			if loses(finding) {
				lost++
			}
		}
		if before != item.Annotations() || a.item.Annotations()+lost != before {
			t.Fatalf("%d of %d annotations are left, and %d told to be lost", a.item.Annotations(), before, lost)
		}
		begin, end := a.alignment.Place()
		left := *a.item
		left.Text = string([]rune(document)[begin:end])
		if strings.TrimSpace(left.Text) == "" || strings.Contains(left.Text, "\x00") {
			return
		}
		got, findings := annotation.Options{}.Parse(left.AppendJSON(nil))
		if got == nil || got.Annotations() != left.Annotations() {
			t.Fatalf("it is not valid in %q: %v", left.Text, findings)
		}
	})
}
