package payload

// Item is one item of an upload with its place there.
type Item struct {
	// Number counts the items of the upload from 1. In a frame it strictly grows; gaps are allowed.
	Number int64
	// File is the name of the file as uploaded.
	File string
	// Line is the line of the item's first byte, from 1.
	Line int64
	// Offset is the byte offset of the item's first byte in the decompressed file.
	Offset int64
	// Document is the canonical key of the item's document, "" where it has none.
	Document string
	// Data holds the item's bytes as uploaded, but that an item spread over lines has spaces in place of its line ends; when
	// the item is truncated, the first of them.
	Data []byte
	// Length is the item's size in bytes in the upload. It exceeds len(Data) exactly when the item is truncated.
	Length int64
}

// Truncated reports whether Data holds only the beginning of the item.
func (it *Item) Truncated() bool { return it.Length > int64(len(it.Data)) }
