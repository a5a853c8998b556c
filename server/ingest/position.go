package ingest

import (
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
)

// Position is a place between two items: what lies before it has been read, and nothing after it.
type Position struct {
	Offset   int64    // bytes before it, decompressed, of all files of the upload
	Line     int64    // complete lines of its file before it
	Item     int64    // number of the last item before it, 0 at the start
	Encoding Encoding // how an upload is resumed here
	// Hash is the state of a SHA-256 over the bytes before the position that Offset counts, and the names of the files of
	// an archive, as crypto/sha256 marshals it; nil at the start.
	Hash []byte
}

// Encoding says how an upload is resumed at a position. An upload of any encoding but Plain is sent again from its first
// byte.
type Encoding string

// The encodings. They are stored.
const (
	Plain      Encoding = ""           // JSON Lines: with the byte at Offset
	Compressed Encoding = "compressed" // JSON Lines, compressed: the bytes before Offset are skipped
	Itemized   Encoding = "items"      // anything else: the items up to Item are skipped
)

// Digest returns the SHA-256 of the bytes before the position, by which the sender of a plain upload proves that it still
// has the same file.
func (p Position) Digest() ([sha256.Size]byte, error) {
	var digest [sha256.Size]byte
	h := sha256.New()
	if err := restoreHash(h, p.Hash); err != nil {
		return digest, err
	}
	h.Sum(digest[:0])
	return digest, nil
}

func restoreHash(h hash.Hash, state []byte) error {
	if len(state) == 0 {
		return nil
	}
	u, ok := h.(encoding.BinaryUnmarshaler)
	if !ok {
		return errors.New("restore hash of position: SHA-256 has no readable state")
	}
	if err := u.UnmarshalBinary(state); err != nil {
		return fmt.Errorf("restore hash of position: %w", err)
	}
	return nil
}
