// Package payload keeps the items of a batch as one zstd frame: compressed once at ingest, stored and shipped as it is,
// unpacked where the items are needed. Server and workers share it.
//
// A frame decompresses to
//
//	data      the bytes of all items, one after another
//	metadata  varints: number of items; table of file names; table of documents; then for each item
//	          number (delta), file (index), line and byte offset (deltas within the file), document
//	          (index, 0 is none), bytes kept, bytes cut off
//	footer    length of the metadata (4 bytes, little-endian), format version (1 byte)
//
// Results that handlers made of a batch's items are kept the same way, in frames of their own: the values, one after
// another, then the number of results and for each its position (from the end of the one before), the number of its items
// less one, and the bytes of its value.
//
// The metadata comes last, so that an encoder copies each item once and needs to know nothing in advance. Frames are
// checksummed by zstd. Everything read from a frame is checked: a hostile frame gives an error, never a panic, and never
// more memory than the limit given and a fixed amount for each of at most MaxItems items.
package payload
