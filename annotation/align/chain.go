package align

import (
	"cmp"
	"slices"
)

// chain returns the blocks of greatest total length that come in the same order in both texts, cut where they overlap.
func (a *aligner) chain(blocks []block) []block {
	if len(blocks) == 0 {
		return nil
	}
	slices.SortFunc(blocks, func(x, y block) int { return cmp.Or(cmp.Compare(x.item, y.item), cmp.Compare(x.doc, y.doc)) })
	// Blocks may overlap a little, as where a letter is doubled. They count as shorter by a part on either side.
	inner := func(b block) (item, doc, itemEnd, docEnd int) {
		margin := min(b.length/4, 8)
		return b.item + margin, b.doc + margin, b.item + b.length - margin, b.doc + b.length - margin
	}
	ends := make([]int, len(blocks)) // blocks by where they end in the item
	docEnds := make([]int, len(blocks))
	for i := range blocks {
		ends[i] = i
		_, _, _, docEnds[i] = inner(blocks[i])
	}
	itemEnd := func(i int) int { _, _, end, _ := inner(blocks[i]); return end }
	slices.SortStableFunc(ends, func(i, j int) int { return cmp.Compare(itemEnd(i), itemEnd(j)) })
	slices.Sort(docEnds)
	docEnds = slices.Compact(docEnds)

	begins := slices.Clone(ends)
	itemBegin := func(i int) int { begin, _, _, _ := inner(blocks[i]); return begin }
	slices.SortStableFunc(begins, func(i, j int) int { return cmp.Compare(itemBegin(i), itemBegin(j)) })

	best := make([]int, len(docEnds)+1) // a Fenwick tree: the block, from 1, that ends the best chain up to a place in the document
	total, before := make([]int, len(blocks)), make([]int, len(blocks))
	better := func(i, j int) int { // of chains by their last block, from 1
		if j == 0 || i > 0 && total[i-1] >= total[j-1] {
			return i
		}
		return j
	}
	done, last := 0, 0
	for _, i := range begins {
		item, doc, _, _ := inner(blocks[i])
		for ; done < len(ends) && itemEnd(ends[done]) <= item; done++ {
			_, _, _, end := inner(blocks[ends[done]])
			at, _ := slices.BinarySearch(docEnds, end)
			for at++; at < len(best); at += at & -at {
				best[at] = better(best[at], ends[done]+1)
				a.work++
			}
		}
		at, found := slices.BinarySearch(docEnds, doc)
		if found {
			at++
		}
		for ; at > 0; at -= at & -at {
			before[i] = better(before[i], best[at])
			a.work++
		}
		total[i] = blocks[i].length
		if before[i] > 0 {
			total[i] += total[before[i]-1]
		}
		last = better(last, i+1)
	}
	var chained []block
	for ; last > 0; last = before[last-1] {
		chained = append(chained, blocks[last-1])
	}
	slices.Reverse(chained)
	return a.separate(chained)
}

// separate cuts off what blocks in order have in common with a longer one beside them.
func (a *aligner) separate(blocks []block) []block {
	kept := blocks[:0]
	for _, b := range blocks {
		for len(kept) > 0 && b.length > 0 {
			last := &kept[len(kept)-1]
			over := max(last.item+last.length-b.item, last.doc+last.length-b.doc, 0)
			if over == 0 {
				break
			}
			if last.length >= b.length {
				b = a.trim(block{b.item + over, b.doc + over, max(b.length-over, 0)})
				break
			}
			if *last = a.trim(block{last.item, last.doc, max(last.length-over, 0)}); last.length > 0 {
				break
			}
			kept = kept[:len(kept)-1]
		}
		if b.length > 0 {
			kept = append(kept, b)
		}
	}
	return kept
}
