package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/token"
)

// Tokens are those of a database: who can open it may make some. Coordinators that serve it learn of what changes within
// seconds.
type Tokens struct{ store store.Store }

// OpenTokens opens the tokens of the database of a configuration. The caller closes them.
func OpenTokens(ctx context.Context, cfg Config) (*Tokens, error) {
	st, err := openStore(ctx, cfg.withDefaults())
	if err != nil {
		return nil, err
	}
	return &Tokens{st}, nil
}

// Close closes the database.
func (t *Tokens) Close() error { return t.store.Close() }

// NewToken says what a token is to be. Projects and Lifetime may be empty: all, and for ever.
type NewToken struct {
	Name     string
	Role     access.Role
	Projects []string
	Lifetime time.Duration
}

var (
	tokenName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	tokenProject = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)
)

// Validate reports what is wrong.
func (n *NewToken) Validate() error {
	if !tokenName.MatchString(n.Name) {
		return fmt.Errorf("name %q: must be 1 to 64 letters, digits and . _ @ -, beginning with a letter or digit", n.Name)
	}
	if _, err := access.ParseRole(string(n.Role)); err != nil {
		return err
	}
	if len(n.Projects) > 0 && !n.Role.Confined() {
		return fmt.Errorf("a %s cannot be confined to projects: it works for all of them", n.Role)
	}
	for _, p := range n.Projects {
		if !tokenProject.MatchString(p) {
			return fmt.Errorf("project %q: is not the name of one", p)
		}
	}
	if n.Lifetime < 0 {
		return errors.New("the lifetime must not be negative")
	}
	return nil
}

// Create makes a token and returns it, once: nobody can find it out later.
func (t *Tokens) Create(ctx context.Context, n NewToken) (secret string, kept store.Token, err error) {
	if err := n.Validate(); err != nil {
		return "", kept, err
	}
	secret = token.New()
	kept, err = t.store.CreateToken(ctx, store.Token{
		Name: n.Name, Hash: token.Hash(secret), Role: string(n.Role), Projects: n.Projects,
	}, n.Lifetime)
	return secret, kept, err
}

// tokensPage is how many tokens are read at once.
const tokensPage = 500

// List returns the tokens that are valid or, with all, also what was revoked or has expired, newest first.
func (t *Tokens) List(ctx context.Context, all bool) ([]store.Token, error) {
	var list []store.Token
	for page := (store.Page{Size: tokensPage}); ; page.After = list[len(list)-1].ID {
		some, err := t.store.ListTokens(ctx, all, page)
		if err != nil {
			return nil, err
		}
		if list = append(list, some...); len(some) < page.Size {
			return list, nil
		}
	}
}

// Revoke makes a token invalid for ever. store.ErrNotFound.
func (t *Tokens) Revoke(ctx context.Context, id int64) (store.Token, error) {
	return t.store.RevokeToken(ctx, id)
}
