// Package ids gives every annotation of a document its id there. An annotation asks for the id that its item gives it;
// where that is taken it asks for others that only depend on it and its item, one after the other. An id goes to the
// one for whom it is the item's own, before any for whom it is a substitute or was made up in the first place, and among
// equals to the one of the earlier job, of the lower item number, that stands first in its item. Everyone asks until somebody lets him have one
// (deferred acceptance, Gale and Shapley 1962); who ends with which id then does not depend on who asks when, so ids are
// a function of the annotations that a document has, whatever order they came in.
package ids

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tallyman-dev/tallyman/annotation"
)

// Class is a set of annotations within which ids are unique.
type Class uint8

// The classes.
const (
	Spans      Class = 1 // denotations and blocks
	Relations  Class = 2
	Attributes Class = 3
)

// String returns the name of the class.
func (c Class) String() string {
	switch c {
	case Spans:
		return "spans"
	case Relations:
		return "relations"
	case Attributes:
		return "attributes"
	default:
		return "class(" + strconv.Itoa(int(c)) + ")"
	}
}

// Name is an id that an annotation may have.
type Name struct {
	Class Class
	ID    string
}

// Claim is an annotation and the id it has.
type Claim struct {
	Class   Class
	Job     int64
	Item    int64
	Block   bool // of Spans: ordinals of denotations and of blocks are counted apart
	Ordinal int
	Given   string // the id in its item
	Unnamed bool   // its author gave it none: Given was made up
	ID      string // the id in the document; of claims that are added it is set when everybody has been settled
	tries   int    // ids refused so far: 0 means that it has its own
	added   bool
	before  string // the id that one which was there came with
}

// Renamed returns the id that a claim which was there before had, and whether it has another now.
func (c *Claim) Renamed() (string, bool) { return c.before, !c.added && c.before != c.ID }

// Name returns the id the claim has.
func (c *Claim) Name() Name { return Name{c.Class, c.ID} }

// own reports whether the id that a claim asks for is the one that its author gave it.
func (c *Claim) own() bool { return c.tries == 0 && !c.Unnamed }

// substitute returns the id that a claim asks for after tries refusals.
func (c *Claim) substitute(tries int) string {
	switch tries {
	case 0:
		return c.Given
	case 1:
		return annotation.DeriveID(c.Given, fmt.Sprintf(".%d", c.Item))
	default:
		return annotation.DeriveID(c.Given, fmt.Sprintf(".%d.%d", c.Item, tries))
	}
}

// resume finds out how many ids a stored claim was refused.
func (c *Claim) resume() error {
	c.before = c.ID
	if c.ID == c.Given {
		return nil
	}
	c.tries = 1
	if rest, ok := strings.CutPrefix(c.ID, c.substitute(1)+"."); ok {
		tries, err := strconv.Atoi(rest)
		if err != nil {
			return fmt.Errorf("id %q is no substitute of %q in item %d", c.ID, c.Given, c.Item)
		}
		c.tries = tries
	}
	if c.substitute(c.tries) != c.ID {
		return fmt.Errorf("id %q is no substitute of %q in item %d", c.ID, c.Given, c.Item)
	}
	return nil
}

// compare is negative if a has the better claim to an id that both ask for.
func compare(a, b *Claim) int {
	return cmp.Or(compareBool(b.own(), a.own()), Order(a, b))
}

// Order is negative if a comes before b: in an earlier job, an item with a lower number, or before it in the item.
func Order(a, b *Claim) int {
	return cmp.Or(
		cmp.Compare(a.Job, b.Job),
		cmp.Compare(a.Item, b.Item),
		compareBool(a.Block, b.Block),
		cmp.Compare(a.Ordinal, b.Ordinal),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Assignment is the ids of one document while annotations are being added. It is not safe for concurrent use.
type Assignment struct {
	empty   bool              // whether nothing was there before
	holders map[Name]*Claim   // nil: known to be free
	waiting map[Name][]*Claim // for ids of which it is not known whether they are taken
	stored  []*Claim          // those that were there before and have been learned
}

// New returns the ids of a document. Empty says that it has no annotations so far.
func New(empty bool) *Assignment {
	return &Assignment{
		empty:   empty,
		holders: make(map[Name]*Claim),
		waiting: make(map[Name][]*Claim),
	}
}

// Add adds an annotation, which asks for its id at once.
func (a *Assignment) Add(c *Claim) {
	c.added, c.tries = true, 0
	a.ask(c)
}

// ask lets a claim ask until it or whoever it displaces holds an id or waits.
func (a *Assignment) ask(c *Claim) {
	for c != nil {
		c.ID = c.substitute(c.tries)
		name := c.Name()
		holder, known := a.holders[name]
		switch {
		case !known && !a.empty:
			a.waiting[name] = append(a.waiting[name], c)
			return
		case holder == nil:
			a.holders[name] = c
			return
		case compare(c, holder) < 0:
			a.holders[name] = c
			holder.tries++
			c = holder
		default:
			c.tries++
		}
	}
}

// Unknown returns the ids of which must be known whether they are taken before all claims can be settled, in order. Tell
// it by Learn, and ask again until there are none.
func (a *Assignment) Unknown() []Name {
	names := make([]Name, 0, len(a.waiting))
	for name := range a.waiting {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b Name) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.ID, b.ID))
	})
	return names
}

// Learn says who has which of the names that Unknown returned; those that none of the stored claims has are free.
func (a *Assignment) Learn(names []Name, stored []*Claim) error {
	for _, name := range names {
		a.holders[name] = nil
	}
	for _, c := range stored {
		if err := c.resume(); err != nil {
			return err
		}
		a.stored = append(a.stored, c)
		a.holders[c.Name()] = c
	}
	for _, name := range names {
		waiting := a.waiting[name]
		delete(a.waiting, name)
		for _, c := range waiting {
			a.ask(c)
		}
	}
	return nil
}

// Holder returns the claim that has an id.
func (a *Assignment) Holder(name Name) *Claim { return a.holders[name] }

// Renamed returns the claims that were there before and now have another id, in order.
func (a *Assignment) Renamed() []*Claim {
	var renamed []*Claim
	for _, c := range a.stored {
		if _, ok := c.Renamed(); ok {
			renamed = append(renamed, c)
		}
	}
	slices.SortFunc(renamed, func(a, b *Claim) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), Order(a, b))
	})
	return renamed
}
