package access

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Role is what a caller is for. An admin may do everything, a submitter what a viewer may.
type Role string

// The roles.
const (
	Viewer    Role = "viewer"    // sees jobs, their items and findings, workers and statistics; changes nothing
	Submitter Role = "submitter" // uploads, and pauses, cancels, retries and deletes jobs
	Worker    Role = "worker"    // claims batches of all projects
	Admin     Role = "admin"
)

// AllRoles returns the roles in the order in which they are shown.
func AllRoles() []Role { return []Role{Viewer, Submitter, Worker, Admin} }

// ParseRole reads the name of a role.
func ParseRole(name string) (Role, error) {
	if r := Role(name); slices.Contains(AllRoles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("role %q: choose viewer, submitter, worker or admin", name)
}

// Confined reports whether identities of this role can be confined to projects. Batches are claimed of all projects, and
// what admins alone do concerns all of them.
func (r Role) Confined() bool { return r == Viewer || r == Submitter }

// Identity is who makes a call.
type Identity struct {
	// Key names who it is, for ever: "token/NAME", "certificate/NAME", or "coordinator" for what runs in its process. It is ""
	// where nobody is asked.
	Key string
	// Name is what limits are counted by and logs say: the key or, without one, the address.
	Name     string
	Role     Role
	Projects []string  // that it is confined to; none for all
	Until    time.Time // when it expires; zero for never

	// While ends when the identity is known to be no good any more, such as when its token has been revoked; nil for never.
	While context.Context `json:"-"`
}

// Coordinator is the key of what runs in the coordinator's process.
const Coordinator = "coordinator"

// Anonymous is everybody where nobody is asked who he is: known by the address, and free to do everything.
func Anonymous(address string) Identity { return Identity{Name: address, Role: Admin} }

// Sees reports whether the identity may know of a project's jobs.
func (i Identity) Sees(project string) bool {
	return len(i.Projects) == 0 || slices.Contains(i.Projects, project)
}

// Confined reports whether there are projects that the identity does not see.
func (i Identity) Confined() bool { return len(i.Projects) > 0 }

type identityKey struct{}

// With returns a context of what an identity does.
func With(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// By returns whose call ctx belongs to. Without one it is an identity that may do nothing.
func By(ctx context.Context) Identity {
	i, _ := ctx.Value(identityKey{}).(Identity)
	return i
}

// Credential is what a caller shows.
type Credential struct {
	Address     string            // that the call comes from
	Token       string            // "" for none
	Certificate *x509.Certificate // verified; nil for none
}

// Admit says who shows a credential, or refuses it.
type Admit func(ctx context.Context, shown Credential) (Identity, error)

// Anybody lets everybody in.
func Anybody(_ context.Context, shown Credential) (Identity, error) {
	return Anonymous(shown.Address), nil
}
