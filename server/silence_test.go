package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/api"
)

// cuts accepts connections that the test ends as a kernel would.
type cuts struct {
	net.Listener
	mu    sync.Mutex
	conns []*cutConn
}

type cutConn struct {
	net.Conn
	mu  sync.Mutex
	err error // of every further Read and Write
}

func (l *cuts) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, &cutConn{Conn: c})
	return l.conns[len(l.conns)-1], nil
}

// cut ends all connections with an error.
func (l *cuts) cut(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		_ = c.Conn.Close()
	}
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return c.ended(n, err)
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return c.ended(n, err)
}

// ended puts the error that the connection was cut with in the place of what the pipe says.
func (c *cutConn) ended(n int, err error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	return n, err
}

// TestOnlyTheDeadDie: a connection that the worker's kernel closed is evidence of its death, one that this side gave up
// is not, however early it does so.
func TestOnlyTheDeadDie(t *testing.T) {
	for _, test := range []struct {
		err  error
		want pb.AttemptEnd
	}{
		{io.EOF, pb.AttemptEnd_ATTEMPT_END_DIED},
		{syscall.ECONNRESET, pb.AttemptEnd_ATTEMPT_END_DIED},
		{syscall.ETIMEDOUT, pb.AttemptEnd_ATTEMPT_END_LOST},
		{syscall.EHOSTUNREACH, pb.AttemptEnd_ATTEMPT_END_LOST},
		{net.ErrClosed, pb.AttemptEnd_ATTEMPT_END_LOST},
	} {
		t.Run(test.err.Error(), func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database, Lease: 10 * time.Second, ReconnectGrace: time.Second}, nil)
				pipe := bufconn.Listen(1 << 20)
				listener := &cuts{Listener: pipe}
				served := make(chan error, 1)
				go func() { served <- c.server.grpc.Serve(api.Connections(listener)) }()
				conn, err := grpc.NewClient("passthrough:///pipe", append(carrying(ourselves),
					grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))...)
				c.must(err)
				there := *c
				there.conn, there.workers = conn, pb.NewWorkerServiceClient(conn)
				t.Cleanup(func() {
					if err := conn.Close(); err != nil {
						t.Error(err)
					}
					if err := c.halt(); err != nil {
						t.Error(err)
					}
					if err := <-served; err != nil {
						t.Error(err)
					}
				})
				c.submit(header("silence"), lines(1, 2))
				session := there.register("cut-off")
				g := there.claimOne(session, "r")
				there.beating(session).want(g, goOn)
				listener.cut(fmt.Errorf("read: %w", test.err))
				pass(12 * time.Second)
				b, err := c.jobs.GetBatch(c.ctx, &pb.GetBatchRequest{BatchId: g.GetBatchId()})
				c.must(err)
				if got := b.GetAttempts(); len(got) != 1 || got[0].GetEnd() != test.want {
					t.Errorf("the attempt ended as %v, want %v", got, test.want)
				}
			})
		})
	}
}
