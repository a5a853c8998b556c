package client_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/tallyman-dev/tallyman/client"
)

// cutter stands before a coordinator, cuts connections, and freezes.
type cutter struct {
	target   string
	listener net.Listener

	mu     sync.Mutex
	live   map[net.Conn]bool
	next   []budget      // for the connections to come; those after them are not cut
	made   int           // since the last cut
	frozen chan struct{} // closed when it thaws; nil while it is not frozen

	wg sync.WaitGroup
}

// budget is how many bytes a connection carries before it is cut; a negative number is no bound.
type budget struct{ up, down int64 }

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{target: target, listener: listener, live: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *cutter) address() string { return p.listener.Addr().String() }

// cut cuts what is connected, and gives the next connections their budgets.
func (p *cutter) cut(next ...budget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.made = next, 0
	for conn := range p.live {
		_ = conn.Close()
	}
}

// close cuts everything, and lets nobody in any more. It may be repeated.
func (p *cutter) close() {
	_ = p.listener.Close()
	p.thaw()
	p.cut()
	p.wg.Wait()
}

// finish lets nobody in any more, carries what has been kept back, and returns when those who are connected have ended.
func (p *cutter) finish() {
	_ = p.listener.Close()
	p.thaw()
	p.wg.Wait()
}

// freeze lets connections stand and carries nothing, as a process that is stopped does.
func (p *cutter) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

// thaw carries what has waited. It is no error when nothing is frozen.
func (p *cutter) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// await returns once nothing is frozen.
func (p *cutter) await() {
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// connections returns how many were made since the last cut.
func (p *cutter) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

func (p *cutter) accept() {
	for {
		down, err := p.listener.Accept()
		if err != nil {
			return // it was closed
		}
		p.await()
		up, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = down.Close()
			continue
		}
		p.mu.Lock()
		b := budget{-1, -1}
		if p.made < len(p.next) {
			b = p.next[p.made]
		}
		p.made++
		p.live[down], p.live[up] = true, true
		p.mu.Unlock()
		carry := func(to, from net.Conn, most int64) {
			var r io.Reader = awaiting{from, p}
			if most >= 0 {
				r = io.LimitReader(r, most)
			}
			_, _ = io.Copy(to, r)
			_ = to.Close()
			_ = from.Close()
		}
		p.wg.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { carry(up, down, b.up) })
			both.Go(func() { carry(down, up, b.down) })
			both.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.live, down)
			delete(p.live, up)
		})
	}
}

// awaiting hands on what it reads once nothing is frozen.
type awaiting struct {
	r io.Reader
	p *cutter
}

func (a awaiting) Read(b []byte) (int, error) {
	n, err := a.r.Read(b)
	a.p.await()
	return n, err
}

// reach returns a client that is closed with the test.
func reach(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
