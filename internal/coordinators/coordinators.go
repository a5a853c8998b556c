// Package coordinators reaches coordinators, for the libraries of submitters and of workers. There may be several, each as
// good as any other: they share one database.
//
// A connection holds on to one coordinator for as long as that answers, and chooses another, at random, when it does not
// (pick_first over shuffled addresses, in gRPC's words). So many callers spread over the coordinators, while everything
// that one of them does is seen by one coordinator, which is what that one's memory is good for: it pushes to the
// heartbeats of the workers that claimed from it, and knows the deltas of the uploads that it took. An address that
// refuses is passed over at once, one that does not answer after 250 ms.
package coordinators

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/tallyman-dev/tallyman/internal/retry"
)

const (
	// keepaliveTime and keepaliveTimeout end a connection whose other side is gone without a word, so that there is time
	// for another one within a lease. gRPC allows no client a shorter time.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second

	// connectTimeout bounds the making of a connection to one address, up to the first answer of a coordinator.
	connectTimeout = 5 * time.Second

	// longestPause is the most between two rounds over all addresses. gRPC's own grows to two minutes, in which leases run
	// out.
	longestPause = 3 * time.Second
)

// serviceConfig has gRPC choose the address.
const serviceConfig = `{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`

// Conn is a connection to one of several coordinators, made when it is needed. It is safe for concurrent use.
type Conn struct {
	open func() (*grpc.ClientConn, error)

	leaving sync.WaitGroup // connections that were given up

	mu      sync.RWMutex
	current *grpc.ClientConn
	closed  bool
}

var _ grpc.ClientConnInterface = (*Conn)(nil)

// Open returns a connection to one of the coordinators at the addresses, which are as Split takes them. It does not wait
// for it: the first call finds out. Options come after its own, and so replace them. Without any it is not encrypted. It
// uses no proxy that the environment names, since coordinators are not the internet.
func Open(addresses string, options ...grpc.DialOption) (*Conn, error) {
	list, err := Split(addresses)
	if err != nil {
		return nil, err
	}
	options = append([]grpc.DialOption{
		grpc.WithResolvers(builder{list}),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // of the DNS
		grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: retry.First, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestPause},
			MinConnectTimeout: connectTimeout,
		}),
	}, options...)
	c := &Conn{open: func() (*grpc.ClientConn, error) { return grpc.NewClient(scheme+":///coordinators", options...) }}
	if c.current, err = c.open(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addresses, err)
	}
	return c, nil
}

// Invoke implements grpc.ClientConnInterface.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	return c.conn().Invoke(ctx, method, args, reply, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (
	grpc.ClientStream, error,
) {
	return c.conn().NewStream(ctx, desc, method, options...)
}

func (c *Conn) conn() *grpc.ClientConn {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.current
}

// Renew gives up a coordinator that keeps its connection but does not answer, sooner than the keepalive would, and chooses
// anew. Calls in progress end with CANCELLED, soon. It does not block.
func (c *Conn) Renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	next, err := c.open()
	if err != nil {
		return // what could be opened before can be opened again; if not, the old one is better than none
	}
	old := c.current
	c.current = next
	// In the background, since it says goodbye first, for which it takes seconds if the other side takes nothing more.
	c.leaving.Go(func() { _ = old.Close() }) // it can only say that it was closed before
}

// Close ends the connection and the calls in progress.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return errors.New("the connection is closed already")
	}
	c.closed = true
	c.mu.Unlock()
	c.leaving.Wait()
	return c.current.Close()
}
