package annotation

import (
	"cmp"
	"container/heap"
	"slices"
)

// checkOverlaps warns of ranges that are probably mistakes.
func (p *parser) checkOverlaps() {
	first := make(map[[2]int]int, len(p.item.Blocks))
	for i, b := range p.item.Blocks {
		if same, ok := first[[2]int{b.Begin, b.End}]; ok {
			p.add(SameRangeBlocks, p.at(blocks, i), "The block has the range of %s, %d to %d.",
				p.at(blocks, same), b.Begin, b.End)
			continue
		}
		first[[2]int{b.Begin, b.End}] = i
	}
	for c, code := range [...]Code{denotations: CrossingSpans, blocks: CrossingBlocks} {
		list := *p.spanList(collection(c))
		for _, pair := range crossings(list) {
			left, right := list[pair.left], list[pair.right]
			at := p.at(collection(c), pair.right)
			at.field = "span"
			p.add(code, at, "The span, %d to %d, crosses the end of %s, %d to %d: they overlap and neither holds the other.",
				right.Begin, right.End, p.at(collection(c), pair.left), left.Begin, left.End)
		}
	}
}

// crossing is a pair of spans of which left begins and ends before right does and ends inside it.
type crossing struct{ left, right int }

// crossings returns one pair for every span that is the right one of some pair, in the order of spans. All pairs could
// be quadratically many. It takes O(n log n) time.
func crossings(spans []Span) []crossing {
	order := make([]int, len(spans))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(spans[a].Begin, spans[b].Begin), cmp.Compare(a, b))
	})
	var found []crossing
	open := endHeap{spans: spans} // spans that begin before the current one and end after its begin
	for len(order) > 0 {
		begin := spans[order[0]].Begin
		for len(open.indexes) > 0 && spans[open.indexes[0]].End <= begin {
			heap.Pop(&open)
		}
		n := 1
		for n < len(order) && spans[order[n]].Begin == begin {
			n++
		}
		for _, i := range order[:n] {
			if len(open.indexes) > 0 && spans[open.indexes[0]].End < spans[i].End {
				found = append(found, crossing{left: open.indexes[0], right: i})
			}
		}
		for _, i := range order[:n] { // spans with one begin do not cross each other
			heap.Push(&open, i)
		}
		order = order[n:]
	}
	slices.SortFunc(found, func(a, b crossing) int { return cmp.Compare(a.right, b.right) })
	return found
}

// endHeap is a heap of indexes of spans, the one that ends first on top.
type endHeap struct {
	spans   []Span
	indexes []int
}

// Len is part of [heap.Interface].
func (h *endHeap) Len() int { return len(h.indexes) }

// Less is part of [heap.Interface].
func (h *endHeap) Less(i, j int) bool {
	a, b := h.indexes[i], h.indexes[j]
	return cmp.Or(cmp.Compare(h.spans[a].End, h.spans[b].End), cmp.Compare(a, b)) < 0
}

// Swap is part of [heap.Interface].
func (h *endHeap) Swap(i, j int) { h.indexes[i], h.indexes[j] = h.indexes[j], h.indexes[i] }

// Push is part of [heap.Interface].
func (h *endHeap) Push(x any) { h.indexes = append(h.indexes, x.(int)) }

// Pop is part of [heap.Interface].
func (h *endHeap) Pop() any {
	last := h.indexes[len(h.indexes)-1]
	h.indexes = h.indexes[:len(h.indexes)-1]
	return last
}
