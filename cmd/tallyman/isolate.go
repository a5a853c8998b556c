package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/annotation/store"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
	"github.com/tallyman-dev/tallyman/worker/process"
)

const (
	isolateFlag       = "isolate"
	isolateMemoryFlag = process.SettingIsolatedMemory
	isolateHelp       = "handle annotations in processes of their own, so that what kills one costs one item. Linux only"

	// isolatedName is that of the verb that such a process runs.
	isolatedName = "handle-annotations"

	// exitTemporary says that a store is not available at the moment.
	exitTemporary = 75
)

// isolatedVerb is what runs in a process of its own: the handler of annotations.
func (p *program) isolatedVerb() *cobra.Command {
	var dsn string
	var sources sourcing
	verb := &cobra.Command{
		Use:   isolatedName,
		Short: "Handle annotations for a worker in another process",
		Long: `Handle the batches of a worker in another process, which starts this by itself (tallyman work --isolate) and is at the
other end of standard input and output.`,
		Example: `  tallyman handle-annotations --store sqlite:annotations.db`,
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			// Its worker ends it; a Ctrl-C on the terminal is the worker's, too.
			ctx := context.WithoutCancel(verb.Context())
			logger, err := p.logger(p.stderr, slog.LevelWarn)
			if err != nil {
				return err
			}
			sources.config.Logger = logger
			if err := sources.check(verb.Flags()); err != nil {
				return err
			}
			h, err := annotationHandlers(ctx, dsn, &sources)
			if errors.Is(err, store.ErrUnavailable) {
				return &exitError{code: exitTemporary, err: err}
			}
			if err != nil {
				return err
			}
			return errors.Join(process.Serve(ctx, p.stdin, p.stdout, h.byKind[tallymanv1.KindAnnotations]), h.close())
		},
	}
	verb.Flags().StringVar(&dsn, "store", "", "annotation store")
	sources.flags(verb.Flags())
	return verb
}

// isolated handles annotations in other processes, and looks after their store in this one.
type isolated struct {
	*annotations.Handler
	processes *process.Isolated
}

var (
	_ worker.Preparer  = isolated{}
	_ worker.Forgetter = isolated{}
)

// Handle has a batch handled in another process.
func (i isolated) Handle(ctx context.Context, b *worker.Batch) error {
	return i.processes.Handle(ctx, b)
}

// isolatedHandlers returns the handler of annotations, on the store that the DSN names and with these sources, whose
// batches, as many at a time as there are slots, are handled in processes of their own.
func isolatedHandlers(ctx context.Context, dsn string, s *sourcing, slots int, memory int64, logger *slog.Logger) (handlers, error) {
	self, err := os.Executable()
	if err != nil {
		return handlers{}, fmt.Errorf("isolate the handler: %w", err)
	}
	// The name of the store, which may have a password in it, is not for the list of processes.
	processes, err := process.NewIsolated(process.Config{
		Command: "exec " + quoted(self) + " " + isolatedName, MaxMemory: memory, Logger: logger,
		Env: append(s.environment(slots), environmentName("store")+"="+dsn),
	})
	if err != nil {
		return handlers{}, usageError("--%s: %w", isolateFlag, err)
	}
	h, end, err := openAnnotations(ctx, dsn, nil) // the other processes ask the sources
	if err != nil {
		return handlers{}, errors.Join(err, processes.Close())
	}
	return handlers{
		byKind: map[string]worker.Handler{tallymanv1.KindAnnotations: isolated{h, processes}},
		close:  func() error { return errors.Join(processes.Close(), end()) },
	}, nil
}
