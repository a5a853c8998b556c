package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/token"
)

// door asks everybody who he is.
type door struct {
	tokens   *token.Keeper
	failures *api.Limiter // refused credentials, by address
}

// admit implements access.Admit. A token counts before a certificate.
func (d *door) admit(ctx context.Context, shown access.Credential) (access.Identity, error) {
	switch {
	case shown.Token != "":
		if err := d.failures.Exhausted(shown.Address); err != nil {
			return access.Identity{}, err
		}
		who, known, err := d.tokens.Identify(ctx, shown.Token)
		if err != nil {
			return access.Identity{}, err
		}
		if !known {
			d.failures.Count(shown.Address)
			return access.Identity{}, api.Unauthenticated("the token is unknown, has expired or was revoked")
		}
		return who, nil
	case shown.Certificate != nil:
		who, err := holder(shown.Certificate)
		if err != nil {
			return access.Identity{}, api.Unauthenticated("the client certificate is not of use: %v", err)
		}
		return who, nil
	}
	return access.Identity{}, api.Unauthenticated("this coordinator asks who calls: give a token (TALLYMAN_TOKEN or --token-file; " +
		"by HTTP `Authorization: Bearer TOKEN`), or a client certificate if it takes these")
}

// roleScheme is that of the address in a certificate that says what its holder may do.
const roleScheme = "tallyman"

// holder returns whose a certificate is. It says so itself: by an alternative name of the form tallyman:ROLE, or
// tallyman:ROLE?project=NAME for each project that its holder is confined to. What was made for other purposes has none, and
// is of no use.
func holder(c *x509.Certificate) (access.Identity, error) {
	if time.Now().After(c.NotAfter) { // during a connection
		return access.Identity{}, errors.New("it has expired")
	}
	var role *url.URL
	for _, u := range c.URIs {
		if u.Scheme != roleScheme {
			continue
		}
		if role != nil {
			return access.Identity{}, errors.New("it has more than one name of the form tallyman:ROLE")
		}
		role = u
	}
	if role == nil {
		return access.Identity{}, errors.New("it has no alternative name (URI) of the form tallyman:ROLE")
	}
	r, err := access.ParseRole(role.Opaque)
	if err != nil {
		return access.Identity{}, err
	}
	query, err := url.ParseQuery(role.RawQuery)
	if err != nil {
		return access.Identity{}, fmt.Errorf("read its projects: %w", err)
	}
	for name, values := range query {
		for _, value := range values {
			if name != "project" || value == "" {
				return access.Identity{}, fmt.Errorf("%q is not understood: only project=NAME is", name)
			}
		}
	}
	projects := query["project"]
	if len(projects) > 0 && !r.Confined() {
		return access.Identity{}, fmt.Errorf("a %s cannot be confined to projects", r)
	}
	name := c.Subject.CommonName
	if name == "" {
		return access.Identity{}, errors.New("it has no common name")
	}
	key := "certificate/" + name
	return access.Identity{Key: key, Name: key, Role: r, Projects: projects, Until: c.NotAfter}, nil
}
