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
	Offset     int64 // bytes of the decompressed file before it
	Line       int64 // complete lines before it
	Item       int64 // number of the last item before it, 0 at the start
	Compressed bool  // whether the upload is compressed, so that a resumed one must begin with its first byte
	// Hash is the state of a SHA-256 over the decompressed bytes before the position, as crypto/sha256 marshals it; nil
	// at the start.
	Hash []byte
}

// Digest returns the SHA-256 of the decompressed bytes before the position, by which the sender of an upload that is not
// compressed proves that it still has the same file.
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
