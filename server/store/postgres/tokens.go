package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/store"
)

const tokenColumns = `id, name, hash, role, projects, created_at, expires_at, revoked_at,
    revoked_at IS NULL AND coalesce(expires_at > clock_timestamp(), true)`

func scanToken(row pgx.CollectableRow) (t store.Token, err error) {
	var expires, revoked *time.Time
	err = row.Scan(&t.ID, &t.Name, &t.Hash, &t.Role, &t.Projects, &t.CreatedAt, &expires, &revoked, &t.Valid)
	t.ExpiresAt, t.RevokedAt = timeOf(expires), timeOf(revoked)
	return t, err
}

const (
	insertToken = `
INSERT INTO tokens (name, hash, role, projects, created_at, expires_at)
VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + $5::interval)
ON CONFLICT (hash) DO NOTHING`
	selectTokens = `SELECT ` + tokenColumns + ` FROM tokens WHERE hash = ANY ($1::bytea[])`
	listTokens   = `SELECT ` + tokenColumns + ` FROM tokens
WHERE id < $1 AND ($3 OR revoked_at IS NULL AND coalesce(expires_at > clock_timestamp(), true))
ORDER BY id DESC LIMIT $2`
	revokeToken = `UPDATE tokens SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL`
	selectToken = `SELECT ` + tokenColumns + ` FROM tokens WHERE id = $1`
)

func (s *Store) tokens(ctx context.Context, what, sql string, args ...any) ([]store.Token, error) {
	var list []store.Token
	err := s.call(ctx, what, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanToken)
		return err
	})
	return list, err
}

// CreateToken implements store.Tokens.
func (s *Store) CreateToken(ctx context.Context, t store.Token, lifetime time.Duration) (store.Token, error) {
	var valid *time.Duration
	if lifetime > 0 {
		valid = &lifetime
	}
	err := s.write(ctx, "create token", func(ctx context.Context, x *tx) error {
		x.queue(insertToken, store.CleanText(t.Name, store.MaxName), t.Hash, t.Role, append([]string{}, t.Projects...), valid)
		return nil
	})
	if err != nil {
		return store.Token{}, err
	}
	return s.token(s.tokens(ctx, "read token", selectTokens, [][]byte{t.Hash}))
}

// token returns the only one of a list.
func (s *Store) token(list []store.Token, err error) (store.Token, error) {
	if err != nil {
		return store.Token{}, err
	}
	if len(list) == 0 {
		return store.Token{}, fmt.Errorf("token: %w", store.ErrNotFound)
	}
	return list[0], nil
}

// ListTokens implements store.Tokens.
func (s *Store) ListTokens(ctx context.Context, all bool, page store.Page) ([]store.Token, error) {
	return s.tokens(ctx, "list tokens", listTokens, before(page), max(page.Size, 1), all)
}

// RevokeToken implements store.Tokens.
func (s *Store) RevokeToken(ctx context.Context, id int64) (store.Token, error) {
	err := s.write(ctx, "revoke token", func(_ context.Context, x *tx) error {
		x.queue(revokeToken, id)
		return nil
	})
	if err != nil {
		return store.Token{}, err
	}
	return s.token(s.tokens(ctx, "read token", selectToken, id))
}

// ValidTokens implements store.Tokens.
func (s *Store) ValidTokens(ctx context.Context, hashes [][]byte) ([]store.Token, error) {
	list, err := s.tokens(ctx, "read tokens", selectTokens, hashes)
	valid := list[:0]
	for _, t := range list {
		if t.Valid {
			valid = append(valid, t)
		}
	}
	return valid, err
}
