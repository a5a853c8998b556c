package coordinators

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// Split returns the addresses of coordinators in a list that is separated by commas. Each is host:port, where the host may
// be a name with several addresses, or a target of gRPC, such as unix:/run/tallyman.sock.
func Split(list string) ([]string, error) {
	var addresses []string
	for address := range strings.SplitSeq(list, ",") {
		address = strings.TrimSpace(address)
		if address == "" {
			return nil, fmt.Errorf("address of a coordinator: %q has an empty one", list)
		}
		if !isTarget(address) {
			if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
				return nil, fmt.Errorf("address of a coordinator: %q must be host:port", address)
			}
		}
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

// isTarget reports whether an address says how it is to be resolved.
func isTarget(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme != "" && resolver.Get(u.Scheme) != nil
}

// scheme is that of the targets that stand for all addresses of a connection.
const scheme = "tallyman"

// slowName is how long the resolution of one name may hold up the connection to the others.
const slowName = time.Second

// builder makes resolvers that find the addresses of all coordinators.
type builder struct{ addresses []string }

var (
	_            resolver.Builder            = builder{}
	_            resolver.AuthorityOverrider = builder{}
	_            resolver.Resolver           = (*names)(nil)
	_            resolver.ClientConn         = (*name)(nil)
	errNoAddress                             = errors.New("the name has no address")
	errNotYet                                = errors.New("the name is not resolved yet")
)

// Scheme implements resolver.Builder.
func (builder) Scheme() string { return scheme }

// OverrideAuthority implements resolver.AuthorityOverrider. Each address brings its own.
func (b builder) OverrideAuthority(resolver.Target) string { return "coordinators" }

// Build implements resolver.Builder: each address is resolved by the resolver that gRPC has for it.
func (b builder) Build(_ resolver.Target, cc resolver.ClientConn, options resolver.BuildOptions) (resolver.Resolver, error) {
	n := &names{cc: cc}
	for _, address := range b.addresses {
		n.all = append(n.all, &name{of: n, address: address, err: errNotYet})
	}
	n.late = time.AfterFunc(slowName, func() { _ = n.changed(true) })
	for _, one := range n.all {
		target, host := one.address, ""
		if !isTarget(target) {
			target, host = "dns:///"+one.address, one.address
		}
		u, err := url.Parse(target)
		if err != nil {
			n.Close()
			return nil, fmt.Errorf("address of a coordinator: %w", err)
		}
		one.host = host
		built, err := resolver.Get(u.Scheme).Build(resolver.Target{URL: *u}, one, options)
		if err != nil {
			n.Close()
			return nil, fmt.Errorf("address of a coordinator: %q: %w", one.address, err)
		}
		n.mu.Lock()
		one.resolver = built
		n.mu.Unlock()
	}
	return n, nil
}

// names resolves several names into one list of addresses.
type names struct {
	cc  resolver.ClientConn
	all []*name

	mu     sync.Mutex
	late   *time.Timer
	begun  bool // the first list has been given
	closed bool
}

// name is one of them, and what its resolver reports to.
type name struct {
	of      *names
	address string
	host    string // by which its coordinators are known to TLS; empty to leave that to gRPC

	// Guarded by the lock of all.
	resolver  resolver.Resolver // nil until it is built
	endpoints []resolver.Endpoint
	err       error // why there are none
}

// changed hands on what is known now. The first list waits for all names, but not for long: all callers would choose
// among those that are resolved first.
func (n *names) changed(late bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	var list []resolver.Endpoint
	var problems []error
	for _, one := range n.all {
		list = append(list, one.endpoints...)
		if len(one.endpoints) == 0 {
			problems = append(problems, fmt.Errorf("%s: %w", one.address, one.err))
			if errors.Is(one.err, errNotYet) && !late && !n.begun {
				return nil
			}
		}
	}
	if len(list) == 0 {
		n.cc.ReportError(errors.Join(problems...))
		return nil
	}
	n.begun = true
	return n.cc.UpdateState(resolver.State{Endpoints: list})
}

// ResolveNow implements resolver.Resolver.
func (n *names) ResolveNow(options resolver.ResolveNowOptions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range n.all {
		if one.resolver != nil && !n.closed {
			one.resolver.ResolveNow(options)
		}
	}
}

// Close implements resolver.Resolver.
func (n *names) Close() {
	n.mu.Lock()
	n.closed = true
	n.late.Stop()
	n.mu.Unlock()
	// Closing one waits for its report that is under way, which waits for the lock.
	for _, one := range n.all {
		if one.resolver != nil {
			one.resolver.Close()
		}
	}
}

// UpdateState implements resolver.ClientConn.
func (n *name) UpdateState(state resolver.State) error {
	endpoints := state.Endpoints
	if len(endpoints) == 0 {
		for _, address := range state.Addresses {
			endpoints = append(endpoints, resolver.Endpoint{Addresses: []resolver.Address{address}})
		}
	}
	// Not in place: the list is the resolver's.
	known := make([]resolver.Endpoint, len(endpoints))
	for i, endpoint := range endpoints {
		known[i] = resolver.Endpoint{Addresses: slices.Clone(endpoint.Addresses), Attributes: endpoint.Attributes}
		for j := range known[i].Addresses {
			if a := &known[i].Addresses[j]; a.ServerName == "" {
				a.ServerName = n.host
			}
		}
	}
	n.of.mu.Lock()
	n.endpoints, n.err = known, errNoAddress
	n.of.mu.Unlock()
	return n.of.changed(false)
}

// ReportError implements resolver.ClientConn. What was known of the name stays.
func (n *name) ReportError(err error) {
	n.of.mu.Lock()
	n.err = err
	n.of.mu.Unlock()
	_ = n.of.changed(false) // a list that is refused was so when it was new
}

// NewAddress implements resolver.ClientConn for resolvers of old.
func (n *name) NewAddress(addresses []resolver.Address) {
	_ = n.UpdateState(resolver.State{Addresses: addresses})
}

// ParseServiceConfig implements resolver.ClientConn.
func (n *name) ParseServiceConfig(text string) *serviceconfig.ParseResult {
	return n.of.cc.ParseServiceConfig(text)
}
