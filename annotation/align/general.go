package align

import (
	"cmp"
	"slices"
	"unicode/utf8"
)

// The bounds of the general level.
const (
	depths     = 3       // how often what lies between anchors is looked into for further anchors
	gapArea    = 1 << 19 // bytes of one times those of the other text of a gap that is compared token by token
	cellsBase  = 1 << 20 // cells of tables that an item may fill
	cellsEach  = 64      // for each of its bytes besides
	growthBase = 1 << 16 // bytes of blocks that are looked at
	growthEach = 64      // for each byte of an item besides
	blocksBase = 1 << 10 // blocks to choose from
	blocksEach = 4       // bytes of an item for each one more
	rounds     = 4       // how often what is left of an item is looked for elsewhere in the document
	leastRound = 32      // bytes of an item's rest that is worth it
	windowBase = 128     // bytes beside an anchor that are compared with a gap of the item
	windowEach = 2       // for each byte of the gap besides
)

// aligner aligns one item at the general level.
type aligner struct {
	doc     *folded
	item    *folded
	index   *ngrams // of the whole document
	blocks  []block // of the run that is under way
	work    int     // elementary steps
	cells   int     // that may still be filled
	growth  int     // bytes of blocks that may still be looked at
	table   []uint8
	scratch [4][]int32
}

// gap is a stretch of an item and one of a document that are to be aligned. An edge that is open has no anchor beside it.
type gap struct {
	begin, end          int // of the item
	from, to            int // of the document
	openLeft, openRight bool
}

// align returns the blocks that the item and the document have in common, in order of the item.
func (a *aligner) align() []block {
	a.cells = cellsBase + cellsEach*len(a.item.canon)
	a.growth = growthBase + growthEach*len(a.item.canon)
	length := len(a.item.canon)
	all := a.anchors(0, length)
	tried := make(map[gap]bool)
	for range rounds {
		var more []block
		for i := range len(all) + 1 {
			rest := gap{begin: 0, end: length}
			if i > 0 {
				rest.begin = all[i-1].item + all[i-1].length
			}
			if i < len(all) {
				rest.end = all[i].item
			}
			if rest.end-rest.begin < leastRound || len(all) == 0 || tried[rest] {
				continue
			}
			tried[rest] = true
			if found := a.anchors(rest.begin, rest.end); 2*a.weigh(found) >= a.item.visible(rest.begin, rest.end) {
				more = append(more, found...)
			}
		}
		if len(more) == 0 {
			break
		}
		all = append(all, more...)
		slices.SortFunc(all, func(x, y block) int { return cmp.Compare(x.item, y.item) })
	}
	whole := gap{0, length, 0, len(a.doc.canon), true, true}
	switch {
	case len(all) > 0:
		a.between(whole, all, 0)
	case length*len(a.doc.canon) <= gapArea:
		a.tokenwise(whole)
	default:
		a.ends(whole)
	}
	return a.regrow(a.clean(whole, a.blocks, ofBoth))
}

// weigh returns how many bytes outside white space blocks hold.
func (a *aligner) weigh(blocks []block) int {
	n := 0
	for _, b := range blocks {
		n += a.item.visible(b.item, b.item+b.length)
	}
	return n
}

// anchors returns the blocks around rare n-grams that a stretch of the item and the whole document have in common in one
// order.
func (a *aligner) anchors(begin, end int) []block {
	length := len(a.doc.canon)
	return a.clean(gap{begin, end, 0, length, true, true}, a.chain(a.common(a.index, begin, end, 0, length)), ofItem)
}

// ofItem returns how much of the item lies between two blocks.
func ofItem(left, right block) int { return right.item - left.item - left.length }

// ofBoth returns how much of either text lies between two blocks; one that was only added to the other does not count.
func ofBoth(left, right block) int {
	if doc := right.doc - left.doc - left.length; doc >= 0 {
		return min(doc, ofItem(left, right))
	}
	return ofItem(left, right)
}

// ends takes what an item without anchors has in common with the beginning and the end of the document.
func (a *aligner) ends(g gap) {
	left := a.trim(a.grow(block{g.begin, g.from, 0}, g.begin, g.end, g.from, g.to))
	a.add(left)
	end := block{g.end, g.to, 0}
	a.add(a.trim(a.grow(end, g.begin+left.length, g.end, g.from+left.length, g.to)))
}

// add takes a block that comes behind those before it in both texts.
func (a *aligner) add(b block) {
	if b.length <= 0 {
		return
	}
	if n := len(a.blocks); n > 0 {
		if last := &a.blocks[n-1]; last.item+last.length == b.item && last.diagonal() == b.diagonal() {
			last.length += b.length
			return
		}
	}
	a.blocks = append(a.blocks, b)
}

// between takes anchors, which lie in order of the item in a gap, and fills what lies between them. Where the document has
// two of them in another order, what lies between them is looked for behind the first and before the second.
func (a *aligner) between(g gap, anchors []block, depth int) {
	left := block{g.begin, g.from, 0}
	openLeft := g.openLeft
	for _, b := range anchors {
		if b = a.words(b); b.length == 0 {
			continue
		}
		a.fillBetween(g, left, b, openLeft, false, depth+1)
		a.add(b)
		left, openLeft = b, false
	}
	a.fillBetween(g, left, block{g.end, g.to, 0}, openLeft, g.openRight, depth+1)
}

func (a *aligner) fillBetween(g gap, left, right block, openLeft, openRight bool, depth int) {
	between := gap{left.item + left.length, right.item, left.doc + left.length, right.doc, openLeft, openRight}
	if between.from <= between.to {
		a.fill(between, depth)
		return
	}
	behind, before := between, between
	behind.to, behind.openRight = g.to, true
	from := len(a.blocks)
	a.fill(behind, depth)
	if n := len(a.blocks); n > from {
		before.begin = a.blocks[n-1].item + a.blocks[n-1].length
	}
	before.from, before.openLeft = g.from, true
	a.fill(before, depth)
}

// words leaves out what a block holds of words that it does not hold as a whole in both texts, so that these are compared
// as a whole, unless they are very long.
func (a *aligner) words(b block) block {
	item, doc := a.item.canon, a.doc.canon
	inside := func(i, j int) bool { return inWord(item, i) || inWord(doc, j) }
	left, right := 0, 0
	for left < longestToken && left < b.length && inside(b.item+left, b.doc+left) {
		left++
	}
	if left == longestToken {
		left = 0
	}
	for right < longestToken && right < b.length && inside(b.item+b.length-right, b.doc+b.length-right) {
		right++
	}
	if right == longestToken {
		right = 0
	}
	b.item, b.doc, b.length = b.item+left, b.doc+left, max(b.length-left-right, 0)
	return b
}

// inWord reports whether a place lies between two letters or digits of a word.
func inWord(canon string, at int) bool {
	if at <= 0 || at >= len(canon) {
		return false
	}
	if continues(canon, at) {
		return true
	}
	before, _ := utf8.DecodeLastRuneInString(canon[:at])
	behind, _ := utf8.DecodeRuneInString(canon[at:])
	return ofWord(before) && ofWord(behind)
}

// fill aligns what lies in a gap.
func (a *aligner) fill(g gap, depth int) {
	items, docs := g.end-g.begin, g.to-g.from
	if items <= 0 || docs <= 0 || g.openLeft && g.openRight {
		return
	}
	if window := windowBase + windowEach*items; docs > 2*window {
		switch {
		case g.openRight:
			g.to = a.boundary(g.from + window)
		case g.openLeft:
			g.from = a.boundary(g.to - window)
		case items*4*window <= gapArea:
			a.tokenwise(g, a.boundary(g.from+window), a.boundary(g.to-window))
			return
		default:
			left, right := g, g
			left.to, left.openRight = a.boundary(g.from+window), true
			before := len(a.blocks)
			a.fill(left, depth)
			if n := len(a.blocks); n > before {
				right.begin = a.blocks[n-1].item + a.blocks[n-1].length
			}
			right.from, right.openLeft = a.boundary(g.to-window), true
			a.fill(right, depth)
			return
		}
		docs = g.to - g.from
	}
	if items*docs <= gapArea {
		a.tokenwise(g)
		return
	}
	if depth < depths {
		x := newNgrams(a.doc.canon, g.from, g.to)
		a.work += docs
		if chained := a.chain(a.common(x, g.begin, g.end, g.from, g.to)); len(chained) > 0 {
			a.between(g, chained, depth)
			return
		}
	}
	// Nothing of it is rare: what lies next to the anchors may still correspond.
	const side = 512
	left := g
	left.end, left.to, left.openRight = a.itemBoundary(min(g.begin+side, g.end)), a.boundary(min(g.from+side, g.to)), true
	before := len(a.blocks)
	if !g.openLeft {
		a.tokenwise(left)
	}
	right := g
	if n := len(a.blocks); n > before {
		right.begin, right.from = a.blocks[n-1].item+a.blocks[n-1].length, a.blocks[n-1].doc+a.blocks[n-1].length
	}
	right.begin, right.from, right.openLeft = a.itemBoundary(max(right.begin, g.end-side)), a.boundary(max(right.from, g.to-side)), true
	if !g.openRight {
		a.tokenwise(right)
	}
}

// boundary returns the first place from at on where a character of the document begins.
func (a *aligner) boundary(at int) int { return boundary(a.doc.canon, at) }

func (a *aligner) itemBoundary(at int) int { return boundary(a.item.canon, at) }

func boundary(canon string, at int) int {
	for continues(canon, at) {
		at++
	}
	return at
}

// clean leaves out blocks that are not longer than what differs on both of their sides, as differs has it: texts that have nothing to do with
// each other have such in common, too.
func (a *aligner) clean(g gap, blocks []block, differs func(left, right block) int) []block {
	kept := blocks[:0]
	for n := range len(blocks) + 1 {
		next := block{g.end, g.to, 0}
		if n < len(blocks) {
			next = blocks[n]
		}
		for len(kept) > 0 {
			last := kept[len(kept)-1]
			before := block{g.begin, g.from, 0}
			if len(kept) > 1 {
				before = kept[len(kept)-2]
			}
			if a.item.visible(last.item, last.item+last.length) > min(differs(last, next), differs(before, last)) {
				break
			}
			kept = kept[:len(kept)-1]
		}
		if n < len(blocks) {
			kept = append(kept, next)
		}
	}
	return kept
}

// regrow extends blocks into what others left that were there.
func (a *aligner) regrow(blocks []block) []block {
	a.blocks = nil
	for i, b := range blocks {
		begin, from := 0, 0
		if n := len(a.blocks); n > 0 {
			if last := a.blocks[n-1]; last.doc <= b.doc {
				begin, from = last.item+last.length, last.doc+last.length
			} else {
				begin = last.item + last.length
			}
		}
		end, to := len(a.item.canon), len(a.doc.canon)
		if i+1 < len(blocks) {
			if end = blocks[i+1].item; blocks[i+1].doc >= b.doc {
				to = blocks[i+1].doc
			}
		}
		a.add(a.trim(a.grow(b, begin, end, from, to)))
	}
	return a.blocks
}

// What aligning takes at most; a test compares.
const (
	workEach  = 400     // steps for each byte of both folded forms
	workBase  = 2 << 20 // steps besides
	sizeFold  = 24      // bytes for each byte of a document's folded form
	sizePoint = 12      // bytes for each of its code points besides
)
