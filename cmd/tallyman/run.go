package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/ingest"
	"github.com/tallyman-dev/tallyman/worker"
)

const runName = "run"

func (p *program) runVerb() *cobra.Command {
	var s submission
	var workers int
	var storeDSN string
	var reader ingest.ReaderConfig
	var maxPayload int64
	var perProject int
	var exec execution
	var jobs []int64
	var sources sourcing
	verb := &cobra.Command{
		Use:   runName + " {FILE... | --job ID}",
		Short: "Do everything in one process: take files in, store them, say what became of every item",
		Long: `Take files in, as one job, validate and store their annotations, and say what became of every item.
Coordinator, workers and databases are in this process and in the data folder; nothing needs to be installed, and
other commands see the folder while it runs and afterwards.

Ctrl-C stops in order and says how to go on: nothing that is stored is lost, nothing is stored twice. With --job it
takes nothing in, but finishes jobs of the folder that are open, as after a retry.
` + filesHelp + execHelp + sourcesHelp + modesHelp,
		Example: `  tallyman run collection.jsonl --project my-corpus
  tallyman run more.jsonl --project my-corpus --mode add
  tallyman run corpus/ extra.tgz --project my-corpus --workers 4 --data /srv/tallyman
  zcat large.jsonl.gz | tallyman run - --project large-corpus
  tallyman run items.jsonl --exec 'python3 ner.py' --param model=large
  tallyman run --job 3 --exec 'python3 ner.py'`,
		RunE: func(verb *cobra.Command, args []string) error {
			if err := checkJobs(jobs, args, s.resume); err != nil {
				return err
			}
			if p.server != "" {
				return usageError("run works on its own data folder, and --server (or TALLYMAN_SERVER) names a coordinator: " +
					"`tallyman submit --watch` sends files to it")
			}
			if err := checkSlots("workers", workers); err != nil {
				return err
			}
			if err := reader.Validate(); err != nil {
				return usageError("%w", err)
			}
			if perProject < 0 {
				return usageError("--%s must not be negative", runningPerProject)
			}
			if err := exec.check(verb.Flags(), s.kind); err != nil {
				return err
			}
			if err := sources.check(verb.Flags()); err != nil {
				return err
			}
			if exec.chosen() {
				s.kind = cmp.Or(s.kind, execKind)
			}
			var u upload
			if len(jobs) == 0 {
				in, err := p.input(args)
				if err != nil {
					return err
				}
				if u, err = s.upload(in); err != nil {
					return err
				}
			}
			if s.resume != "" && !folder.Exists(p.data) {
				return noUpload(s.resume)
			}
			if len(jobs) > 0 && !folder.Exists(p.data) {
				return fmt.Errorf("there are no jobs in the data folder %s", p.data)
			}
			f := p.newFollower(verb, &s)
			f.otherStore, f.exec, f.sources, f.jobs = storeDSN != "", exec, sources, jobs
			logger, err := p.logger(f.progress, slog.LevelWarn)
			if err != nil {
				return err
			}
			// What a worker has to say of its batches the coordinator says, too.
			workLogger, err := p.logger(f.progress, slog.LevelError)
			if err != nil {
				return err
			}
			f.sources.config.Logger, f.log = logger, logger
			config := serverConfig(logger)
			config.Reader, config.MaxRunningPerProject = reader, perProject
			working := worker.Config{Slots: workers, MaxPayloadBytes: maxPayload, Logger: workLogger}
			return f.run(verb.Context(), config, storeDSN, working, u)
		},
	}
	s.flags(verb.Flags())
	verb.Flags().StringVar(&s.kind, "kind", "", "with --exec, the kind of the jobs (default "+execKind+")")
	verb.Flags().Int64SliceVar(&jobs, "job", nil, "finish these jobs of the data folder, which are open, instead of taking files in")
	verb.Flags().IntVar(&workers, "workers", runtime.NumCPU(), "batches worked on at a time")
	verb.Flags().StringVar(&storeDSN, "store", "", "annotation store (default: "+folder.Annotations+" in the data folder)")
	readLimits(verb.Flags(), &reader)
	runningLimits(verb.Flags(), &perProject)
	workLimits(verb.Flags(), &maxPayload)
	exec.flags(verb.Flags())
	sources.flags(verb.Flags())
	return verb
}

// runPatience is for how long an upload waits for the database of this process, such as for room on its disk: somebody is
// told, and may take a while.
const runPatience = time.Hour

// run serves the data folder, works, and follows the job of an upload.
func (f *follower) run(ctx context.Context, config server.Config, storeDSN string, working worker.Config, u upload) error {
	p := f.program
	config.Listen = "127.0.0.1:0" // for the other commands
	coordinator, err := startEmbedded(ctx, p.data, config)
	if err != nil {
		return err
	}
	if storeDSN == "" {
		storeDSN = folder.DSN(p.data, folder.Annotations)
	}
	c, err := client.New(client.Config{Conn: coordinator.conn, RetryFor: runPatience})
	if err == nil {
		err = f.check(ctx, c)
	}
	if err != nil {
		return errors.Join(err, coordinator.close())
	}
	// An interruption ends the following first, then the work, then the coordinator.
	working.Conn, working.WorkerID = coordinator.conn, coordinator.workerID()
	h, err := f.handlers(ctx, storeDSN, working)
	if err != nil {
		return errors.Join(err, coordinator.close())
	}
	work, err := startWork(context.WithoutCancel(ctx), h, working)
	if err != nil {
		return errors.Join(err, coordinator.close())
	}
	return errors.Join(f.followWork(ctx, c, work, u), work.close(), coordinator.close())
}

// handlers returns those of the jobs that are followed.
func (f *follower) handlers(ctx context.Context, storeDSN string, working worker.Config) (handlers, error) {
	if f.exec.chosen() {
		return f.exec.commandHandlers(ctx, f.submission.kind, storeDSN, &f.sources, f.progress, f.log)
	}
	return f.exec.annotationHandlers(ctx, storeDSN, &f.sources, working.Slots, working.Logger)
}

// followWork follows the named jobs, or that of an upload, as long as somebody works.
func (f *follower) followWork(ctx context.Context, c *client.Client, work *workforce, u upload) (err error) {
	following, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-work.ended:
			cancel(errNobodyWorks)
		case <-following.Done():
		}
	}()
	if len(f.jobs) > 0 {
		err = f.finish(following, c)
	} else {
		err = f.submit(following, c, u)
	}
	cancel(nil)
	<-done
	switch {
	case !errors.Is(err, errNobodyWorks):
	case work.drained():
		err = errDrained
	default:
		err = nil // what ended the work says more
	}
	return err
}

var errDrained = errors.New("the workers of this process were drained before all was done")

var errNobodyWorks = errors.New("the worker of this process has ended")

// newFollower returns a follower that shows progress on the error stream.
func (p *program) newFollower(verb *cobra.Command, s *submission) *follower {
	progress := display.NewProgress(p.stderr, canRedraw(p.stderr))
	return &follower{program: p, verb: verb, submission: s, progress: progress}
}
