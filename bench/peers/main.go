package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/tallyman-dev/tallyman/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context) error {
	c := bench.Defaults()
	flag.StringVar(&c.Program, "program", "bin/tallyman", "the tallyman binary")
	flag.StringVar(&c.Database, "database", os.Getenv("TALLYMAN_TEST_POSTGRES"), "a PostgreSQL server on which databases may be created")
	flag.IntVar(&c.Rounds, "rounds", 3, "how often everything is measured, in turns")
	flag.IntVar(&c.Batches, "batches", c.Batches, "batches, or jobs, that are drained")
	flag.IntVar(&c.Jobs, "jobs", c.Jobs, "jobs whose latency is taken")
	asJSON := flag.Bool("json", false, "write a report as JSON instead of a table")
	version := flag.String("version", "", "of the program, for the report")
	flag.Parse()
	if c.Database == "" {
		return errors.New("--database is needed")
	}
	report := bench.Report{Machine: bench.ThisMachine(), Version: *version, Started: time.Now().UTC().Format(time.RFC3339)}
	for round := range c.Rounds {
		for _, m := range measurements() {
			fmt.Fprintf(os.Stderr, "%s %s, %s, round %d of %d\n", time.Now().Format(time.TimeOnly), m.scenario, m.engine, round+1, c.Rounds)
			results, err := m.take(ctx, c)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", m.scenario, m.engine, err)
			}
			for _, r := range results {
				r.Scenario = m.scenario
				if m.engine != "" {
					r.Engine = m.engine
				}
				report.Results = append(report.Results, r)
			}
		}
	}
	report.Rows = bench.Rows(report.Results)
	if *asJSON {
		return report.WriteJSON(os.Stdout)
	}
	return bench.WriteTable(os.Stdout, report.Rows)
}

// measurement is a scenario as somebody does it.
type measurement struct {
	scenario, engine string
	take             func(context.Context, bench.Config) ([]bench.Result, error)
}

func measurements() []measurement {
	ours := func(name, scenario string, slots, workers int) measurement {
		return measurement{name, "", func(ctx context.Context, c bench.Config) ([]bench.Result, error) {
			c.Rounds, c.Slots, c.Workers = 1, slots, workers
			for _, s := range bench.Scenarios() {
				if s.Name == scenario {
					return bench.Run(ctx, c, []bench.Scenario{s})
				}
			}
			return nil, fmt.Errorf("there is no scenario %s", scenario)
		}}
	}
	theirs := func(name, engine string, take func(context.Context, bench.Config) (bench.Result, error)) measurement {
		return measurement{name, engine, func(ctx context.Context, c bench.Config) ([]bench.Result, error) {
			r, err := take(ctx, c)
			return []bench.Result{r}, err
		}}
	}
	river := func(slots int) func(context.Context, bench.Config) (bench.Result, error) {
		return func(ctx context.Context, c bench.Config) (bench.Result, error) { return riverDrain(ctx, c, slots) }
	}
	return []measurement{
		ours("drain", "drain", 1000, 10),
		theirs("drain", "river", river(2000)),
		ours("drain, 8 slots", "drain", 8, 1),
		theirs("drain, 8 slots", "river", river(8)),
		ours("latency", "latency", 1000, 10),
		theirs("latency", "river", riverLatency),
	}
}
