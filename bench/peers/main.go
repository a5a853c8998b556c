package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
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
	flag.StringVar(&c.Dir, "dir", "", "folder for what is no PostgreSQL database (default: that of the system)")
	flag.IntVar(&c.Rounds, "rounds", 3, "how often everything is measured, in turns")
	flag.IntVar(&c.Batches, "batches", c.Batches, "batches, or jobs, that are drained")
	flag.IntVar(&c.Jobs, "jobs", c.Jobs, "jobs whose latency is taken")
	folder := flag.String("graphile", "bin/graphile", "folder with Graphile Worker and its peer.mjs")
	server := flag.String("temporal", "bin/temporal", "the program of bench/temporal")
	chosen := flag.String("peers", "river,graphile,asynq,temporal", "who is measured beside Tallyman")
	asJSON := flag.Bool("json", false, "write a report as JSON instead of a table")
	path := flag.String("report", "", "file for a report as JSON, besides")
	version := flag.String("version", "", "of the program, for the report")
	flag.Parse()
	if c.Database == "" {
		return errors.New("--database is needed")
	}
	report := bench.Report{
		Machine: bench.ThisMachine(), Version: *version, Started: time.Now().UTC().Format(time.RFC3339),
	}
	var err error
	if report.Versions, err = c.Versions(ctx); err != nil {
		return err
	}
	measurements := []measurement{
		ours("drain", "drain", 1000, 10), ours("drain, 8 slots", "drain", 8, 1), ours("latency", "latency", 1000, 10),
	}
	all := peers(graphile{*folder}, temporal{*server})
	for name := range strings.SplitSeq(*chosen, ",") {
		i := slices.IndexFunc(all, func(p peer) bool { return p.name == name })
		if i < 0 {
			return fmt.Errorf("there is no peer %q", name)
		}
		if report.Versions[name], err = all[i].version(ctx); err != nil {
			// Who is missing is left out, but not without a word.
			report.Versions[name] = "left out: " + err.Error()
			fmt.Fprintf(os.Stderr, "peers: %s is LEFT OUT: %v\n", name, err)
			continue
		}
		measurements = append(measurements, all[i].measurements...)
	}
	// Who does the same comes one after the other.
	slices.SortStableFunc(measurements, func(a, b measurement) int { return strings.Compare(a.scenario, b.scenario) })
	// What was measured before an error is worth something, too.
	report.Results, err = take(ctx, c, measurements)
	report.Rows = bench.Rows(report.Results)
	return errors.Join(err, report.Write(os.Stdout, *path, *asJSON))
}

// take takes all measurements, in turns over the rounds.
func take(ctx context.Context, c bench.Config, measurements []measurement) ([]bench.Result, error) {
	var all []bench.Result
	for round := range c.Rounds {
		for _, m := range measurements {
			fmt.Fprintf(os.Stderr, "%s %s, %s, round %d of %d\n", time.Now().Format(time.TimeOnly), m.scenario, m.engine, round+1, c.Rounds)
			results, err := m.take(ctx, c)
			if err != nil {
				return all, fmt.Errorf("%s, %s: %w", m.scenario, m.engine, err)
			}
			for _, r := range results {
				r.Scenario = m.scenario
				if m.engine != tallyman {
					r.Engine = m.engine
				}
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// tallyman is who measures itself, on each of its engines.
const tallyman = "tallyman"

// measurement is a scenario as somebody does it.
type measurement struct {
	scenario, engine string
	take             func(context.Context, bench.Config) ([]bench.Result, error)
}

func ours(name, scenario string, slots, workers int) measurement {
	return measurement{name, tallyman, func(ctx context.Context, c bench.Config) ([]bench.Result, error) {
		c.Rounds, c.Slots, c.Workers = 1, slots, workers
		if slots < 10 {
			c.Batches = fewer(c.Batches)
		}
		for _, s := range bench.Scenarios() {
			if s.Name == scenario {
				return bench.Run(ctx, c, []bench.Scenario{s})
			}
		}
		return nil, fmt.Errorf("there is no scenario %s", scenario)
	}}
}

// fewer is how many batches are drained by few slots, so that it takes no longer than by many.
func fewer(batches int) int { return max(1, batches/5) }

// peer is a queue that does the same work.
type peer struct {
	name         string
	version      func(context.Context) (string, error) // an error says that it is not here
	measurements []measurement
}

// peers are all of them. Many slots are as many as suits the peer.
func peers(g graphile, t temporal) []peer {
	theirs := func(name, engine string, take func(context.Context, bench.Config) (bench.Result, error)) measurement {
		return measurement{name, engine, func(ctx context.Context, c bench.Config) ([]bench.Result, error) {
			r, err := take(ctx, c)
			return []bench.Result{r}, err
		}}
	}
	three := func(engine string, drain func(context.Context, bench.Config, int) (bench.Result, error), many int,
		latency func(context.Context, bench.Config) (bench.Result, error),
	) []measurement {
		with := func(slots int) func(context.Context, bench.Config) (bench.Result, error) {
			return func(ctx context.Context, c bench.Config) (bench.Result, error) { return drain(ctx, c, slots) }
		}
		few := func(ctx context.Context, c bench.Config) (bench.Result, error) {
			c.Batches = fewer(c.Batches)
			return drain(ctx, c, 8)
		}
		return []measurement{
			theirs("drain", engine, with(many)), theirs("drain, 8 slots", engine, few), theirs("latency", engine, latency),
		}
	}
	return []peer{
		{"river", built("github.com/riverqueue/river"), three("river", riverDrain, 2000, riverLatency)},
		{"graphile", g.version, three("graphile", g.drain, 24, g.latency)},
		{"asynq", asynqVersion, three("asynq", asynqDrain, 1000, asynqLatency)},
		{"temporal", t.version, three("temporal", t.drain, 1000, t.latency)},
	}
}

// built returns the version of a module that is a part of this program.
func built(module string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		info, ok := debug.ReadBuildInfo()
		if !ok {
			return "unknown", nil
		}
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version, nil
			}
		}
		return "unknown", nil
	}
}

// asynqVersion returns the versions of asynq and of Redis.
func asynqVersion(ctx context.Context) (string, error) {
	redis, err := redisVersion(ctx)
	if err != nil {
		return "", err
	}
	library, err := built("github.com/hibiken/asynq")(ctx)
	return library + ", Redis " + redis + " with appendfsync always", err
}
