package ingest

// maxNesting is how deep brackets are told from one another, which is as deep as JSON decoders go. Deeper ones are
// counted only; such a value is bad anyway.
const maxNesting = 10_000

// nesting is the brackets that are open at a place of a JSON text.
type nesting struct {
	arrays []uint64 // a bit for each, set for an array
	depth  int
}

func (n *nesting) reset() { n.depth = 0 }

func (n *nesting) push(array bool) {
	if n.depth < maxNesting {
		i, bit := n.depth/64, uint64(1)<<(n.depth%64)
		if i == len(n.arrays) {
			n.arrays = append(n.arrays, 0)
		}
		if array {
			n.arrays[i] |= bit
		} else {
			n.arrays[i] &^= bit
		}
	}
	n.depth++
}

func (n *nesting) pop() { n.depth-- }

// in reports whether the innermost bracket is open and of a kind.
func (n *nesting) in(array bool) bool { return n.depth > 0 && n.at(n.depth-1, array) }

func (n *nesting) at(i int, array bool) bool {
	return i >= maxNesting || n.arrays[i/64]>>(i%64)&1 == 1 == array
}

// popTo closes the innermost bracket of a kind with all in it; false when there is none.
func (n *nesting) popTo(array bool) bool {
	for i := n.depth - 1; i >= 0; i-- {
		if n.at(i, array) {
			n.depth = i
			return true
		}
	}
	return false
}
