// Package passages decides where the text of each item lies in the text of its document: of one that a job composes of
// its own items ([Compose]), of one whose text is given ([Place]), and of one that several jobs compose ([Combine]).
// All are functions of the items in order of jobs and item numbers: adding them at once, one by one or in any order comes
// to the same.
//
// All offsets count code points.
package passages

import "github.com/tallyman-dev/tallyman/annotation/align"

// Anchor says where the text of an item begins in the text of its document, and how long it is there.
type Anchor struct {
	Item   int64
	Begin  int
	Length int
	Level  align.Level // how it lies there; 0 is Exact
}

// Item is an item whose place is to be found.
type Item struct {
	Number int64
	Text   string
	Length int // code points of Text

	// Alignment says where it lies in a document that does not hold Text, if that is known and near enough; else nil.
	Alignment *align.Alignment
}
