package ids

import (
	"strconv"

	"github.com/tallyman-dev/tallyman/annotation"
)

// Distinguish gives relations of an item that attributes are about another id where a denotation or block has theirs, since
// the subject of an attribute means these first. Those attributes are given by their indexes; their subjects follow. The
// ids depend on nothing but the item.
func Distinguish(item *annotation.Item, aboutRelations []int) {
	if len(aboutRelations) == 0 {
		return
	}
	spans := make(map[string]bool, len(item.Denotations)+len(item.Blocks))
	for _, list := range [][]annotation.Span{item.Denotations, item.Blocks} {
		for i := range list {
			spans[list[i].ID] = true
		}
	}
	var relations map[string]*annotation.Relation // by the id that they had
	for _, i := range aboutRelations {
		a := &item.Attributes[i]
		if !spans[a.Subj] {
			continue
		}
		if relations == nil {
			relations = make(map[string]*annotation.Relation, len(item.Relations))
			for j := range item.Relations {
				relations[item.Relations[j].ID] = &item.Relations[j]
			}
		}
		r := relations[a.Subj]
		for n := 1; r != nil && r.ID == a.Subj; n++ {
			id := annotation.DeriveID(a.Subj, ".r"+strconv.Itoa(n))
			if _, taken := relations[id]; !taken && !spans[id] {
				r.ID, relations[id] = id, r
			}
		}
		if r != nil {
			a.Subj = r.ID
		}
	}
}
