package write

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

func entries(n, annotations, bytes int) []store.Entry {
	item := &annotation.Item{Text: strings.Repeat("x", bytes), Denotations: make([]annotation.Span, annotations)}
	list := make([]store.Entry, n)
	for i := range list {
		list[i] = store.Entry{Number: int64(i + 1), Item: item}
	}
	return list
}

func TestPace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                  string
		items, weights, bytes int
		want                  int
	}{
		{"few", 10, 1, 10, 10},
		{"many", 10_000, 0, 10, transactionItems},
		{"heavy", 100, firstWeight/4 - 1, 10, 4},
		{"one too heavy", 3, 100 * mostWeight, 10, 1},
		{"long", 100, 0, transactionBytes / 2, 1}, // its length weighs more than firstWeight
	} {
		p := newPace()
		if got := p.take(entries(test.items, test.weights, test.bytes)); got != test.want {
			t.Errorf("%s: %d in a transaction, want %d", test.name, got, test.want)
		}
	}
	p := newPace()
	all := entries(100, 1000, 10)
	for range 20 {
		n := p.take(all)
		p.took(all[:n], 0, time.Duration(n)*transactionTime/3) // each takes a third of the time there is
	}
	if n := p.take(all); n < 1 || n > 3 {
		t.Errorf("%d slow items in a transaction, want at most 3", n)
	}
	before := p.take(all)
	p.took(all[:before], 1_000_000, time.Hour)
	if n := p.take(all); n != before {
		t.Errorf("%d items in a transaction after a review, want %d as before", n, before)
	}
	for range 20 {
		n := p.take(all)
		p.took(all[:n], 0, 0)
	}
	if n, want := p.take(all), mostWeight/1001; n != want {
		t.Errorf("%d fast items in a transaction, want %d", n, want)
	}
}

func TestFindingsComeBack(t *testing.T) {
	t.Parallel()
	want := []annotation.Finding{
		{Code: store.TextMismatch, Severity: annotation.Error, Path: "text", Message: "a \"quoted\" \u2028 <word>\n"},
		{Code: annotation.CoercedNumber, Severity: annotation.Warning, Message: ""},
	}
	encoded, err := EncodeFindings(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeFindings(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if encoded, err := EncodeFindings(nil); encoded != "" || err != nil {
		t.Errorf("no findings are %q, %v", encoded, err)
	}
	if _, err := DecodeFindings("[{"); err == nil {
		t.Error("damaged findings are read")
	}
}

func FuzzBounded(f *testing.F) {
	f.Add("plain")
	f.Add(strings.Repeat("日", maxFindingBytes))
	f.Add("\xff\x00")
	f.Fuzz(func(t *testing.T, text string) {
		got := bounded(text)
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") || len(got) > 3*maxFindingBytes+len("…") {
			t.Errorf("%q of %d bytes", got, len(got))
		}
		if len(text) <= maxFindingBytes && utf8.ValidString(text) && !strings.Contains(text, "\x00") && got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}
