package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/bench/postgres"
)

// usage is what the processes of a site have used so far. What the system does not tell is 0.
type usage struct {
	server, workers, database time.Duration // of processors
	storage                   postgres.Writes
}

func (s *site) usage(ctx context.Context) (usage, error) {
	u := usage{server: processorTime(s.server.cmd.Process.Pid)}
	for _, w := range s.workers {
		u.workers += processorTime(w.cmd.Process.Pid)
	}
	if s.db == nil {
		return u, nil
	}
	var err error
	if u.storage, err = s.db.Writes(ctx); err != nil {
		return u, err
	}
	pids, err := s.db.Processes(ctx)
	for _, pid := range pids {
		u.database += processorTime(pid)
	}
	return u, err
}

func (u usage) since(before usage) usage {
	return usage{
		server: u.server - before.server, workers: u.workers - before.workers, database: u.database - before.database,
		storage: u.storage.Since(before.storage),
	}
}

// report adds what was used for each of so many batches.
func (u usage) report(r *Result, batches int) {
	n := float64(batches)
	u.processors(r, "batch", n)
	if u.storage.Bytes > 0 {
		r.add("log written", float64(u.storage.Bytes)/n, "B/batch")
		r.add("rows written", float64(u.storage.Rows)/n, "/batch")
		r.add("updates in place (HOT)", 100*float64(u.storage.Hot)/max(1, float64(u.storage.Updated)), "%")
	}
}

// processors adds the processor time for each of n of something.
func (u usage) processors(r *Result, one string, n float64) {
	for _, part := range []struct {
		name string
		took time.Duration
	}{{"coordinator", u.server}, {"workers", u.workers}, {"database", u.database}} {
		if part.took > 0 {
			r.add("processor time, "+part.name, part.took.Seconds()*1e6/n, "µs/"+one)
		}
	}
}

// clockTick is the unit of processor time in /proc, which Linux has fixed for programs.
const clockTick = 10 * time.Millisecond

// processorTime returns what a process has used; 0 where the system has no /proc. See proc_pid_stat(5).
func processorTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold anything; behind it comes field 3.
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0
	}
	var ticks int64
	for _, field := range fields[utime : stime+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}

// peakMemory returns the most memory that a process which runs has had, in bytes; 0 where the system has no /proc.
func peakMemory(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kilobytes << 10
		}
	}
	return 0
}
