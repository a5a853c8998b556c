package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tallyman-dev/tallyman/internal/certificates"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/metrics"
	"github.com/tallyman-dev/tallyman/server/reaper"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
	"github.com/tallyman-dev/tallyman/server/store/sqlite"
	"github.com/tallyman-dev/tallyman/server/token"
	"github.com/tallyman-dev/tallyman/server/watch"
	"github.com/tallyman-dev/tallyman/server/webhook"
)

// Server is one coordinator.
type Server struct {
	cfg       Config
	store     store.Store
	listener  net.Listener // nil without an address
	web       *web         // nil without an address
	local     *bufconn.Listener
	grpc      *grpc.Server
	health    *health.Server
	room      room
	drain     context.CancelFunc
	services  *api.Services
	admit     access.Admit
	tokens    *token.Keeper // nil where nobody is asked
	tls       *tls.Config   // nil without encryption
	events    *events
	metrics   *metrics.Metrics
	closeOnce sync.Once
}

// messageMost bounds a message of a client. A heartbeat with the findings of many leases is the largest.
const messageMost = 8 << 20

// Open connects to the database, checks its schema, and binds the address. It serves nothing yet: call Run, or Close.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	st, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := newServer(cfg, st)
	if cfg.TLS.Certificate != "" {
		if s.tls, err = certificates.Server(cfg.TLS, s.cfg.Logger); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	if cfg.Listen != "" {
		if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, errors.Join(fmt.Errorf("listen: %w", err), st.Close())
		}
	}
	s.wire()
	if cfg.HTTP != "" {
		if s.web, err = s.openWeb(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Migrate brings the schema of a database up to date, and says what there was to do.
func Migrate(ctx context.Context, cfg Config) (string, error) {
	cfg.Migrate = true
	var before, after int64
	if !strings.HasPrefix(cfg.Database, "sqlite:") {
		if err := cfg.Validate(); err != nil {
			return "", err
		}
		var err error
		if before, after, err = postgres.SchemaVersion(ctx, cfg.Database); err != nil {
			return "", err
		}
	}
	s, err := Open(ctx, cfg)
	if err != nil {
		return "", err
	}
	if err := s.Close(); err != nil {
		return "", err
	}
	switch before {
	case after:
		return "the database is up to date", nil
	case 0:
		return fmt.Sprintf("the schema of the database was made, version %d", after), nil
	}
	return fmt.Sprintf("the schema of the database was brought from version %d to %d", before, after), nil
}

func openStore(ctx context.Context, cfg Config) (store.Store, error) {
	if path, ok := strings.CutPrefix(cfg.Database, "sqlite:"); ok {
		return sqlite.Open(ctx, sqlite.Config{Path: path, Migrate: cfg.Migrate})
	}
	if cfg.Migrate {
		if err := postgres.Migrate(ctx, cfg.Database); err != nil {
			return nil, err
		}
	}
	return postgres.Open(ctx, postgres.Config{
		DSN: cfg.Database, Silence: min(max(cfg.Lease/3, time.Second), 10*time.Second),
	})
}

func newServer(cfg Config, st store.Store) *Server {
	s := &Server{store: st, local: bufconn.Listen(1 << 20), room: newRoom(cfg.Logger.Handler())}
	cfg.Logger = slog.New(s.room)
	s.cfg = cfg
	return s
}

// wire makes the parts and ties them together.
func (s *Server) wire() {
	log := s.cfg.Logger
	s.metrics = metrics.New(metrics.Config{
		Store: s.store, Silent: s.cfg.Lease + s.cfg.HeartbeatInterval, Version: s.cfg.Version, Logger: log,
	})
	e := &events{logger: log, metrics: s.metrics, progress: map[int64]time.Time{}, stopped: map[int64]struct{}{}}
	if s.cfg.Webhook.Chosen() {
		s.store.DeliverEnds()
		e.webhook = webhook.New(s.cfg.Webhook, s.store, s.metrics.Figures, s.metrics, log)
	}
	e.hub = watch.NewHub(s.store, log)
	e.maps = watch.NewMaps(s.store, e.hub)
	e.roll = watch.NewRoll(s.store, log)
	e.folder = watch.NewFolder(s.store, e.hub, log, e.folded)
	e.dispatcher = dispatch.New(dispatch.Config{
		Store: s.store, Events: e, Logger: log, Meter: s.metrics, Lease: s.cfg.Lease, Interval: s.cfg.HeartbeatInterval,
		MaxRunningPerProject: s.cfg.MaxRunningPerProject,
	})
	e.reaper = reaper.New(reaper.Config{
		Store: s.store, Ledger: e.dispatcher.Ledger(), Events: e, Logger: log, Lease: s.cfg.Lease,
		UploadTimeout: s.cfg.UploadTimeout, Retention: s.cfg.Retention, RetentionWithErrors: s.cfg.RetentionWithErrors,
	})
	drain, cancel := context.WithCancel(context.Background())
	s.drain = cancel
	s.services = api.New(drain, api.Config{
		Store: s.store, Dispatcher: e.dispatcher, Hub: e.hub, Roll: e.roll, Maps: e.maps, Events: e, Logger: log, Meter: s.metrics,
		Grace:  s.cfg.ReconnectGrace,
		Reader: s.cfg.Reader, MaxOpenUploads: s.cfg.MaxOpenUploads, UploadTimeout: s.cfg.UploadTimeout,
	})
	e.beating, e.jobs = s.services.Beating(), s.store
	s.events = e
	s.admit = access.Anybody
	s.metrics.Gauge("watchers", "Watches of jobs that are open here.", e.hub.Watchers)
	s.metrics.Gauge("leases", "Leases that this coordinator knows of.", e.dispatcher.Ledger().Len)
	s.metrics.Gauge("uploads_open", "Uploads that are open here.", s.services.OpenUploads)
	if s.cfg.asks() {
		s.tokens = token.NewKeeper(s.store, log)
		s.admit = (&door{s.tokens, api.NewLimiter(s.cfg.FailureLimit, api.SettingFailureLimit)}).admit
	}
	encryption := insecure.NewCredentials()
	if s.tls != nil {
		encryption = credentials.NewTLS(s.tls)
	}
	options := slices.Concat(s.metrics.ServerOptions(), api.ServerOptions(log, s.authenticate, s.cfg.RateLimit), s.services.Confinement(), []grpc.ServerOption{
		grpc.Creds(transport{encryption}),
		grpc.ChainStreamInterceptor(endWith(drain)),
		grpc.WaitForHandlers(true), // so that nothing uses the store when it is closed
		grpc.MaxRecvMsgSize(messageMost),
		// A peer that does not answer for longer than a lease has lost its leases anyway.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.cfg.Lease, Timeout: s.cfg.Lease}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	})
	s.grpc = grpc.NewServer(options...)
	s.services.Register(s.grpc)
	s.health = health.NewServer()
	for _, name := range []string{api.HealthDatabase, api.HealthSpace} {
		s.health.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
}

// Addr returns the bound address, "" when the server has none.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// RemoveDeleted removes what is left of deleted jobs and returns when it is gone. Run does so in the background; this is
// for a process that does not live long.
func (s *Server) RemoveDeleted(ctx context.Context) error { return s.events.reaper.DeleteOnce(ctx) }

// Run serves until ctx ends, then lets open calls finish for a while, and closes everything.
func (s *Server) Run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var loops, listeners sync.WaitGroup
	s.events.run(working, &loops)
	loops.Go(func() { s.checkHealth(working) })
	if s.tokens != nil {
		loops.Go(func() { s.tokens.Run(working) })
	}
	failed := make(chan error, 3)
	serve := func(l net.Listener) {
		listeners.Go(func() {
			if err := s.grpc.Serve(l); err != nil {
				failed <- fmt.Errorf("serve: %w", err)
			}
		})
	}
	serve(s.local)
	if s.listener != nil {
		serve(api.Connections(s.listener))
		s.cfg.Logger.Info("coordinator serves", "address", s.Addr(), "database", redact(s.cfg.Database), "version", s.cfg.Version,
			"encrypted", s.tls != nil, "callers_known", s.tokens != nil)
	}
	if s.web != nil {
		listeners.Go(func() {
			if err := s.web.serve(); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.health.Shutdown()
	var requests sync.WaitGroup
	if s.web != nil {
		requests.Go(func() { s.web.stop(s.cfg.DrainTimeout) })
	}
	s.stopServing(stop)
	requests.Wait()
	listeners.Wait()
	stop()
	loops.Wait()
	return errors.Join(err, s.Close())
}

// endWith ends streams of health and reflection with ctx: they would end with their clients only. Those of our own
// services know by themselves, and say why.
func endWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if strings.HasPrefix(info.FullMethod, "/tallyman.") {
			return handler(srv, stream)
		}
		streaming, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return handler(srv, &endingStream{stream, streaming})
	}
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *endingStream) Context() context.Context { return s.ctx }

// stopServing ends streams, since they would end by themselves only with their clients, waits for the other calls as
// long as the configuration says, and then cuts what is left. The loops stop before the cut: a call that waits for one
// of them is answered then.
func (s *Server) stopServing(stopLoops func()) {
	s.drain()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(s.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		stopLoops()
		s.grpc.Stop()
		<-done
	}
}

// Close releases what Open took. After Run it has been done.
func (s *Server) Close() error {
	var err error
	s.closeOnce.Do(func() {
		s.drain()
		if s.web != nil {
			err = s.web.close()
		}
		s.grpc.Stop()
		if s.listener != nil {
			// Closed by the gRPC server already if that ever served it.
			if e := s.listener.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
				err = errors.Join(err, e)
			}
		}
		err = errors.Join(err, s.local.Close(), s.store.Close())
	})
	return err
}
