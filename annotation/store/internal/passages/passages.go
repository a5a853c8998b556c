// Package passages decides where the text of each item lies in the text of its document. There are two cases: a
// document that a job composes of its own items ([Compose]), and one whose text is given ([Place]). Both are functions
// of the document and of the job's items in order of their numbers: adding the items at once, one by one or in any
// order comes to the same.
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

// Insertion says that a text grew by Length code points before the one that was at At.
type Insertion struct {
	At     int
	Length int
}
