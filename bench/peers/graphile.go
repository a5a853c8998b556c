package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tallyman-dev/tallyman/bench"
	"github.com/tallyman-dev/tallyman/bench/postgres"
)

// graphile is Graphile Worker, in a folder where npm has installed it beside peer.mjs, which does what is asked of it.
type graphile struct{ folder string }

// call has peer.mjs do something on a database, and reads its answer.
func (g graphile) call(ctx context.Context, db *postgres.Database, answer any, args ...string) error {
	cmd := exec.CommandContext(ctx, "node", append([]string{"peer.mjs"}, args...)...)
	cmd.Dir = g.folder
	cmd.Env = append(os.Environ(), "DATABASE_URL="+db.DSN)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("peer.mjs %s: %w\n%s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return fmt.Errorf("peer.mjs %s: %w in %q", args[0], err, out.String())
	}
	return nil
}

// drain works a full queue off in one process of node.
func (g graphile) drain(ctx context.Context, c bench.Config, slots int) (r bench.Result, err error) {
	db, err := postgres.Create(ctx, c.Database)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Drop(context.WithoutCancel(ctx))) }()
	if err := g.call(ctx, db, &struct{}{}, "fill", strconv.Itoa(c.Batches)); err != nil {
		return r, err
	}
	before, err := db.Writes(ctx)
	if err != nil {
		return r, err
	}
	var took struct {
		Seconds float64 `json:"seconds"`
	}
	if err := g.call(ctx, db, &took, "drain", strconv.Itoa(slots), strconv.Itoa(c.Batches)); err != nil {
		return r, err
	}
	after, err := db.Writes(ctx)
	if err != nil {
		return r, err
	}
	r.Metrics = []bench.Metric{
		{Name: "drained", Value: float64(c.Batches) / took.Seconds, Unit: "batches/s"},
		{Name: "log written", Value: float64(after.Since(before).Bytes) / float64(c.Batches), Unit: "B/batch"},
	}
	return r, nil
}

// latency adds jobs one behind the other, then at a steady rate, with the defaults, in the process that works them.
func (g graphile) latency(ctx context.Context, c bench.Config) (r bench.Result, err error) {
	for _, steady := range []bool{false, true} {
		took, err := g.latencies(ctx, c, steady)
		if err != nil {
			return r, err
		}
		r.Distribution(paceOf(steady), took)
	}
	return r, nil
}

func (g graphile) latencies(ctx context.Context, c bench.Config, steady bool) (_ []time.Duration, err error) {
	db, err := postgres.Create(ctx, c.Database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Drop(context.WithoutCancel(ctx))) }()
	if err := g.call(ctx, db, &struct{}{}, "fill", "0"); err != nil {
		return nil, err
	}
	pause := idlePause
	if steady {
		pause = steadyPause
	}
	var took struct {
		Milliseconds []float64 `json:"milliseconds"`
	}
	err = g.call(ctx, db, &took, "latency", paceOf(steady), strconv.Itoa(measured(c, steady)), strconv.FormatInt(pause.Milliseconds(), 10))
	var each []time.Duration
	for _, ms := range took.Milliseconds {
		each = append(each, time.Duration(ms*float64(time.Millisecond)))
	}
	return each, err
}

// version returns which versions npm has installed, and of node.
func (g graphile) version(ctx context.Context) (string, error) {
	data, err := os.ReadFile(filepath.Join(g.folder, "node_modules", "graphile-worker", "package.json"))
	if err != nil {
		return "", fmt.Errorf("look for Graphile Worker: %w", err)
	}
	var installed struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(data, &installed); err != nil {
		return "", fmt.Errorf("look for Graphile Worker: %w", err)
	}
	node, err := exec.CommandContext(ctx, "node", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("look for node: %w", err)
	}
	return installed.Version + ", node " + string(bytes.TrimSpace(node)), nil
}
