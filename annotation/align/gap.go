package align

import (
	"unicode"
	"unicode/utf8"
)

// The bounds of comparing token by token and character by character.
const (
	tokenCells   = 1 << 16 // of tokens of one times those of the other text
	characters   = 256     // of one text, between tokens that both have
	longestToken = 32      // bytes
)

// token is a word, or another character.
type token struct{ at, length int }

// ofWord reports whether a character of a folded text is part of a word.
func ofWord(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' ||
		r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)) && !unspaced(r)
}

// tokens cuts a stretch of a folded text into tokens.
func tokens(into []token, canon string, begin, end int) []token {
	word := false
	for i := begin; i < end; {
		r, size := rune(canon[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(canon[i:end])
		}
		letter := ofWord(r)
		if last := len(into) - 1; letter && word && into[last].length+size <= longestToken {
			into[last].length += size
		} else {
			into = append(into, token{i, size})
		}
		word, i = letter, i+size
	}
	return into
}

// tokenwise aligns a gap token by token, and what lies between equal tokens character by character. With a window only
// what lies before it and what lies behind it of the document takes part.
func (a *aligner) tokenwise(g gap, window ...int) {
	items := tokens(nil, a.item.canon, g.begin, g.end)
	var docs []token
	if len(window) == 2 {
		docs = tokens(tokens(nil, a.doc.canon, g.from, window[0]), a.doc.canon, window[1], g.to)
	} else {
		docs = tokens(nil, a.doc.canon, g.from, g.to)
	}
	a.work += len(items) + len(docs)
	if len(items)*len(docs) > min(tokenCells, a.cells) {
		return
	}
	ids := make(map[string]int32, len(items))
	name := func(canon string, tokens []token) []int32 {
		names := make([]int32, len(tokens))
		for i, t := range tokens {
			word := canon[t.at : t.at+t.length]
			id, ok := ids[word]
			if !ok {
				id = int32(len(ids))
				ids[word] = id
			}
			names[i] = id
		}
		return names
	}
	x, y := name(a.item.canon, items), name(a.doc.canon, docs)
	weights := make([]int32, len(items))
	for i, t := range items {
		if weights[i] = int32(4 * t.length); a.item.canon[t.at] == ' ' {
			weights[i] = 1
		}
	}
	i, j := 0, 0
	for _, p := range a.subsequence(x, y, weights, !g.openLeft, !g.openRight) {
		a.characterwise(items[i:p[0]], docs[j:p[1]])
		a.add(block{items[p[0]].at, docs[p[1]].at, items[p[0]].length})
		i, j = p[0]+1, p[1]+1
	}
	a.characterwise(items[i:], docs[j:])
}

// characterwise aligns tokens that differ.
func (a *aligner) characterwise(items, docs []token) {
	if len(items) == 0 || len(docs) == 0 {
		return
	}
	item := block{items[0].at, docs[0].at, 0}
	itemEnd := items[len(items)-1].at + items[len(items)-1].length
	docEnd := docs[len(docs)-1].at + docs[len(docs)-1].length
	x, y := []rune(a.item.canon[item.item:min(itemEnd, item.item+4*characters)]), []rune(a.doc.canon[item.doc:min(docEnd, item.doc+4*characters)])
	if len(x) > characters || len(y) > characters || len(x)*len(y) > a.cells {
		return
	}
	weights := make([]int32, len(x))
	for i, r := range x {
		if weights[i] = 4; r == ' ' {
			weights[i] = 1
		}
	}
	var found []block
	matched, nx, ny := 0, 0, 0
	i, j, at, place := 0, 0, item.item, item.doc
	for _, p := range a.subsequence(x, y, weights, true, true) {
		for ; i < p[0]; i++ {
			at += utf8.RuneLen(x[i])
		}
		for ; j < p[1]; j++ {
			place += utf8.RuneLen(y[j])
		}
		if x[p[0]] != ' ' {
			matched++
		}
		b := block{at, place, utf8.RuneLen(x[p[0]])}
		if n := len(found) - 1; n >= 0 && found[n].item+found[n].length == at && found[n].diagonal() == b.diagonal() {
			found[n].length += b.length
		} else {
			found = append(found, b)
		}
	}
	for _, r := range x {
		if r != ' ' {
			nx++
		}
	}
	for _, r := range y {
		if r != ' ' {
			ny++
		}
	}
	// Any two stretches have some letters in common. Alike are those that have half of theirs, or longer parts.
	const part = 4
	for _, b := range found {
		if 2*matched >= max(nx, ny) || b.length >= part && 3*b.length >= nx {
			a.add(b)
		}
	}
}

// subsequence returns the pairs of equal elements of the heaviest common subsequence of x and y; those that follow each
// other in both weigh more, as do those next to a closed end.
func (a *aligner) subsequence(x, y []int32, weights []int32, closedLeft, closedRight bool) [][2]int {
	const (
		none   = -1 << 30
		follow = 3
		// of a cell:
		afterPair = 1 << 0 // its pair follows another one
		fromPair  = 1 << 1 // its best ends with its pair
		fromAbove = 1 << 2 // its best is that of the cell above
	)
	rows, columns := len(x)+1, len(y)+1
	a.cells -= rows * columns
	a.work += rows * columns
	if len(a.table) < rows*columns {
		a.table = make([]uint8, rows*columns)
	}
	for i := range a.scratch {
		if len(a.scratch[i]) < columns {
			a.scratch[i] = make([]int32, 2*columns)
		}
	}
	table := a.table
	pairs, bests, lastPairs, lastBests := a.scratch[0][:columns], a.scratch[1][:columns], a.scratch[2][:columns], a.scratch[3][:columns]
	for j := range columns {
		lastPairs[j], lastBests[j] = none, 0
	}
	if closedLeft {
		lastPairs[0] = 0
	}
	for i := 1; i < rows; i++ {
		pairs[0], bests[0] = none, 0
		row := table[i*columns : (i+1)*columns]
		for j := 1; j < columns; j++ {
			cell := uint8(0)
			pair := int32(none)
			if x[i-1] == y[j-1] {
				pair = lastBests[j-1]
				if follows := lastPairs[j-1] + follow; follows > pair {
					pair, cell = follows, afterPair
				}
				pair += weights[i-1]
				if closedRight && i == len(x) && j == len(y) {
					pair += follow
				}
			}
			best := bests[j-1]
			if lastBests[j] > best {
				best = lastBests[j]
				cell |= fromAbove
			}
			if pair >= best {
				best = pair
				cell |= fromPair
			}
			pairs[j], bests[j], row[j] = pair, best, cell
		}
		pairs, lastPairs = lastPairs, pairs
		bests, lastBests = lastBests, bests
	}
	var found [][2]int
	inPair := false
	for i, j := len(x), len(y); i > 0 && j > 0; {
		cell := table[i*columns+j]
		switch {
		case inPair || cell&fromPair != 0:
			found = append(found, [2]int{i - 1, j - 1})
			inPair = cell&afterPair != 0
			i, j = i-1, j-1
		case cell&fromAbove != 0:
			i--
		default:
			j--
		}
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found
}
