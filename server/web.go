package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/rest"
)

// The bounds of what a client may hold without asking for anything.
const (
	headerTimeout = 10 * time.Second // for the head of a request
	keepTimeout   = 2 * time.Minute  // for the next request of a connection
	headerMost    = 64 << 10         // bytes
)

// web serves HTTP on an address of its own. It makes its calls to the server in the same process.
type web struct {
	server   *http.Server
	routes   []rest.Route
	listener net.Listener
	conn     *grpc.ClientConn
	halt     context.CancelFunc // ends uploads
}

func (s *Server) openWeb() (*web, error) {
	conn, err := s.dial(access.By)
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	listener, err := net.Listen("tcp", s.cfg.HTTP)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for HTTP: %w; another address, or none, is chosen by --http", err), conn.Close())
	}
	host, _, err := net.SplitHostPort(s.cfg.HTTP) // which Validate has seen
	if err != nil {
		return nil, errors.Join(err, listener.Close(), conn.Close())
	}
	drain, halt := context.WithCancel(context.Background())
	handler, err := rest.New(drain, rest.Config{
		Conn: conn, IdleTimeout: s.cfg.HTTPIdleTimeout, Local: loopback(host) && s.tokens == nil, Admit: s.admit,
		Asks: s.tokens != nil,
		More: []rest.Route{{Pattern: "GET /metrics", Rule: access.Readers, Handler: s.metrics.Handler()}},
	})
	if err != nil {
		halt()
		return nil, errors.Join(err, listener.Close(), conn.Close())
	}
	return &web{
		listener: listener, conn: conn, halt: halt, routes: handler.Routes(),
		server: &http.Server{
			Handler:           handler,
			TLSConfig:         s.tls.Clone(), // nil stays nil
			ReadHeaderTimeout: headerTimeout, IdleTimeout: keepTimeout, MaxHeaderBytes: headerMost,
			ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
		},
	}, nil
}

// HTTPAddr returns the bound address of the API by HTTP, "" when there is none.
func (s *Server) HTTPAddr() string {
	if s.web == nil {
		return ""
	}
	return s.web.listener.Addr().String()
}

// serve answers requests until stop or close.
func (w *web) serve() error {
	var err error
	if w.server.TLSConfig != nil {
		err = w.server.ServeTLS(w.listener, "", "")
	} else {
		err = w.server.Serve(w.listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// stop ends uploads, takes no more requests and waits for those that are open. What is left after the timeout is cut by close.
func (w *web) stop(timeout time.Duration) {
	w.halt()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_ = w.server.Shutdown(ctx) // fails only by its timeout, or for a listener that is closed already
}

// close cuts what is open and releases what openWeb took. It may be repeated.
func (w *web) close() error {
	w.halt()
	err := w.server.Close()
	// Of a server that was never run the listener is not known to it.
	if e := w.listener.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.conn.Close())
}
