package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/store"
)

const tokenColumns = "SELECT id, name, hash, role, projects, created_at, expires_at, revoked_at FROM tokens"

func scanToken(row scanner) (t store.Token, err error) {
	var projects []byte
	var created, expires, revoked sql.NullInt64
	if err := row.Scan(&t.ID, &t.Name, &t.Hash, &t.Role, &projects, &created, &expires, &revoked); err != nil {
		return t, err
	}
	t.CreatedAt, t.ExpiresAt, t.RevokedAt = moment(created), moment(expires), moment(revoked)
	t.Valid = t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || t.ExpiresAt.After(time.Now()))
	if err := json.Unmarshal(projects, &t.Projects); err != nil {
		return t, fmt.Errorf("read projects of token %d: %w", t.ID, err)
	}
	return t, nil
}

// CreateToken implements store.Tokens.
func (s *Store) CreateToken(ctx context.Context, n store.Token, lifetime time.Duration) (t store.Token, err error) {
	err = s.write(ctx, settling, func(x *tx) error {
		now := time.Now().UTC()
		var expires time.Time
		if lifetime > 0 {
			expires = now.Add(lifetime)
		}
		err := x.exec(`INSERT INTO tokens (name, hash, role, projects, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (hash) DO NOTHING`, store.CleanText(n.Name, store.MaxName), n.Hash, n.Role, texts(append([]string{}, n.Projects...)),
			micros(now), micros(expires))
		if err != nil {
			return err
		}
		t, err = only(collect(x, scanToken, tokenColumns+" WHERE hash = ?", n.Hash))
		return err
	})
	return t, wrap("create token", err)
}

// only returns the only one of a list.
func only(list []store.Token, err error) (store.Token, error) {
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Token{}, err
	}
	return list[0], nil
}

// ListTokens implements store.Tokens.
func (s *Store) ListTokens(ctx context.Context, all bool, page store.Page) (list []store.Token, err error) {
	query, args := tokenColumns+" WHERE true", []any{}
	if page.After > 0 {
		query, args = query+" AND id < ?", append(args, page.After)
	}
	if !all {
		query, args = query+" AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)", append(args, micros(time.Now()))
	}
	err = s.read(ctx, func(q *snapshot) (err error) {
		list, err = collect(q, scanToken, query+" ORDER BY id DESC LIMIT ?", append(args, max(page.Size, 1))...)
		return err
	})
	return list, wrap("list tokens", err)
}

// RevokeToken implements store.Tokens.
func (s *Store) RevokeToken(ctx context.Context, id int64) (t store.Token, err error) {
	err = s.write(ctx, settling, func(x *tx) error {
		if err := x.exec("UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", micros(time.Now()), id); err != nil {
			return err
		}
		t, err = only(collect(x, scanToken, tokenColumns+" WHERE id = ?", id))
		return err
	})
	return t, wrap("revoke token", err)
}

// ValidTokens implements store.Tokens.
func (s *Store) ValidTokens(ctx context.Context, hashes [][]byte) (valid []store.Token, err error) {
	err = s.read(ctx, func(q *snapshot) error {
		valid = nil
		for _, hash := range hashes {
			list, err := collect(q, scanToken, tokenColumns+" WHERE hash = ?", hash)
			if err != nil {
				return err
			}
			if len(list) > 0 && list[0].Valid {
				valid = append(valid, list[0])
			}
		}
		return nil
	})
	return valid, wrap("read tokens", err)
}
