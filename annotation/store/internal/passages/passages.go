// Package passages decides where the text of each item lies in the text of its document: of one that a job composes of
// its own items ([Compose]), of one whose text is given ([Place]), and of one that several jobs compose ([Combine]).
// All are functions of the items in order of jobs and item numbers: adding them at once, one by one or in any order comes
// to the same.
//
// All offsets count code points.
package passages

// Anchor says where the text of an item begins in the text of its document, and how long it is there.
type Anchor struct {
	Item   int64
	Begin  int
	Length int
}

// Item is an item whose place is to be found.
type Item struct {
	Number int64
	Text   string
	Length int // code points of Text
}
