package annotation

// bags is how the chains of an item fold back into span arrays.
type bags struct {
	item *Item
	of   [2][][]int // by the last part's index in denotations or blocks: the indexes of the parts before it, in order
	gone [2][]bool  // denotations and blocks that are parts of arrays now
	tied []bool     // relations that tied them
}

// AppendBaggedJSON is AppendJSON with chains, which is what Parse makes of span arrays, folded back into span arrays: the
// ids of their parts and of the relations that tie them are lost. A chain is folded if it is one exactly: each of its
// parts begins where the one before it ends, or behind, all but the last are labeled [Fragment], each is tied to the one
// before it by one relation [LexicallyChained], and nothing else refers to any of these but to the last part. Which ids
// they have does not matter. Everything else is written as it is. Parse of the result folds to the same result again.
func (it *Item) AppendBaggedJSON(dst []byte) []byte {
	b := it.bags()
	if b == nil {
		return it.AppendJSON(dst)
	}
	dst = it.appendHead(dst)
	for c, list := range [...][]Span{denotations: it.Denotations, blocks: it.Blocks} {
		dst = appendEntries(dst, collection(c), len(list), b.gone[c], func(dst []byte, i int) []byte {
			return b.appendSpan(dst, list, i, b.of[c][i])
		})
	}
	dst = appendEntries(dst, relations, len(it.Relations), b.tied, it.appendRelation)
	dst = appendEntries(dst, attributes, len(it.Attributes), nil, it.appendAttribute)
	return append(dst, '}')
}

func (b *bags) appendSpan(dst []byte, list []Span, i int, parts []int) []byte {
	s := &list[i]
	if len(parts) == 0 {
		return appendSpan(dst, s)
	}
	dst = append(appendString(append(dst, `{"id":`...), s.ID), `,"span":[`...)
	for _, at := range parts {
		dst = append(appendRange(dst, &list[at]), ',')
	}
	return appendString(append(appendRange(dst, s), `],"obj":`...), s.Obj)
}

// link is what is known of a denotation or block as a part of a chain.
type link struct {
	in        collection
	index     int
	before    *link // that it is tied to
	relation  int   // by which it is
	ties      int   // that it is tied by
	followers int   // that are tied to it
	used      bool  // something else refers to it or to its tie
}

// bags returns nil if there are no chains.
func (it *Item) bags() *bags {
	chained := false
	for i := range it.Relations {
		chained = chained || it.Relations[i].Pred == LexicallyChained
	}
	if !chained {
		return nil
	}
	links := it.links()
	b := &bags{item: it, tied: make([]bool, len(it.Relations))}
	for c, list := range [...][]Span{denotations: it.Denotations, blocks: it.Blocks} {
		b.of[c], b.gone[c] = make([][]int, len(list)), make([]bool, len(list))
		for i := range list {
			b.fold(list, links[list[i].ID])
		}
	}
	return b
}

// links finds out what refers to what.
func (it *Item) links() map[string]*link {
	links := make(map[string]*link, len(it.Denotations)+len(it.Blocks))
	for c, list := range [...][]Span{denotations: it.Denotations, blocks: it.Blocks} {
		for i := range list {
			links[list[i].ID] = &link{in: collection(c), index: i}
		}
	}
	use := func(id string) bool {
		l := links[id]
		if l != nil {
			l.used = true
		}
		return l != nil
	}
	ties := make(map[string]*link)
	for i := range it.Relations {
		r := &it.Relations[i]
		later, earlier := links[r.Subj], links[r.Obj]
		if r.Pred != LexicallyChained || later == nil || earlier == nil || later.in != earlier.in {
			use(r.Subj)
			use(r.Obj)
			continue
		}
		later.before, later.relation = earlier, i
		later.ties++
		earlier.followers++
		ties[r.ID] = later
	}
	for i := range it.Attributes {
		subj := it.Attributes[i].Subj
		if tie := ties[subj]; !use(subj) && tie != nil {
			tie.before.used = true // the part before would be gone, and the tie with it
		}
	}
	return links
}

// fold folds the chain that ends with a link, if one does.
func (b *bags) fold(list []Span, last *link) {
	if last.followers > 0 || last.ties != 1 {
		return
	}
	var parts []*link
	for l := last; l.ties > 0; l = l.before {
		before := l.before
		if l.ties > 1 || before.followers > 1 || before.used ||
			list[before.index].Obj != Fragment || list[before.index].End > list[l.index].Begin {
			return
		}
		parts = append(parts, before)
	}
	indexes := make([]int, len(parts))
	later := last
	for i, l := range parts {
		indexes[len(parts)-1-i] = l.index
		b.gone[l.in][l.index] = true
		b.tied[later.relation] = true
		later = l
	}
	b.of[last.in][last.index] = indexes
}
