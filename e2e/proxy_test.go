//go:build linux

package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on to a coordinator, and cuts them.
type proxy struct {
	target   string
	listener net.Listener

	mu       sync.Mutex
	live     map[net.Conn]bool // both ends of every connection
	accepted int
	closed   bool
	budgets  []int64 // bytes upwards after which each of the next connections is cut

	wg sync.WaitGroup
}

// newProxy starts a proxy, which ends with the test. Each of its first connections is cut once it has carried so many
// bytes upwards as budgets has for it.
func newProxy(t testing.TB, target string, budgets ...int64) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: target, listener: listener, live: make(map[net.Conn]bool), budgets: budgets}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// connections returns how many were made so far.
func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// cut breaks every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.live {
		_ = conn.Close()
	}
}

func (p *proxy) accept() {
	for {
		down, err := p.listener.Accept()
		if err != nil {
			return // it was closed
		}
		up, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = down.Close()
			continue
		}
		p.pass(down, up)
	}
}

func (p *proxy) pass(down, up net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted++
	p.live[down], p.live[up] = true, true
	var upward io.Reader = down
	if len(p.budgets) > 0 {
		upward = io.LimitReader(down, p.budgets[0])
		p.budgets = p.budgets[1:]
	}
	if p.closed {
		_ = down.Close()
		_ = up.Close()
	}
	var both sync.WaitGroup
	// Whichever direction ends first, for whatever reason, ends the other.
	carry := func(to, from net.Conn, r io.Reader) {
		_, _ = io.Copy(to, r)
		_ = to.Close()
		_ = from.Close()
	}
	both.Go(func() { carry(up, down, upward) })
	both.Go(func() { carry(down, up, up) })
	p.wg.Go(func() {
		both.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.live, down)
		delete(p.live, up)
	})
}
