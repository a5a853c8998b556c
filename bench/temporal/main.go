package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "temporal:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("drain, latency or version is needed")
	}
	verb, flags := args[0], flag.NewFlagSet(args[0], flag.ContinueOnError)
	var at stores
	flags.StringVar(&at.main, "database", "", "an empty PostgreSQL database")
	flags.StringVar(&at.visibility, "visibility", "", "another one")
	slots := flags.Int("slots", 1000, "activities at a time")
	batches := flags.Int("batches", 5000, "activities that are drained")
	jobs := flags.Int("jobs", 100, "workflows whose latency is taken")
	steady := flags.Bool("steady", false, "start workflows at a steady rate, instead of one when the last one's activity has begun")
	pause := flags.Duration("pause", 120*time.Millisecond, "from one workflow to the next")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var answer any
	var err error
	switch verb {
	case "version":
		fmt.Println(version())
		return nil
	case "drain":
		answer, err = drain(ctx, at, *slots, *batches)
	case "latency":
		answer, err = latency(ctx, at, *jobs, *pause, *steady)
	default:
		return fmt.Errorf("there is no %q", verb)
	}
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// version returns those of the server and of the SDK.
func version() string {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
		}
	}
	return fmt.Sprintf("server %s, SDK %s", versions["go.temporal.io/server"], versions["go.temporal.io/sdk"])
}
