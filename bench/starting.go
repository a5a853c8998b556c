package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// starting runs the whole program on one annotated document, in a new data folder each time, and takes the time until it
// has ended. That includes what somebody who only waits for the first item does not see: the end of the coordinator.
func starting(ctx context.Context, c Config, _ Engine) (r Result, err error) {
	r.Settings = map[string]string{"starts": strconv.Itoa(c.Started)}
	dir, err := os.MkdirTemp(c.Dir, "tallyman-bench-")
	if err != nil {
		return r, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "one.jsonl")
	const item = `{"sourcedb":"Bench","sourceid":"1","text":"One word.","denotations":[{"span":{"begin":4,"end":8},"obj":"Word"}]}`
	if err := os.WriteFile(file, []byte(item+"\n"), 0o600); err != nil {
		return r, fmt.Errorf("write a file: %w", err)
	}
	took := make([]time.Duration, c.Started)
	for i := range took {
		begun := time.Now()
		p, err := start(ctx, dir, "run", c.Program, "run", file, "--project", "bench", "--data", filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return r, err
		}
		<-p.ended
		took[i] = time.Since(begun)
		if p.err != nil {
			return r, p.failed()
		}
	}
	r.Distribution("run", took)
	return r, nil
}
