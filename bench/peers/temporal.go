package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/tallyman-dev/tallyman/bench"
	"github.com/tallyman-dev/tallyman/bench/postgres"
)

const (
	// temporalBatches bounds how many activities are drained, since each takes many transactions.
	temporalBatches = 2_000

	// temporalFew bounds how many are drained by few slots.
	temporalFew = 500

	// temporalJobs bounds how many workflows are started at a steady rate.
	temporalJobs = 100
)

// temporal is the program of bench/temporal, which has Temporal's server, client and worker in it.
type temporal struct{ program string }

// call has the program do something on two databases of its own, and reads its answer.
func (t temporal) call(ctx context.Context, c bench.Config, answer any, args ...string) (err error) {
	for _, flag := range []string{"-database", "-visibility"} {
		db, failed := postgres.Create(ctx, c.Database)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, db.Drop(context.WithoutCancel(ctx))) }()
		args = append(args, flag, db.DSN)
	}
	cmd := exec.CommandContext(ctx, t.program, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		last := bytes.TrimSpace(said.Bytes())
		return fmt.Errorf("%s %s: %w\n%s", t.program, args[0], err, last[max(0, len(last)-4096):])
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return fmt.Errorf("%s %s: %w in %q", t.program, args[0], err, out.String())
	}
	return nil
}

// drain has workflows fan out to activities.
func (t temporal) drain(ctx context.Context, c bench.Config, slots int) (r bench.Result, err error) {
	most := temporalBatches
	if slots <= 8 {
		most = temporalFew
	}
	batches := min(c.Batches, most)
	var took struct {
		Seconds float64 `json:"seconds"`
		Bytes   int64   `json:"bytes"`
	}
	if err := t.call(ctx, c, &took, "drain", "-slots", strconv.Itoa(slots), "-batches", strconv.Itoa(batches)); err != nil {
		return r, err
	}
	r.Metrics = []bench.Metric{
		{Name: "drained", Value: float64(batches) / took.Seconds, Unit: "batches/s"},
		{Name: "log written", Value: float64(took.Bytes) / float64(batches), Unit: "B/batch"},
	}
	return r, nil
}

// latency starts workflows of one activity, one behind the other, then at a steady rate.
func (t temporal) latency(ctx context.Context, c bench.Config) (r bench.Result, err error) {
	for _, steady := range []bool{false, true} {
		pause, jobs := idlePause, min(measured(c, steady), temporalJobs)
		if steady {
			pause = steadyPause
		}
		var took struct {
			Milliseconds []float64 `json:"milliseconds"`
		}
		err := t.call(ctx, c, &took, "latency", "-jobs", strconv.Itoa(jobs), "-pause", pause.String(), "-steady="+strconv.FormatBool(steady))
		if err != nil {
			return r, err
		}
		var each []time.Duration
		for _, ms := range took.Milliseconds {
			each = append(each, time.Duration(ms*float64(time.Millisecond)))
		}
		r.Distribution(paceOf(steady), each)
	}
	return r, nil
}

// version returns those of the server and of its SDK.
func (t temporal) version(ctx context.Context) (string, error) {
	said, err := exec.CommandContext(ctx, t.program, "version").Output()
	if err != nil {
		return "", fmt.Errorf("look for Temporal: %w", err)
	}
	return string(bytes.TrimSpace(said)), nil
}
