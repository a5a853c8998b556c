package api

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/peer"
)

// Connections returns a listener whose connections remember how they ended, which tells workers that died from workers
// that fell silent: when a process dies its kernel closes its connections, while one that is cut off or frozen, or whose
// host lost its power, says nothing, and its connections end by somebody's patience.
func Connections(l net.Listener) net.Listener { return connections{l} }

type connections struct{ net.Listener }

func (l connections) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &connection{Conn: c, remote: &remoteAddr{Addr: c.RemoteAddr()}}, nil
}

// connection is one of them. gRPC does not set the timeout for unacknowledged data on a connection that is not its own
// kind, so that only the answers to its pings decide about a silent one.
type connection struct {
	net.Conn
	remote *remoteAddr
}

// remoteAddr is the address of the other side, by which calls know their connection.
type remoteAddr struct {
	net.Addr
	end atomic.Int32
}

// How a connection has ended.
const (
	endNone      = iota // it has not
	endByPeer           // the other side closed or reset it
	endInSilence        // this side, or its kernel, gave it up
)

// note takes down what ended a connection; the first word counts.
func (c *connection) note(err error) {
	end := int32(endInSilence)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		end = endByPeer
	}
	c.remote.end.CompareAndSwap(endNone, end)
}

func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.note(err)
	}
	return n, err
}

func (c *connection) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.note(err)
	}
	return n, err
}

func (c *connection) Close() error {
	c.note(net.ErrClosed)
	return c.Conn.Close()
}

func (c *connection) RemoteAddr() net.Addr { return c.remote }

// silent reports whether the connection of a call ended without a word from the other side. Connections that are not of
// Connections never do.
func silent(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	remote, ok := p.Addr.(*remoteAddr)
	return ok && remote.end.Load() == endInSilence
}
