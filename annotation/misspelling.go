package annotation

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// misspelling is a key of an item that is none of the format's and looks like one.
type misspelling struct {
	key   string
	meant string
}

const (
	maxMisspelled = 16 // misspellings that are kept of an item
	maxEdits      = 2  // that make a key look like another
)

// meantKeys are the keys whose misspelling would lose something. Shorter ones are more easily hit by chance, so the
// number of edits that make a key look like them is their own.
var meantKeys = []struct {
	name  string
	edits int
}{
	{"denotations", maxEdits}, {"blocks", 1}, {"relations", maxEdits}, {"attributes", maxEdits},
	{"text", 1}, {"sourcedb", maxEdits}, {"sourceid", 1},
}

// ignoredKeys are those of the format that mean nothing here, whatever they look like.
var ignoredKeys = []string{
	"target", "project", "divid", "section", "source_url", "namespaces", "modifications", "tracks", "config",
}

// unknown notes a key that has no place in the outline, if it looks like one that has.
func (out *outline) unknown(name []byte) {
	if len(out.misspelled) == maxMisspelled || slices.Contains(ignoredKeys, string(name)) {
		return
	}
	for _, meant := range meantKeys {
		if difference := len(name) - len(meant.name); difference < -maxEdits || difference > maxEdits {
			continue
		}
		if edits(strings.ToLower(string(name)), meant.name) <= meant.edits {
			out.misspelled = append(out.misspelled, misspelling{string(name), meant.name})
			return
		}
	}
}

// edits returns how many bytes must be inserted, left out, replaced or swapped with their neighbor to make b of a.
func edits(a, b string) int {
	var before, last []int // the rows above
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, replaced)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// checkMisspelled warns, once, of keys that look like ones which the item lacks: nothing under them is stored.
func (p *parser) checkMisspelled(out *outline) {
	var found []misspelling
	for _, m := range out.misspelled {
		if isAbsent(out.named(m.meant)) {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return
	}
	others := ""
	if n := len(found) - 1; n > 0 {
		others = " The same goes for " + strconv.Itoa(n) + " more."
	}
	path := found[0].key
	if !isPlainKey(path) {
		path = "[" + strconv.Quote(path) + "]"
	}
	p.add(UnknownKey, atPath(path), "The key %s is unknown and its value is not stored. Did you mean %q?%s",
		quote(found[0].key), found[0].meant, others)
}

// named returns the value of a key of the format.
func (out *outline) named(name string) jsontext.Value {
	if c, ok := collectionNamed([]byte(name)); ok {
		return out.collections[c]
	}
	return *out.member([]byte(name))
}
