//go:build linux

package process_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	for _, mode := range []process.Mode{process.Stream, process.Batch} {
		results, err := try(t, process.Config{Command: self("eater"), Mode: mode, MaxMemory: 100 << 20}, items(`1`, `2`, `3`))
		crash, ok := errors.AsType[*worker.Crash](err)
		if !ok || crash.Signal != "SIGKILL" || crash.PeakMemory < 100<<20 ||
			!strings.Contains(err.Error(), "MiB of memory, and the limit exec-max-memory-bytes is 100 MiB") {
			t.Fatalf("%s: error %v, crash %+v", mode, err, crash)
		}
		want, suspect := 1, 1
		if mode == process.Batch {
			want, suspect = 0, -1
		}
		if len(results) != want || crash.Suspect != suspect {
			t.Errorf("%s: %d results, the suspect is %d", mode, len(results), crash.Suspect)
		}
	}
}

// The memory of a process that is larger than this one is known without a limit.
func TestPeakMemory(t *testing.T) {
	t.Parallel()
	_, err := try(t, process.Config{Command: "read -r line; head -c 300M /dev/zero | tail -n 1 >/dev/null; kill -KILL $$"},
		items(`1`))
	crash, ok := errors.AsType[*worker.Crash](err)
	if !ok || crash.PeakMemory < 300_000_000 || crash.PeakMemory > 3_000_000_000 {
		t.Errorf("error %v, crash %+v", err, crash)
	}
}

// fifo makes a pipe that has a name. The function waits until nobody has it open for writing any more, and returns what
// was written.
func fifo(t *testing.T) (path string, closed func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // of what was only read, perhaps for the second time
	return path, func() string {
		t.Helper()
		if err := f.SetReadDeadline(time.Now().Add(bound)); err != nil {
			t.Fatal(err)
		}
		written, err := io.ReadAll(f)
		if err != nil {
			t.Fatalf("processes are left: %v", err)
		}
		return string(written)
	}
}

// reader opens a pipe that has a name, and keeps it open until there is another writer.
func reader(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err == nil {
		err = f.SetDeadline(time.Now().Add(bound))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // of what was only read, perhaps for the second time
	return f
}

// family is a command that has the fifo open in a grandchild that ignores signals, too.
func family(fifo string) string {
	return "exec 3>'" + fifo + "'; (trap '' TERM HUP INT; echo born >&3; while :; do sleep 100; done) & read -r line; "
}

// Whatever becomes of a process, those that it started end with it.
func TestFamilyEndsTogether(t *testing.T) {
	for name, test := range map[string]struct {
		config process.Config
		rest   string // of the command
	}{
		"it dies":          {rest: "kill -SEGV $$"},
		"it ends":          {rest: "exit 1"},
		"it is too slow":   {rest: "sleep 100; echo", config: process.Config{ItemTimeout: 300 * time.Millisecond, StartTimeout: -1, BatchTimeout: 300 * time.Millisecond}},
		"it talks":         {rest: "echo garbage; sleep 100; echo"},
		"it is dismissed":  {rest: "echo '{}'; read -r line"},
		"it does not stop": {rest: "echo '{}'; trap '' TERM; while :; do sleep 100; done", config: process.Config{StopTimeout: 100 * time.Millisecond}},
		"a batch dies":     {rest: "kill -SEGV $$", config: process.Config{Mode: process.Batch}},
		"a batch ends":     {rest: "exit 0", config: process.Config{Mode: process.Batch}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, closed := fifo(t)
			test.config.Command = family(path) + test.rest
			h, err := process.New(test.config)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = attempt(t, h, items(`1`))
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			closed()
		})
	}
}

// A worker that is killed takes all of them with it.
func TestKilledWorker(t *testing.T) {
	for name, rest := range map[string]string{
		"working": "echo ready >&3",
		"at once": ":", // as soon as something lives
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, closed := fifo(t)
			cmd := exec.Command(os.Args[0], "worker-to-kill", family(path)+rest+"; while :; do sleep 100; done")
			cmd.Stderr = os.Stderr
			said := reader(t, path)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, 100)
			if _, err := said.Read(buffer); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if err := said.Close(); err != nil {
				t.Fatal(err)
			}
			closed()
		})
	}
}

// A process that has left the group, and holds the pipes, holds nothing up for long.
func TestDaemon(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() { // lets it go
		if err := os.WriteFile(path, nil, 0); err != nil {
			t.Error(err)
		}
	}()
	results, err := try(t, process.Config{Command: self("daemon '" + path + "'")}, items(`1`, `2`))
	crash, ok := errors.AsType[*worker.Crash](err)
	if !ok || crash.ExitCode != 9 || crash.Suspect != 1 || len(results) != 1 {
		t.Errorf("%d results, error %v", len(results), err)
	}
}

// When a batch is to stop, its process is asked to, and then killed.
func TestStop(t *testing.T) {
	for name, test := range map[string]struct {
		command string
		said    string
		timeout time.Duration
	}{
		"it stops":         {"trap 'echo stopped >&3; exit 0' TERM; echo started >&3; while :; do sleep 100 & wait; done", "started\nstopped\n", bound},
		"it does not stop": {"trap '' TERM; echo started >&3; while :; do sleep 100 & wait; done", "started\n", 200 * time.Millisecond},
	} {
		for _, mode := range []process.Mode{process.Stream, process.Batch} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				t.Parallel()
				path, closed := fifo(t)
				h := open(t, process.Config{Command: "exec 3>'" + path + "'; read -r line; " + test.command, Mode: mode,
					StopTimeout: test.timeout})
				ctx, cancel := context.WithCancelCause(t.Context())
				said := reader(t, path)
				go func() {
					buffer := make([]byte, 100)
					n, _ := said.Read(buffer)
					_, _ = said.Write(buffer[:n])
					cancel(worker.ErrJobCancelled)
				}()
				_, err := worker.Try(ctx, h, items(`1`))
				if !errors.Is(err, worker.ErrJobCancelled) {
					t.Errorf("error %v", err)
				}
				if err := said.Close(); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(test.said, closed()); diff != "" {
					t.Errorf("it said (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// Pipes that are both full hold nobody up.
func TestFullPipes(t *testing.T) {
	t.Parallel()
	large := `"` + strings.Repeat("x", 200<<10) + `"`
	for name, command := range map[string]string{
		"stream": loop(`echo "{\"result\":$line}"; continue`),
		"early":  "yes '{}'",
	} {
		results, err := try(t, process.Config{Command: command}, items(large, large, large))
		if name == "early" {
			if err == nil || !strings.Contains(err.Error(), "(other things than answers belong on standard error)") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(results) != 3 || len(results[2].Value) != len(large) {
			t.Errorf("%s: %d results, %v", name, len(results), err)
		}
	}
	results, err := try(t, process.Config{Command: "cat", Mode: process.Batch}, items(large, large, large))
	if diff := cmp.Diff(stored(3), results); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	results, err = try(t, process.Config{Command: "head -c 100000 >&2; exit 1"}, worker.Batch{Items: []payload.Item{{Data: []byte(large)}}})
	if len(results) != 0 || err == nil {
		t.Errorf("%d results, %v", len(results), err)
	}
}
