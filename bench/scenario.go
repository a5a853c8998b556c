package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tallyman-dev/tallyman/bench/postgres"
)

// Engine is a database that a coordinator can be on.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Config says how scenarios are run. Program is needed; Defaults has the rest.
type Config struct {
	Program  string // the tallyman binary
	Database string // DSN of a Postgres server on which databases may be created; "" leaves Postgres out
	Dir      string // for files while a scenario runs; "" is the system's
	Engines  []Engine

	Rounds  int // each scenario and engine is run so often, in turns
	Batches int // of a drain
	Slots   int // of all workers together
	Workers int // processes
	Jobs    int // of a latency measurement
	Started int // processes whose start is measured

	Finished  int // batches of a history
	SmallJobs int // beside a big one
	BigItems  int // of the big one
	Documents int // that are stored
	Kills     int // of workers that hold a batch
	Lines     int // of a job some items of which kill
	Culprits  int // these

	Megabytes int           // of an upload
	Sessions  int           // workers that only beat
	Watchers  int           // of one job
	Watched   time.Duration // for which a fleet or a watched job is looked at

	Log io.Writer // is told what begins
}

// Defaults are the usual sizes.
func Defaults() Config {
	return Config{
		Engines: both, Rounds: 1, Batches: 100_000, Slots: 1000, Workers: 10, Jobs: 200, Started: 20,
		Finished: 1_000_000, SmallJobs: 999, BigItems: 200_000, Documents: 20_000,
		Kills: 5, Lines: 20_000, Culprits: 20,
		Megabytes: 200, Sessions: 1000, Watchers: 1000, Watched: 30 * time.Second, Log: io.Discard,
	}
}

// Validate reports the first setting that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.Program == "":
		return errors.New("no program")
	case slices.ContainsFunc(c.Engines, func(e Engine) bool { return !slices.Contains(both, e) }) || len(c.Engines) == 0:
		return fmt.Errorf("engines are of %v", both)
	case min(c.Rounds, c.Batches, c.Slots, c.Workers, c.Jobs, c.Started, c.Finished, c.SmallJobs, c.BigItems, c.Documents,
		c.Kills, c.Lines, c.Culprits,
		c.Megabytes, c.Sessions, c.Watchers) < 1:
		return errors.New("every number must be at least 1")
	case c.Culprits > c.Lines:
		return fmt.Errorf("%d lines cannot have %d culprits", c.Lines, c.Culprits)
	case c.Watched <= 0:
		return errors.New("the time to look must be positive")
	case c.Slots%c.Workers != 0:
		return fmt.Errorf("%d slots cannot be shared equally by %d workers", c.Slots, c.Workers)
	}
	return nil
}

// Versions returns those of what takes part besides the program.
func (c Config) Versions(ctx context.Context) (map[string]string, error) {
	if c.Database == "" {
		return nil, nil
	}
	version, err := postgres.Version(ctx, c.Database)
	return map[string]string{"PostgreSQL": version}, err
}

// Scenario asks one question of an engine.
type Scenario struct {
	Name    string
	Summary string // what it measures, in a line
	engines []Engine
	run     func(context.Context, Config, Engine) (Result, error)
}

var both = []Engine{SQLite, Postgres}

// Scenarios returns all there are, in the order in which they are run.
func Scenarios() []Scenario {
	return []Scenario{
		{"drain", "how fast workers empty a queue of batches that need no work", both, drain},
		{"latency", "from the submission of a job to the start of its handler, idle and at a steady rate", both, latency},
		{"start", "from the start of `tallyman run` to its end, with one item", []Engine{SQLite}, starting},
		{"held", "a drain during somebody's long transaction, at its beginning and at its end", []Engine{Postgres}, held},
		{"history", "draining and asking with many finished batches in the database, and with next to none", both, history},
		{"crash", "from the death of a worker until another one has its batch; and naming items that kill", both, crash},
		{"jobs", "how long small jobs take beside a big one that came first, and alone", both, jobs},
		{"annotations", "from the upload of annotated documents until all are stored, beside loading the same rows", both, annotations},
		{"ingest", "from the client to committed batches, beside compressing the same file", both, ingest},
		{"fleet", "what it costs that many workers hold leases", both, fleet},
		{"watch", "from the end of a batch until everybody who watches the job knows", both, watching},
	}
}

// Run runs scenarios on every engine that the config names, one at a time, in turns over all rounds. It blocks until
// all are over, and leaves no process and no database behind. What was measured is returned beside the errors of those
// that failed.
func Run(ctx context.Context, c Config, scenarios []Scenario) ([]Result, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	var results []Result
	var failures error
	for round := range c.Rounds {
		for _, scenario := range scenarios {
			for _, engine := range scenario.engines {
				if !slices.Contains(c.Engines, engine) || engine == Postgres && c.Database == "" {
					continue
				}
				fmt.Fprintf(c.Log, "%s %s on %s, round %d of %d\n", time.Now().Format(time.TimeOnly), scenario.Name, engine,
					round+1, c.Rounds)
				r, err := scenario.run(ctx, c, engine)
				if err != nil {
					err = fmt.Errorf("bench: %s on %s: %w", scenario.Name, engine, err)
					if failures = errors.Join(failures, err); ctx.Err() != nil {
						return results, failures
					}
					continue
				}
				r.Scenario, r.Engine = scenario.Name, string(engine)
				results = append(results, r)
			}
		}
	}
	return results, failures
}
