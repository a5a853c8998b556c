package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// working is what the flags of work say.
type working struct {
	config  worker.Config
	kind    string
	store   string
	metrics string // address
	exec    execution

	sources sourcing
}

func (w *working) flags(flags *pflag.FlagSet) {
	flags.StringVar(&w.kind, "kind", "", "kind of jobs to work on (default "+tallymanv1.KindAnnotations+", with --exec "+execKind+")")
	flags.StringVar(&w.store, "store", "", "annotation store, sqlite:PATH or postgres://… (default: "+folder.Annotations+
		" in the data folder)")
	flags.IntVar(&w.config.Slots, "slots", 0, "batches worked on at a time (default: number of CPUs)")
	flags.StringVar(&w.config.WorkerID, "worker-id", "", "name of this installation; a new process of the same name ends the old "+
		"one's session (default: random)")
	flags.BoolVar(&w.config.ExitWhenIdle, "exit-when-idle", false, "end when there is nothing to do")
	flags.DurationVar(&w.config.DrainTimeout, "drain-timeout", 0,
		"for batches in hand when the worker stops (default 10s)")
	flags.StringVar(&w.metrics, metricsFlag, "", "address at which Prometheus finds the metrics of this worker, such as :9465, which\n"+
		"without a host is this host's alone (default: none)")
	forgetInterval(flags, &w.config.ForgetInterval)
	workLimits(flags, &w.config.MaxPayloadBytes)
	w.exec.flags(flags)
	w.sources.flags(flags)
}

// forgetInterval is the flag of whoever has workers for long.
func forgetInterval(flags *pflag.FlagSet, interval *time.Duration) {
	flags.DurationVar(interval, "forget-interval", 0,
		"how often the annotation store is cleared of records of jobs that were deleted; negative never (default 1h)")
}

func (p *program) workVerb() *cobra.Command {
	var w working
	verb := &cobra.Command{
		Use:   "work",
		Short: "Run a worker",
		Long: `Run a worker for a coordinator on this or another host. SIGTERM or Ctrl-C stops it in order: it takes nothing new,
finishes what it has in hand or gives it back; a second one kills it. Without a coordinator it waits for one, and goes
on at another of those that --server names when its own is gone.

All workers of one coordinator must use one annotation store. Beside a server of the data folder that is known; a
worker of another server needs --store, one with --exec only if its command finds annotations.
` + execHelp + sourcesHelp,
		Example: `  tallyman work
  tallyman work --server 10.0.0.5:7650,10.0.0.6:7650 --store postgres://tallyman@db/tallyman --slots 8
  tallyman work --exit-when-idle --worker-id "$SLURM_JOB_ID"
  tallyman work --source PubMed=https://docs.example.org/pubmed --source-rate 3
  tallyman work --server 10.0.0.5:7650 --kind ner --exec 'python3 ner.py' --slots 4`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			logger, err := p.logger(p.stderr, slog.LevelInfo)
			if err != nil {
				return err
			}
			w.config.Logger, w.sources.config.Logger = logger, logger
			if err := w.exec.check(verb.Flags(), w.kind); err != nil {
				return err
			}
			if err := w.sources.check(verb.Flags()); err != nil {
				return err
			}
			return p.work(verb, w)
		},
	}
	w.flags(verb.Flags())
	return verb
}

func (p *program) work(verb *cobra.Command, w working) error {
	ctx := verb.Context()
	if err := checkSlots("slots", w.config.Slots); err != nil {
		return err
	}
	w.config.Address = p.server
	if p.server == "" {
		var err error
		if w.config.Address, err = p.localServer(ctx); err != nil {
			return err
		}
		if w.store == "" {
			w.store = folder.DSN(p.data, folder.Annotations)
		}
	}
	credential, err := p.credential(verb)
	if err != nil {
		return err
	}
	w.config.TLS, w.config.Token, w.config.TokenInClear = credential.tls, credential.token, credential.clear
	h, err := p.handlers(ctx, w)
	if err != nil {
		return err
	}
	w.config.Handlers = h.byKind
	endMetrics, err := p.serveMetrics(ctx, w.metrics, &w.config)
	if err != nil {
		return errors.Join(err, h.close())
	}
	work, err := startWork(ctx, h, w.config)
	if err != nil {
		return errors.Join(err, endMetrics())
	}
	<-work.ended
	if err := errors.Join(work.close(), endMetrics()); err != nil {
		return err
	}
	if work.drained() {
		fmt.Fprintln(p.stderr, "the worker was drained")
	}
	return nil
}

// handlers returns those of a worker.
func (p *program) handlers(ctx context.Context, w working) (handlers, error) {
	if w.exec.chosen() {
		return w.exec.commandHandlers(ctx, cmp.Or(w.kind, execKind), w.store, &w.sources, p.stderr, w.config.Logger)
	}
	if w.store == "" {
		return handlers{}, usageError("--store is needed with --server: name the annotation store that all workers of %s share, "+
			"such as postgres://user@host/database", p.server)
	}
	return w.exec.annotationHandlers(ctx, w.store, &w.sources, w.config.Slots, w.config.Logger)
}

// localServer returns the address of the server of the data folder.
func (p *program) localServer(ctx context.Context) (string, error) {
	if !folder.Exists(p.data) {
		return "", p.noServer()
	}
	lock, err := folder.Acquire(ctx, p.data, lockWait)
	if held, ok := errors.AsType[*folder.HeldError](err); ok && held.Holder.Address != "" {
		return held.Holder.Address, nil
	}
	if err != nil {
		return "", err
	}
	return "", errors.Join(p.noServer(), lock.Release())
}

func (p *program) noServer() error {
	return &exitError{code: exitUnreachable, err: fmt.Errorf("no server serves the data folder %s: start one with "+
		"`tallyman serve`, or name one with --server", p.data)}
}
