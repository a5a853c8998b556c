package store

import (
	"context"
	"time"
)

// Token is a credential, as it is kept: its hash instead of itself.
type Token struct {
	ID        int64
	Name      string // whose it is
	Hash      []byte // SHA-256
	Role      string
	Projects  []string // that its holder is confined to; empty for all
	CreatedAt time.Time
	ExpiresAt time.Time // zero for never
	RevokedAt time.Time // zero unless it was revoked
	Valid     bool      // neither revoked nor expired, by the database's clock
}

// Tokens are the credentials of clients and workers.
type Tokens interface {
	// CreateToken keeps a token, valid for so long, or for ever with 0. One with the same hash is returned as it is.
	CreateToken(ctx context.Context, t Token, lifetime time.Duration) (Token, error)
	// ListTokens returns tokens, newest first: those that are valid or, with all, also what was revoked or has expired.
	ListTokens(ctx context.Context, all bool, page Page) ([]Token, error)
	// RevokeToken makes a token invalid for ever. One that is revoked is returned as it is. ErrNotFound.
	RevokeToken(ctx context.Context, id int64) (Token, error)
	// ValidTokens returns those of the tokens with these hashes that are valid, in no order.
	ValidTokens(ctx context.Context, hashes [][]byte) ([]Token, error)
}
