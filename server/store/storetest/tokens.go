package storetest

import (
	"crypto/sha256"
	"errors"
	"time"

	"github.com/tallyman-dev/tallyman/server/store"
)

// token returns one of that name.
func token(name string) store.Token {
	hash := sha256.Sum256([]byte(name))
	return store.Token{Name: name, Hash: hash[:], Role: "viewer", Projects: []string{}}
}

// create keeps a token.
func (f *fixture) create(t store.Token, lifetime time.Duration) store.Token {
	f.Helper()
	kept, err := f.CreateToken(f.ctx, t, lifetime)
	f.must(err)
	return kept
}

// valid returns the names of those of some tokens that are valid.
func (f *fixture) valid(tokens ...store.Token) map[string]bool {
	f.Helper()
	hashes := make([][]byte, len(tokens))
	for i := range tokens {
		hashes[i] = tokens[i].Hash
	}
	list, err := f.ValidTokens(f.ctx, hashes)
	f.must(err)
	names := map[string]bool{}
	for _, t := range list {
		names[t.Name] = true
	}
	return names
}

// tokens: credentials, and whose a session is.
var tokens = []scenario{
	{"a token is what was created, and once", func(f *fixture) {
		want := token("ci")
		want.Role, want.Projects = "submitter", []string{"project-a", "project-b"}
		got := f.create(want, time.Hour)
		if got.ID == 0 || got.CreatedAt.IsZero() || got.ExpiresAt.Sub(got.CreatedAt).Round(time.Second) != time.Hour || !got.Valid {
			f.Errorf("created %+v", got)
		}
		want.ID, want.CreatedAt, want.ExpiresAt, want.Valid = got.ID, got.CreatedAt, got.ExpiresAt, true
		f.equal("token", got, want)
		f.equal("created again", f.create(want, 0), want)
		list, err := f.ValidTokens(f.ctx, [][]byte{want.Hash})
		f.must(err)
		f.equal("found", list, []store.Token{want})
		f.equal("of another hash", f.valid(token("other")), map[string]bool{})
		f.equal("of none", f.valid(), map[string]bool{})
	}},
	{"a token is valid until it is revoked or expires", func(f *fixture) {
		a, b, c := f.create(token("a"), 0), f.create(token("b"), short), f.create(token("c"), 0)
		if !a.ExpiresAt.IsZero() {
			f.Errorf("expires at %v", a.ExpiresAt)
		}
		revoked, err := f.RevokeToken(f.ctx, c.ID)
		f.must(err)
		if revoked.Valid || revoked.RevokedAt.IsZero() {
			f.Errorf("revoked: %+v", revoked)
		}
		again, err := f.RevokeToken(f.ctx, c.ID)
		f.must(err)
		f.equal("revoked again", again, revoked)
		if _, err := f.RevokeToken(f.ctx, c.ID+1); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("revoke an unknown one: %v", err)
		}
		f.pass(b.ExpiresAt)
		f.equal("valid", f.valid(a, b, c), map[string]bool{"a": true})
		list, err := f.ListTokens(f.ctx, false, store.Page{Size: 9})
		f.must(err)
		f.equal("listed", list, []store.Token{a})
		list, err = f.ListTokens(f.ctx, true, store.Page{Size: 2})
		f.must(err)
		b.Valid = false
		f.equal("all", list, []store.Token{revoked, b})
		list, err = f.ListTokens(f.ctx, true, store.Page{Size: 2, After: b.ID})
		f.must(err)
		f.equal("the rest", list, []store.Token{a})
	}},
	{"a worker id is its owner's while its session lives", func(f *fixture) {
		mine := session("w")
		mine.Owner = "token/a"
		id, _, err := f.RegisterSession(f.ctx, mine)
		f.must(err)
		got, err := f.GetSession(f.ctx, id)
		f.must(err)
		f.equal("owner", got.Owner, "token/a")
		other := mine
		other.Owner = "token/b"
		if _, _, err := f.RegisterSession(f.ctx, other); !errors.Is(err, store.ErrWorkerTaken) {
			f.Errorf("somebody else's: %v, want ErrWorkerTaken", err)
		}
		if _, err := f.GetSession(f.ctx, id); err != nil {
			f.Errorf("the session: %v", err)
		}
		next, _, err := f.RegisterSession(f.ctx, mine)
		f.must(err)
		_, err = f.EndSession(f.ctx, next, "done")
		f.must(err)
		_, _, err = f.RegisterSession(f.ctx, other)
		f.must(err)
		nobody := mine
		nobody.Owner = "" // where nobody is asked any more
		_, _, err = f.RegisterSession(f.ctx, nobody)
		f.must(err)
		_, _, err = f.RegisterSession(f.ctx, mine)
		f.must(err)
	}},
}
