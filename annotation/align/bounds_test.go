package align_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// prose returns a text of made-up words, about length bytes.
func prose(seed uint64, length int) string {
	random := rand.New(rand.NewPCG(seed, 1))
	words := make([]string, 5000)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for j := range word {
			word[j] = "etaoinshrdlucmfwypvbgkjqxz"[min(random.IntN(26), random.IntN(26))]
		}
		words[i] = string(word)
	}
	var text strings.Builder
	for text.Len() < length {
		text.WriteString(words[min(random.IntN(len(words)), random.IntN(len(words)))])
		text.WriteString([]string{" ", " ", " ", " ", " ", ", ", ". ", "\n", " (", ") ", "-"}[random.IntN(11)])
	}
	return text.String()
}

// edited returns a text with an edit about every so many bytes.
func edited(seed uint64, text string, every int) string {
	random := rand.New(rand.NewPCG(seed, 2))
	var b strings.Builder
	for len(text) > 0 {
		n := min(1+random.IntN(2*every), len(text))
		b.WriteString(text[:n])
		text = text[n:]
		switch random.IntN(3) {
		case 0:
			b.WriteString(" [12]")
		case 1:
			text = text[min(3, len(text)):]
		default:
			b.WriteByte("xyz-"[random.IntN(4)])
			text = text[min(1, len(text)):]
		}
	}
	return b.String()
}

func letters(seed uint64, alphabet string, length int) string {
	random := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, length)
	for i := range b {
		b[i] = alphabet[random.IntN(len(alphabet))]
	}
	return string(b)
}

func reversed(text string) string {
	b := []byte(text)
	slices.Reverse(b)
	return string(b)
}

// TestBounds shows that work and memory stay within what the package says, whatever the texts are.
func TestBounds(t *testing.T) {
	t.Parallel()
	const n = 1 << 18
	book := prose(1, n)
	blocks := func(seed uint64) string { // the same few sentences in another order
		random := rand.New(rand.NewPCG(seed, 4))
		var b strings.Builder
		for b.Len() < n {
			i := random.IntN(64)
			b.WriteString(book[100*i : 100*i+100])
		}
		return b.String()
	}
	words := strings.Fields(book[:20000])
	for _, c := range []struct {
		name           string
		document, item string
		least          float64 // share
	}{
		{"a text and itself but for one letter", book, book[:n/2] + "#" + book[n/2+1:], 0.999},
		{"edits", book, edited(1, book, 200), 0.9},
		{"many edits", book, edited(1, book, 20), 0.6},
		{"a passage with edits", book, edited(1, book[n/2:n/2+n/50], 100), 0.9},
		{"two halves in the wrong order", book, book[n/2:] + "#" + book[:n/2], 0.999},
		{"other words", book, prose(2, n), 0},
		{"the same words in another order", book, strings.Join(func() []string { slices.Reverse(words); return words }(), " "), 0},
		{"reversed", book, reversed(book), 0},
		{"one letter", strings.Repeat("a", n), strings.Repeat("a", n/2) + "b" + strings.Repeat("a", n/4), 0.9},
		{"another letter", strings.Repeat("a", n), strings.Repeat("b", n), 0},
		{"letters and marks", strings.Repeat("a\u0301", n/3), strings.Repeat("a\u0301", n/6) + "b", 0},
		{"nothing but marks", strings.Repeat("\u0301\u0323", n/4), strings.Repeat("\u0323\u0301", n/8) + "b", 0},
		{"a short period", strings.Repeat("ab", n/2), strings.Repeat("ab", n/8) + "c" + strings.Repeat("ba", n/8), 0},
		{"a long period", strings.Repeat(book[:n/8], 8), strings.Repeat(book[:n/8-1], 8), 0.9},
		{"a middling period", strings.Repeat(book[:1000], n/1000), strings.Repeat(book[:999], n/1000), 0},
		{"rotated", strings.Repeat(book[:4096], n/4096), strings.Repeat(book[1:4097], n/4096) + "#", 0},
		{"shuffled sentences", blocks(1), blocks(2), 0},
		{"two letters", letters(1, "ab", n), letters(2, "ab", n), 0},
		{"four letters", letters(1, "acgt", n), letters(2, "acgt", n), 0},
		{"all letters", letters(1, "abcdefghijklmnopqrstuvwxyz", n), letters(2, "abcdefghijklmnopqrstuvwxyz", n), 0},
		{"signs", letters(1, "!?;:,.", n), letters(2, "!?;:,.", n), 0},
		{"signs with edits", letters(1, "!?;:,.-+*/", n), edited(3, letters(1, "!?;:,.-+*/", n), 12), 0},
		{"spaces", strings.Repeat(" \t", n/2) + "a", strings.Repeat("\n", n) + "b", 0},
		{"spaces and letters", strings.Repeat("a ", n/2), strings.Repeat("a  ", n/3), 0},
		{"Greek", strings.Repeat("αβγδ ", n/9), strings.Repeat("αβγε ", n/9), 0},
		{"places inside of characters", strings.Repeat("α", n/5), "ph" + strings.Repeat("aalph", n/10), 0},
		{"a long item for a short document", book[:1000], book, 0},
		{"a short item for a long document", book, "#" + book[n/2:n/2+40], 0.9},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := align.New(c.document)
			a := d.Align(c.item, 0)
			bytes := len(align.Fold(c.document)) + len(align.Fold(c.item))
			perByte := float64(a.Work()) / float64(bytes)
			t.Logf("level %d, share %.3f, %.1f steps and %.1f bytes a byte", a.Level(), a.Share(), perByte, float64(d.Size())/float64(len(c.document)))
			if most := align.MostWork(c.document, c.item); a.Work() > most {
				t.Errorf("%d steps, want %d at most", a.Work(), most)
			}
			if size, most := d.Size(), align.MostSize(c.document); size > most {
				t.Errorf("%d bytes are kept, want %d at most", size, most)
			}
			if a.Share() < c.least {
				t.Errorf("share %.3f, want %.3f", a.Share(), c.least)
			}
		})
	}
}

// TestTenMillion aligns a text of ten million characters to itself with edits.
func TestTenMillion(t *testing.T) {
	t.Parallel()
	if testing.Short() || raceDetector {
		t.Skip("SKIPPED: a text of ten million characters takes seconds, and minutes under the race detector")
	}
	const n = 10_000_000
	text := prose(1, n)
	d := align.New(text)
	item := edited(1, text, 500)
	a := d.Align(item, 0)
	t.Logf("share %.3f, %.1f steps and %.1f bytes a byte", a.Share(), float64(a.Work())/n, float64(d.Size())/n)
	if a.Share() < 0.95 || a.Work() > align.MostWork(text, item) || d.Size() > align.MostSize(text) {
		t.Errorf("share %.3f, %d steps, %d bytes", a.Share(), a.Work(), d.Size())
	}
}

func BenchmarkAlign(b *testing.B) {
	const n = 1 << 20
	text := prose(1, n)
	d := align.New(text)
	passage := text[n/2 : n/2+2000]
	mapped := strings.NewReplacer(" ", "\u00a0", "-", "–", "a", "A").Replace(text)
	for _, c := range []struct{ name, item string }{
		{"exact/all", text},
		{"exact/passage", passage},
		{"mapped/all", mapped},
		{"mapped/passage", strings.ToUpper(passage)},
		{"general/all", edited(1, text, 300)},
		{"general/passage", edited(1, passage, 100)},
		{"general/other", prose(2, n)},
	} {
		d.Align("#"+passage[:99], 0) // what is prepared once
		b.Run(c.name, func(b *testing.B) {
			characters := len([]rune(c.item))
			for b.Loop() {
				d.Align(c.item, 0)
			}
			b.ReportMetric(float64(characters)*float64(b.N)/b.Elapsed().Seconds(), "chars/s")
		})
	}
	for _, length := range []int{1 << 11, 1 << 20, 10_000_000} {
		b.Run(fmt.Sprintf("prepare/%d", length), func(b *testing.B) {
			text := prose(1, length)
			for b.Loop() {
				align.New(text).Align("#", 0)
			}
			b.ReportMetric(float64(length)*float64(b.N)/b.Elapsed().Seconds(), "chars/s")
		})
	}
}
