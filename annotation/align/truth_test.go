package align_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// TestTruth edits texts, remembering where each character came from, and looks how many of the words that no edit touches
// are mapped to where they came from.
func TestTruth(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		every        int     // characters between edits
		whole        bool    // sentences are left out and added, too
		least, wrong float64 // shares of the untouched words: at least mapped right, at most mapped wrong
	}{
		{200, false, 0.999, 0}, {50, false, 0.999, 0}, {20, false, 0.999, 0.001}, {10, false, 0.99, 0.001},
		{200, true, 0.999, 0.001}, {50, true, 0.999, 0.001}, {20, true, 0.99, 0.001},
	} {
		t.Run(fmt.Sprintf("%d %v", c.every, c.whole), func(t *testing.T) {
			t.Parallel()
			words, right, wrong := 0, 0, 0
			for seed := range uint64(40) {
				document := prose(seed, 3000)
				item, from := tampered(seed, document, c.every, c.whole)
				a := align.New(document).Align(string(item), 0)
				for begin := 0; begin < len(item); {
					end := begin
					for end < len(item) && unicode.IsLetter(item[end]) {
						end++
					}
					if end-begin >= 4 && untouched(from, begin, end) {
						words++
						s, ok := a.Map(begin, end)
						switch {
						case ok && s == align.Span{Begin: from[begin], End: from[end-1] + 1}:
							right++
						case ok:
							wrong++
						}
					}
					begin = end + 1
				}
			}
			t.Logf("of %d words %.4f right, %.4f wrong", words, float64(right)/float64(words), float64(wrong)/float64(words))
			if words < 1000 || float64(right) < c.least*float64(words) || float64(wrong) > c.wrong*float64(words) {
				t.Errorf("of %d words %d are mapped right and %d wrong", words, right, wrong)
			}
		})
	}
}

// untouched reports whether a stretch of an item is one of the document, with what is next to it.
func untouched(from []int, begin, end int) bool {
	for i := max(begin-1, 0); i < min(end+1, len(from)); i++ {
		if from[i] < 0 || i > max(begin-1, 0) && from[i] != from[i-1]+1 {
			return false
		}
	}
	return true
}

// tampered edits a text and says where each character came from; -1: it was added.
func tampered(seed uint64, text string, every int, sentences bool) ([]rune, []int) {
	random := rand.New(rand.NewPCG(seed, 5))
	other := []rune(prose(seed+1000, 2000))
	var item []rune
	var from []int
	add := func(r rune, at int) { item, from = append(item, r), append(from, at) }
	points := []rune(text)
	for i := 0; i < len(points); i++ {
		switch {
		case sentences && strings.ContainsRune(".\n", points[i]) && random.IntN(4) == 0:
			i += random.IntN(200)
		case sentences && strings.ContainsRune(".\n", points[i]) && random.IntN(4) == 0:
			start := random.IntN(1500)
			for _, r := range other[start : start+random.IntN(300)] {
				add(r, -1)
			}
		case random.IntN(every) == 0:
			switch random.IntN(4) {
			case 0:
				add('q', -1)
			case 1:
				i += random.IntN(4)
			case 2:
				for _, r := range " [1,2] " {
					add(r, -1)
				}
			default:
				add(unicode.ToUpper(points[i]), i)
				add('-', -1)
			}
		default:
			add(points[i], i)
		}
	}
	return item, from
}
