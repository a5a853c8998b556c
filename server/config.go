package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/internal/certificates"
	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/ingest"
	"github.com/tallyman-dev/tallyman/server/webhook"
)

// Config of a Server. Database is needed; zero values of the rest mean the defaults.
type Config struct {
	Database string // "postgres://…" or "sqlite:PATH"
	Migrate  bool   // bring the schema up to date instead of refusing an old one
	Listen   string // gRPC address; "" serves in process only
	HTTP     string // address of the API by HTTP; "" serves none
	Insecure bool   // permits addresses beyond loopback without encryption and authentication

	Auth string             // AuthNone, AuthTokens, or "": tokens with a ClientCA, or beyond loopback without Insecure
	TLS  certificates.Files // of both addresses; none for no encryption

	Lease             time.Duration // for which leases are granted and renewed; default 30 s
	HeartbeatInterval time.Duration // between beats; default 5 s, at most a third of the lease
	ReconnectGrace    time.Duration // for which leases outlive a broken heartbeat stream; default 5 s
	UploadTimeout     time.Duration // for which an interrupted upload waits to be resumed; default 1 h
	DrainTimeout      time.Duration // for open calls when the server stops; default 10 s
	HTTPIdleTimeout   time.Duration // for which a body that is sent or read by HTTP may stand still; default 1 min

	Retention           time.Duration // for which jobs that succeeded are kept; 0 for ever
	RetentionWithErrors time.Duration // for which jobs that ended otherwise are kept; 0 for ever

	Reader    ingest.ReaderConfig // limits of what is uploaded
	RateLimit api.Limit           // calls of one client

	FailureLimit api.Limit // refused tokens of one address; default 10 a second

	MaxOpenUploads int // of one client at once; default 64, below 0 no limit

	// MaxRunningPerProject is how many batches of one project run at the same time at most; 0 for no limit. It must be the
	// same for all coordinators of a database.
	MaxRunningPerProject int

	// Webhook is who is told that jobs have ended, and that too much crashes. It must be the same for all coordinators of a
	// database.
	Webhook webhook.Config

	Logger  *slog.Logger
	Version string
}

// Values of Config.Auth.
const (
	AuthNone   = "none"   // everybody who reaches the server may do everything
	AuthTokens = "tokens" // everybody must show a token, or a certificate of TLS.ClientCA
)

// asks reports whether everybody is asked who he is.
func (c *Config) asks() bool {
	beyond := func(address string) bool {
		host, _, err := net.SplitHostPort(address)
		return address != "" && (err != nil || !loopback(host))
	}
	return c.Auth == AuthTokens || c.Auth == "" && (c.TLS.ClientCA != "" || !c.Insecure && (beyond(c.Listen) || beyond(c.HTTP)))
}

// checkAccess reports what is wrong with how callers are known.
func (c *Config) checkAccess() error {
	switch {
	case c.Auth != "" && c.Auth != AuthNone && c.Auth != AuthTokens:
		return fmt.Errorf("auth %q: choose none or tokens", c.Auth)
	case (c.TLS.Certificate == "") != (c.TLS.Key == ""):
		return errors.New("tls-cert and tls-key belong together: give both or neither")
	case c.TLS.ClientCA != "" && c.TLS.Certificate == "":
		return errors.New("tls-client-ca needs tls-cert and tls-key: without encryption nobody shows a certificate")
	case c.TLS.ClientCA != "" && c.Auth == AuthNone:
		return errors.New("tls-client-ca says whose certificates count, but with auth none nobody is asked for one")
	}
	return nil
}

// Validate reports the first setting that makes no sense.
func (c *Config) Validate() error {
	if !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://") &&
		!strings.HasPrefix(c.Database, "sqlite:") {
		return fmt.Errorf("database %q must be postgres://… or sqlite:PATH", redact(c.Database))
	}
	for name, d := range map[string]time.Duration{
		"lease": c.Lease, "heartbeat-interval": c.HeartbeatInterval, "reconnect-grace": c.ReconnectGrace,
		"upload-timeout": c.UploadTimeout, "drain-timeout": c.DrainTimeout,
		"http-idle-timeout": c.HTTPIdleTimeout,
		"retention":         c.Retention, "retention-with-errors": c.RetentionWithErrors,
	} {
		if d < 0 {
			return fmt.Errorf("%s must not be negative", name)
		}
	}
	if c.MaxRunningPerProject < 0 {
		return errors.New("max-running-per-project must not be negative")
	}
	w := c.withDefaults()
	if w.HeartbeatInterval > w.Lease/3 {
		return fmt.Errorf("heartbeat-interval %v must be at most a third of lease %v", w.HeartbeatInterval, w.Lease)
	}
	if err := c.Webhook.Validate(); err != nil {
		return err
	}
	if err := c.Reader.Validate(); err != nil {
		return err
	}
	if err := c.checkAccess(); err != nil {
		return err
	}
	return errors.Join(c.checkAddress("listen", c.Listen), c.checkAddress("http", c.HTTP))
}

// checkAddress reports what is wrong with the address of a setting; "" is none.
func (c *Config) checkAddress(setting, address string) error {
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s address: %w", setting, err)
	}
	if !c.Insecure && !loopback(host) && (c.TLS.Certificate == "" || c.Auth == AuthNone) {
		return fmt.Errorf("without encryption and authentication the server listens on loopback only: give --tls-cert and --tls-key and "+
			"make tokens by `tallyman token create`, or choose --%s 127.0.0.1:PORT, or say --insecure if everybody who reaches %s may "+
			"do everything", setting, address)
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// redact keeps a database's address without its password and parameters.
func redact(dsn string) string {
	scheme, rest, ok := strings.Cut(dsn, "://")
	if !ok {
		return dsn
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + rest
}

func (c Config) withDefaults() Config {
	if c.Lease == 0 {
		c.Lease = 30 * time.Second
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = min(5*time.Second, c.Lease/6)
	}
	if c.ReconnectGrace == 0 {
		c.ReconnectGrace = min(5*time.Second, c.Lease)
	}
	if c.UploadTimeout == 0 {
		c.UploadTimeout = time.Hour
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.HTTPIdleTimeout == 0 {
		c.HTTPIdleTimeout = time.Minute
	}
	if c.FailureLimit.PerSecond == 0 {
		c.FailureLimit = api.Limit{PerSecond: 10, Burst: 50}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
