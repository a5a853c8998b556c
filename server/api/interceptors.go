package api

import (
	"context"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/validator"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
)

// Authenticate says who makes a call, or refuses it with an error that is mapped like any other.
type Authenticate func(ctx context.Context) (access.Identity, error)

// Anybody knows a caller by the host and lets everybody in.
func Anybody(ctx context.Context) (access.Identity, error) { return access.Anonymous(Host(ctx)), nil }

// Host returns the address that a call came from, without its port.
func Host(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "unknown"
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}

// ServerOptions returns the interceptors as options of a gRPC server.
func ServerOptions(logger *slog.Logger, authenticate Authenticate, limit Limit) []grpc.ServerOption {
	if authenticate == nil {
		authenticate = Anybody
	}
	authFunc := admit(authenticate)
	limiter := newLimiter(limit)
	logged := logging.LoggerFunc(func(ctx context.Context, _ logging.Level, msg string, fields ...any) {
		logger.DebugContext(ctx, "rpc", append(fields, "event", msg)...)
	})
	logWhat := logging.WithLogOnEvents(logging.FinishCall)
	recovered := recovery.WithRecoveryHandler(func(p any) error {
		return &panicked{value: p, stack: string(debug.Stack())}
	})
	keep := validator.WithOnValidationErrCallback(func(ctx context.Context, err error) {
		keepViolation(ctx, err)
	})
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			logging.UnaryServerInterceptor(logged, logWhat),
			rewriteUnary(logger),
			recovery.UnaryServerInterceptor(recovered),
			auth.UnaryServerInterceptor(authFunc),
			lastingUnary,
			ratelimit.UnaryServerInterceptor(limiter),
			validator.UnaryServerInterceptor(keep),
		),
		grpc.ChainStreamInterceptor(
			logging.StreamServerInterceptor(logged, logWhat),
			rewriteStream(logger),
			recovery.StreamServerInterceptor(recovered),
			auth.StreamServerInterceptor(authFunc),
			lastingStream,
			ratelimit.StreamServerInterceptor(limiter),
			validator.StreamServerInterceptor(keep),
		),
	}
}

// violationKey leads to where the error of an interceptor is kept whole: the middleware's own status has its text only.
// A stream's messages may still be checked while its handler returns.
type violationKey struct{}

type violation = atomic.Pointer[error]

func keepViolation(ctx context.Context, err error) {
	if kept, ok := ctx.Value(violationKey{}).(*violation); ok {
		kept.Store(&err)
	}
}

func rewriteUnary(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		kept := new(violation)
		resp, err := handler(context.WithValue(ctx, violationKey{}, kept), req)
		if v := kept.Load(); err != nil && v != nil {
			err = *v
		}
		return resp, rewrite(ctx, logger, info.FullMethod, err)
	}
}

func rewriteStream(logger *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		kept := new(violation)
		err := handler(srv, &contextStream{stream, context.WithValue(stream.Context(), violationKey{}, kept)})
		if v := kept.Load(); err != nil && v != nil {
			err = *v
		}
		return rewrite(stream.Context(), logger, info.FullMethod, err)
	}
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// Limit bounds the calls of one client. Zero values mean the defaults; a negative PerSecond means no limit.
type Limit struct {
	PerSecond float64 // calls, in the long run; default 10,000
	Burst     int     // calls at once; default twice as many
}

// SettingRateLimit is the name of the setting that bounds the calls of a client.
const SettingRateLimit = "rate-limit"

// clientsKept bounds the memory of the limiter: who was not heard of for long is forgotten first.
const clientsKept = 10_000

// Limiter counts the calls of clients. It is safe for concurrent use.
type Limiter struct {
	limit   Limit
	setting string

	mu   sync.Mutex
	seen map[string]*client
}

type client struct {
	bucket *rate.Limiter
	at     time.Time
}

func newLimiter(l Limit) *Limiter { return NewLimiter(l, SettingRateLimit) }

// NewLimiter returns a limiter whose limit is the setting of that name.
func NewLimiter(l Limit, setting string) *Limiter {
	if l.PerSecond == 0 {
		l.PerSecond = 10_000
	}
	if l.Burst <= 0 {
		l.Burst = max(int(2*l.PerSecond), 1)
	}
	return &Limiter{limit: l, setting: setting, seen: map[string]*client{}}
}

// Limit implements ratelimit.Limiter, by caller.
func (l *Limiter) Limit(ctx context.Context) error {
	if l.limit.PerSecond < 0 || l.of(access.By(ctx).Name).Allow() {
		return nil
	}
	err := fail(codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_RATE_LIMITED,
		"more than %g calls a second from this client; slow down, or raise the coordinator's setting %s",
		l.limit.PerSecond, l.setting)
	err.metadata = map[string]string{"setting": l.setting}
	keepViolation(ctx, err)
	return err
}

// Count counts something that has happened already.
func (l *Limiter) Count(name string) { l.of(name).Allow() }

// Exhausted returns the error of a client of whom so much was counted that there may be no more at the moment.
func (l *Limiter) Exhausted(name string) error {
	if l.limit.PerSecond < 0 || l.of(name).Tokens() >= 1 {
		return nil
	}
	err := fail(codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_RATE_LIMITED,
		"more than %g refused tokens a second from this address; have the right one, or raise the coordinator's setting %s",
		l.limit.PerSecond, l.setting)
	err.metadata = map[string]string{"setting": l.setting}
	return err
}

// SettingFailureLimit is the name of the setting that bounds the refused tokens of an address.
const SettingFailureLimit = "failure-limit"

func (l *Limiter) of(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	c := l.seen[name]
	if c == nil {
		if len(l.seen) >= clientsKept {
			l.forget(now)
		}
		c = &client{bucket: rate.NewLimiter(rate.Limit(l.limit.PerSecond), l.limit.Burst)}
		l.seen[name] = c
	}
	c.at = now
	return c.bucket
}

// forget makes room: those that have been quiet for a minute, or else all. A bucket that is forgotten starts full.
func (l *Limiter) forget(now time.Time) {
	for name, c := range l.seen {
		if now.Sub(c.at) > time.Minute {
			delete(l.seen, name)
		}
	}
	if len(l.seen) >= clientsKept {
		clear(l.seen)
	}
}
