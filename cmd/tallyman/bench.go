package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/bench"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
)

func (p *program) benchVerb() *cobra.Command {
	config := bench.Defaults()
	var path string
	var engines []string
	all := bench.Scenarios()
	var names []string
	var list strings.Builder
	for _, s := range all {
		names = append(names, s.Name)
		fmt.Fprintf(&list, "  %-11s %s\n", s.Name, s.Summary)
	}
	verb := &cobra.Command{
		Use:   "bench [SCENARIO...]",
		Short: "Measure what this machine can do",
		Long: `Measure what this machine can do, with this program as coordinator and workers in processes of their own, on
databases made for the purpose and removed afterwards: SQLite always, PostgreSQL where --database names a server. The
numbers of a machine that others use differ every time; more rounds show by how much.

` + list.String(),
		Example: `  tallyman bench
  tallyman bench drain --batches 20000 --slots 8 --worker-processes 1 --rounds 3
  tallyman bench latency --database postgres://postgres@localhost/postgres -o json`,
		ValidArgs: names,
		RunE: func(verb *cobra.Command, args []string) error {
			chosen := all
			if len(args) > 0 {
				chosen = nil
				for _, name := range args {
					i := slices.Index(names, name)
					if i < 0 {
						return usageError("there is no scenario %q; choose of %s", name, strings.Join(names, ", "))
					}
					chosen = append(chosen, all[i])
				}
			}
			var err error
			if config.Program, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			config.Log, config.Engines = p.stderr, nil
			for _, name := range engines {
				config.Engines = append(config.Engines, bench.Engine(name))
			}
			if err := config.Validate(); err != nil {
				return usageError("%w", err)
			}
			report := bench.Report{
				Machine: bench.ThisMachine(), Version: programVersion(), Started: time.Now().UTC().Format(time.RFC3339),
			}
			if report.Versions, err = config.Versions(verb.Context()); err != nil {
				return err
			}
			// What was measured before an error is worth something, too.
			report.Results, err = bench.Run(verb.Context(), config, chosen)
			if err != nil && len(report.Results) == 0 {
				return err
			}
			report.Rows = bench.Rows(report.Results)
			return errors.Join(err, report.Write(p.stdout, path, p.format() == display.JSON))
		},
	}
	flags := verb.Flags()
	flags.StringVar(&config.Database, "database", "", "a PostgreSQL server to measure on, too, postgres://…, whose user may create databases")
	flags.StringSliceVar(&engines, "engines", []string{string(bench.SQLite), string(bench.Postgres)}, "what is measured, of these")
	flags.StringVar(&config.Dir, "dir", "", "folder for the databases while they are measured (default: that of the system)")
	flags.StringVar(&path, "report", "", "file for a report as JSON, besides what is printed")
	flags.IntVar(&config.Rounds, "rounds", config.Rounds, "how often everything is measured, in turns")
	flags.IntVar(&config.Batches, "batches", config.Batches, "batches that are drained")
	flags.IntVar(&config.Slots, "slots", config.Slots, "batches that are worked on at a time, of all workers together")
	flags.IntVar(&config.Workers, "worker-processes", config.Workers, "worker processes")
	flags.IntVar(&config.Jobs, "jobs", config.Jobs, "jobs whose latency is taken, and questions that are asked of a history")
	flags.IntVar(&config.Started, "starts", config.Started, "starts of the program whose time is taken")
	flags.IntVar(&config.Finished, "finished", config.Finished, "finished batches of a history")
	flags.IntVar(&config.SmallJobs, "small-jobs", config.SmallJobs, "jobs of 100 items beside a big one")
	flags.IntVar(&config.BigItems, "big-items", config.BigItems, "items of that big one")
	flags.IntVar(&config.Documents, "documents", config.Documents, "annotated documents that are stored")
	flags.IntVar(&config.Kills, "kills", config.Kills, "workers that are killed with a batch in hand")
	flags.IntVar(&config.Lines, "lines", config.Lines, "items of a job some of which kill the process that handles them")
	flags.IntVar(&config.Culprits, "culprits", config.Culprits, "those that do")
	flags.IntVar(&config.Megabytes, "megabytes", config.Megabytes, "size of an upload")
	flags.IntVar(&config.Sessions, "sessions", config.Sessions, "workers that only beat, with 4 leases each")
	flags.IntVar(&config.Watchers, "watchers", config.Watchers, "clients that watch a job")
	flags.DurationVar(&config.Watched, "for", config.Watched, "for how long workers beat and clients watch")
	verb.AddCommand(p.profiled(p.benchWorkVerb()), p.benchChildVerb())
	return verb
}

// benchWorkVerb is what runs in the worker processes of a bench.
func (p *program) benchWorkVerb() *cobra.Command {
	var slots int
	var hold bool
	verb := &cobra.Command{
		Use:     "work",
		Short:   "Be the worker of a measurement, which does nothing",
		Long:    "Take what a coordinator has and do nothing with it. tallyman bench starts this by itself.",
		Example: `  tallyman bench work --server 127.0.0.1:7650 --slots 100`,
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			logger, err := p.logger(p.stderr, slog.LevelWarn)
			if err != nil {
				return err
			}
			return bench.Work(verb.Context(), p.server, slots, hold, logger)
		},
	}
	verb.Flags().IntVar(&slots, "slots", 1, "batches worked on at a time")
	verb.Flags().BoolVar(&hold, "hold", false, "never end with what it takes")
	return verb
}

// benchChildVerb is the command that handles items in a bench.
func (p *program) benchChildVerb() *cobra.Command {
	return &cobra.Command{
		Use:     "child",
		Short:   "Be the command of a measurement, which some items kill",
		Long:    "Answer items, line by line, and die of some. tallyman bench has a worker start this.",
		Example: `  tallyman work --exec 'tallyman bench child'`,
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return bench.Child(p.stdin, p.stdout) },
	}
}
