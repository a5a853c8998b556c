package annotation

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What the parts of a discontinuous annotation are called.
const (
	Fragment         = "_FRAGMENT"           // obj of every part but the last
	LexicallyChained = "_lexicallyChainedTo" // pred of the relation by which a part is tied to the one before it
)

// chain is a denotation or block whose span is an array of several parts.
type chain struct {
	in    collection
	last  int         // index of its last part in the item's list
	parts []textRange // those before the last
}

const (
	maxPartSuffix  = 8        // bytes that the number of a part adds to an id, usually at most
	maxPartIDBytes = 64 << 20 // of the ids that the parts of an item's span arrays are given
)

// chainParts adds the parts of span arrays to the item, behind what it was written with, so that an entry's index stays
// what it is. They have no ids yet.
func (p *parser) chainParts() {
	for _, c := range p.chains {
		list := p.spanList(c.in)
		entry := p.positions[c.in][c.last].entry
		for k, r := range c.parts {
			*list = append(*list, Span{Begin: r.begin, End: r.end, Obj: Fragment, Unnamed: true})
			p.positions[c.in] = append(p.positions[c.in], position{entry, k})
			p.item.Relations = append(p.item.Relations, Relation{Pred: LexicallyChained})
		}
		p.fragments[c.in] += len(c.parts)
	}
}

// nameParts gives ids to the parts of span arrays, made of that of the last part and numbers from 1 over those in use,
// and ties each part to the one before it. All other denotations and blocks must have ids.
func (p *parser) nameParts(inUse func(id string) bool) {
	relation := len(p.item.Relations) - p.fragments[denotations] - p.fragments[blocks]
	next := [2]int{len(p.item.Denotations) - p.fragments[denotations], len(p.item.Blocks) - p.fragments[blocks]}
	for _, c := range p.chains {
		list := *p.spanList(c.in)
		before, number := "", 0
		for range c.parts {
			id := ""
			for id == "" || inUse(id) {
				number++
				id = DeriveID(list[c.last].ID, "-"+strconv.Itoa(number))
			}
			list[next[c.in]].ID = id
			if before != "" {
				p.tie(&relation, id, before)
			}
			before = id
			next[c.in]++
		}
		p.tie(&relation, list[c.last].ID, before)
	}
}

func (p *parser) tie(relation *int, later, earlier string) {
	p.item.Relations[*relation].Subj, p.item.Relations[*relation].Obj = later, earlier
	*relation++
}

// Parts returns where the parts of span arrays, but the last ones, stand in the item as it was written, by their ids: paths
// like "denotations[3].span[0]". Of an item that Parse did not return it knows nothing.
func (it *Item) Parts() map[string]string {
	before, followed := make(map[string]string), make(map[string]bool)
	for _, r := range it.Relations {
		if r.Unnamed && r.Pred == LexicallyChained {
			before[r.Subj], followed[r.Obj] = r.Obj, true
		}
	}
	parts := make(map[string]string, len(before))
	for c, list := range [...][]Span{denotations: it.Denotations, blocks: it.Blocks} {
		for i, s := range list {
			if followed[s.ID] {
				continue
			}
			var chain []string
			for id := before[s.ID]; id != ""; id = before[id] {
				chain = append(chain, id)
			}
			for k, id := range chain {
				parts[id] = atPart(collection(c), i, len(chain)-1-k, "").String()
			}
		}
	}
	return parts
}

// maxDerivedSuffix is the longest suffix, in bytes, that DeriveID takes.
const maxDerivedSuffix = 64

// DeriveID returns an id made of another one and a suffix of at most 64 bytes. If that could be too long for an id, the
// other one is cut, and the beginning of its hash tells it from those that begin alike.
func DeriveID(id, suffix string) string {
	const room = MaxIDBytes - maxDerivedSuffix
	if len(id) <= room {
		return id + suffix
	}
	hash := sha256.Sum256([]byte(id))
	distinct := "~" + hex.EncodeToString(hash[:8])
	cut := room - len(distinct)
	for !utf8.RuneStart(id[cut]) {
		cut--
	}
	return strings.Join([]string{id[:cut], distinct, suffix}, "")
}
