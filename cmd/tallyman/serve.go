package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/worker"
)

// serving is what the flags of serve say.
type serving struct {
	config     server.Config
	http       string
	workers    int
	store      string
	maxPayload int64
	forget     time.Duration
	webhook    webhooking
	sources    sourcing
	exec       execution
	kind       string // that the command handles
}

func (s *serving) flags(flags *pflag.FlagSet) {
	flags.StringVar(&s.config.Database, "database", "", "postgres://… (default: the embedded one of the data folder)")
	flags.StringVar(&s.config.Listen, "listen", defaultAddress, "address to listen on; port 0 chooses a free one")
	flags.StringVar(&s.http, "http", "", "address of the API by HTTP; none for none\n"+
		"(default: "+defaultHTTP+", none with another --listen than the default)")
	flags.BoolVar(&s.config.Insecure, insecureFlag, false, "listen beyond this host also without encryption and authentication")
	flags.StringVar(&s.config.Auth, "auth", "", "tokens: everybody must show a token or a client certificate; none: nobody is asked\n"+
		"(default: tokens beyond this host and with --tls-client-ca, else none)")
	flags.StringVar(&s.config.TLS.ClientCA, "tls-client-ca", "",
		"PEM file of the authorities of client certificates, which say by tallyman:ROLE what their holders may do")
	flags.Float64Var(&s.config.FailureLimit.PerSecond, api.SettingFailureLimit, 0,
		"refused tokens a second of one address; below 0 no limit (default 10)")
	flags.IntVar(&s.workers, "workers", 0, "batches worked on at a time in this process")
	flags.StringVar(&s.store, "store", "", "annotation store of these workers (default: "+folder.Annotations+
		" in the data folder, or the database)")
	flags.DurationVar(&s.config.Lease, "lease", 0, "for how long a worker may be silent (default 30s)")
	flags.DurationVar(&s.config.HeartbeatInterval, "heartbeat-interval", 0, "between signs of life (default 5s)")
	flags.DurationVar(&s.config.ReconnectGrace, "reconnect-grace", 0,
		"for how long a worker whose connection broke may take to come back (default 5s)")
	flags.DurationVar(&s.config.UploadTimeout, "upload-timeout", 0,
		"for how long an interrupted upload waits to be resumed (default 1h)")
	flags.DurationVar(&s.config.HTTPIdleTimeout, "http-idle-timeout", 0,
		"for how long what is sent or read by HTTP may stand still (default 1m)")
	flags.DurationVar(&s.config.DrainTimeout, "drain-timeout", 0, "for open calls when the server stops (default 10s)")
	spanVar(flags, &s.config.Retention, "retention", 7*day, "for how long jobs that succeeded are kept; 0 for ever")
	spanVar(flags, &s.config.RetentionWithErrors, "retention-with-errors", 30*day,
		"for how long jobs that ended otherwise are kept; 0 for ever")
	serverLimits(flags, &s.config)
	s.webhook.flags(flags)
	forgetInterval(flags, &s.forget)
	workLimits(flags, &s.maxPayload)
	s.sources.flags(flags)
	s.exec.flags(flags)
	flags.StringVar(&s.kind, "kind", "", "with --exec, the kind of the jobs that these workers take (default "+execKind+")")
}

func (p *program) serveVerb() *cobra.Command {
	var s serving
	verb := &cobra.Command{
		Use:   "serve",
		Short: "Run a coordinator",
		Long: `Run a coordinator, on the embedded database of the data folder or on PostgreSQL, where any number of them may share
one database. It prints its address when it is ready. SIGTERM or Ctrl-C stops it in order, a second one kills it; its
workers notice nothing of a restart within their leases.

Beyond this host it listens only with TLS, and then asks everybody for a token or a client certificate; ` + "`tallyman token`" + `
makes tokens. Certificates and keys are read anew when their files change.

Jobs that ended are deleted after a while, as --retention and --retention-with-errors say, and with them what
` + "`stats`, `findings` and `find`" + ` know of them; the annotations they stored stay.`,
		Example: `  tallyman serve --workers 2
  tallyman serve --workers 4 --kind ner --exec 'python3 ner.py'
  tallyman serve --database postgres://tallyman@db/tallyman --listen 0.0.0.0:7650 --http 0.0.0.0:7651 \\
      --tls-cert server.pem --tls-key server.key
  TALLYMAN_DATA=/srv/tallyman tallyman serve --listen 127.0.0.1:0 --log-format json`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			logger, err := p.logger(p.stderr, slog.LevelInfo)
			if err != nil {
				return err
			}
			if s.config.Webhook, err = s.webhook.config(os.Getenv); err != nil {
				return err
			}
			s.config.Logger, s.config.Version, s.sources.config.Logger = logger, programVersion(), logger
			if err := s.sources.check(verb.Flags()); err != nil {
				return err
			}
			if err := s.exec.check(verb.Flags(), s.kind); err != nil {
				return err
			}
			if (s.exec.chosen() || s.exec.isolate) && s.workers == 0 {
				return usageError("--%s and --%s are for the workers of this process: how many are there to be (--workers)?", execFlag, isolateFlag)
			}
			return p.serve(verb.Context(), logger, s)
		},
	}
	s.flags(verb.Flags())
	return verb
}

// httpAddress returns the address that is meant by the one that was said, "" for none. Where gRPC has an address of its own
// so must this: the port beside it may be another coordinator's.
func httpAddress(said, listen string) string {
	switch {
	case said == "none" || said == "" && listen != defaultAddress:
		return ""
	case said == "":
		return defaultHTTP
	}
	return said
}

func (p *program) serve(ctx context.Context, logger *slog.Logger, s serving) error {
	if err := checkSlots("workers", s.workers); err != nil {
		return err
	}
	var c *coordinator
	var err error
	s.config.HTTP = httpAddress(s.http, s.config.Listen)
	s.config.TLS.Certificate, s.config.TLS.Key = p.tls.Certificate, p.tls.Key
	if s.config.Database == "" {
		s.config.Database = folder.DSN(p.data, folder.Database)
		if s.store == "" {
			s.store = folder.DSN(p.data, folder.Annotations)
		}
		if err := s.config.Validate(); err != nil {
			return usageError("%w", err)
		}
		c, err = startEmbedded(ctx, p.data, s.config)
	} else {
		if s.store == "" {
			s.store = s.config.Database
		}
		if err := s.config.Validate(); err != nil {
			return usageError("%w", err)
		}
		c, err = startCoordinator(ctx, s.config)
	}
	if err != nil {
		return err
	}
	return errors.Join(p.serveUntil(ctx, logger, c, s), c.close())
}

// handlers returns those of the workers of this process.
func (s *serving) handlers(ctx context.Context, stderr io.Writer) (handlers, error) {
	if s.exec.chosen() {
		return s.exec.commandHandlers(ctx, cmp.Or(s.kind, execKind), s.store, &s.sources, stderr, s.config.Logger)
	}
	return s.exec.annotationHandlers(ctx, s.store, &s.sources, s.workers, s.config.Logger)
}

// serveUntil works, if it is to, until ctx ends or something breaks.
func (p *program) serveUntil(ctx context.Context, logger *slog.Logger, c *coordinator, s serving) error {
	var work *workforce
	var idle chan struct{} // never closed
	if s.workers > 0 {
		h, err := s.handlers(ctx, p.stderr)
		if err != nil {
			return err
		}
		work, err = startWork(context.WithoutCancel(ctx), h, worker.Config{
			Conn: c.conn, WorkerID: c.workerID(), Slots: s.workers, MaxPayloadBytes: s.maxPayload, ForgetInterval: s.forget,
			Logger: logger,
		})
		if err != nil {
			return err
		}
		idle = work.ended
	}
	fmt.Fprintf(p.stdout, "tallyman serves at %s\n", c.server.Addr())
	if at := c.server.HTTPAddr(); at != "" {
		scheme := "http"
		if p.tls.Certificate != "" {
			scheme = "https"
		}
		fmt.Fprintf(p.stdout, "the dashboard is at %s://%s\nthe API by HTTP is at %s://%s/api\n", scheme, at, scheme, at)
	}
	var err error
	for serving := true; serving; {
		serving = false
		select {
		case <-ctx.Done():
			logger.Info("stopping; a second signal kills")
		case <-idle:
			if work.drained() {
				logger.Warn("the workers of this process were drained; the coordinator goes on without them")
				idle, serving = nil, true
				continue
			}
			err = errNobodyWorks
		case <-c.ended:
			err = errors.New("the coordinator has ended")
		}
	}
	if work != nil {
		err = errors.Join(err, work.close())
	}
	return err
}
