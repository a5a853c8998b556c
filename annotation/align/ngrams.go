package align

import (
	"math/bits"
	"slices"
	"strings"
)

// rare is how often an n-gram may occur in a document to be an anchor.
const rare = 8

// ngrams finds the places of rare n-grams of a stretch of a document. Of each window of n-grams only the one with the least
// hash is in it, in the document as in what is looked for, so that what both have in common for long enough is found.
type ngrams struct {
	n      int
	window int
	shift  uint
	heads  []uint32 // by bucket: the number of its last entry, from 1; 0: none
	counts []uint8  // by bucket, up to rare+1
	next   []uint32 // by entry
	places []uint32 // by entry
}

// lengthOf returns the length of n-grams that are mostly rare in a text of a length, in bytes.
func lengthOf(text int) int { return min(max(bits.Len(uint(text))/2+3, 6), 16) }

// newNgrams indexes canon[begin:end].
func newNgrams(canon string, begin, end int) *ngrams {
	length := end - begin
	x := &ngrams{n: lengthOf(length), window: 1}
	switch {
	case length > 1<<20:
		x.window = 8
	case length > 1<<15:
		x.window = 4
	}
	expected := 2*length/(x.window+1) + 1
	x.shift = uint(64 - bits.Len(uint(expected)))
	x.heads, x.counts = make([]uint32, 1<<(64-x.shift)), make([]uint8, 1<<(64-x.shift))
	x.next, x.places = make([]uint32, 0, expected), make([]uint32, 0, expected)
	for at, hash := range x.of(canon, begin, end) {
		bucket := hash >> x.shift
		if x.counts[bucket]++; x.counts[bucket] > rare {
			x.counts[bucket] = rare + 1
			continue
		}
		x.next, x.places = append(x.next, x.heads[bucket]), append(x.places, uint32(at))
		x.heads[bucket] = uint32(len(x.places))
	}
	return x
}

// find returns the places, in order, where canon, all of which is indexed, has a part. It returns false if the index does
// not tell: if nothing of the part is rare, or it is short.
func (x *ngrams) find(canon, part string) ([]int, bool) {
	if len(part) < x.n+x.window-1 {
		return nil, false
	}
	for at, hash := range x.of(part, 0, len(part)) {
		bucket := hash >> x.shift
		if x.counts[bucket] > rare {
			continue
		}
		// The same windows choose the same n-grams: where the part is, this one is in the index.
		var places []int
		for e := x.heads[bucket]; e > 0; e = x.next[e-1] {
			if begin := int(x.places[e-1]) - at; begin >= 0 && strings.HasPrefix(canon[begin:], part) {
				places = append(places, begin)
			}
		}
		slices.Sort(places)
		return places, true
	}
	return nil, false
}

// of yields the place and the hash of the chosen n-grams of text[begin:end].
func (x *ngrams) of(text string, begin, end int) func(yield func(int, uint64) bool) {
	const base, mix = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
	return func(yield func(int, uint64) bool) {
		if end-begin < x.n {
			return
		}
		out, hash := uint64(1), uint64(0)
		for range x.n {
			out *= base
		}
		var ring [8]uint64 // the hashes of the last n-grams, by place modulo its length
		least, seen := begin, 0
		chosen := -1
		for i := begin; i < end; i++ {
			hash = hash*base + uint64(text[i]) + 1
			if i-begin >= x.n {
				hash -= out * (uint64(text[i-x.n]) + 1)
			}
			at := i - x.n + 1
			if at < begin {
				continue
			}
			h := hash ^ hash>>29
			h *= mix
			h ^= h >> 32
			h *= mix
			ring[at&7] = h
			seen++
			switch {
			case seen == 1 || h <= ring[least&7]:
				least = at
			case least <= at-x.window:
				least = at
				for j := at - 1; j > at-x.window; j-- {
					if ring[j&7] < ring[least&7] {
						least = j
					}
				}
			}
			if seen < x.window && i+1 < end || least == chosen {
				continue
			}
			chosen = least
			if !yield(least, ring[least&7]) {
				return
			}
		}
	}
}

// block is a stretch of a document's folded form that equals one of an item's.
type block struct{ item, doc, length int }

// diagonal tells which blocks lie side by side.
func (b block) diagonal() int { return b.doc - b.item }

// common returns the longest blocks that item[begin:end] has in common with doc[from:to], which is indexed, as far as they
// hold a rare n-gram.
func (a *aligner) common(x *ngrams, begin, end, from, to int) []block {
	var blocks []block
	reached := make(map[int]int) // by diagonal: the end of its last block
	last, passed := block{}, 0
	for at, hash := range x.of(a.item.canon[:end], begin, end) {
		bucket := hash >> x.shift
		a.work++
		if at+x.n <= passed || x.counts[bucket] > rare {
			continue
		}
		for e := x.heads[bucket]; e > 0; e = x.next[e-1] {
			place := int(x.places[e-1])
			a.work++
			if last.length > 0 && place-at == last.diagonal() && at < last.item+last.length {
				continue
			}
			if place < from || place+x.n > to || at < reached[place-at] || a.item.canon[at:at+x.n] != a.doc.canon[place:place+x.n] {
				continue
			}
			last = a.grow(block{at, place, x.n}, max(begin, reached[place-at]), end, from, to)
			reached[place-at] = last.item + last.length
			if last = a.trim(last); last.length > 0 {
				blocks = append(blocks, last)
			}
			if last.length >= long {
				passed = max(passed, last.item+last.length)
			}
			if a.growth -= last.length; a.growth < 0 || len(blocks) > blocksBase+(end-begin)/blocksEach {
				return blocks
			}
		}
	}
	return blocks
}

// long is the length of a block inside of which no others are looked for: one that is longer reaches out of it and is found
// there.
const long = 256

// grow extends a block to both sides.
func (a *aligner) grow(b block, begin, end, from, to int) block {
	item, doc := a.item.canon, a.doc.canon
	for b.item > begin && b.doc > from && item[b.item-1] == doc[b.doc-1] {
		b.item, b.doc, b.length = b.item-1, b.doc-1, b.length+1
	}
	for b.item+b.length < end && b.doc+b.length < to && item[b.item+b.length] == doc[b.doc+b.length] {
		b.length++
	}
	a.work += b.length
	return b
}

// trim leaves out what a block holds of characters that it does not hold as a whole.
func (a *aligner) trim(b block) block {
	canon := a.item.canon
	for b.length > 0 && continues(canon, b.item) {
		b.item, b.doc, b.length = b.item+1, b.doc+1, b.length-1
	}
	for b.length > 0 && continues(canon, b.item+b.length) {
		b.length--
	}
	return b
}

// continues reports whether the byte at a place is inside of a character.
func continues(text string, at int) bool { return at < len(text) && text[at]&0xC0 == 0x80 }
