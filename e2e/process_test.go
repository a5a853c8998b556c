//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// commandTimeout bounds a command that does something and ends.
	commandTimeout = 4 * time.Minute

	// endTimeout bounds the end of a process that was told to end.
	endTimeout = 30 * time.Second

	// shownOutput is how much of the end of a process's output a failed test prints, in bytes.
	shownOutput = 16 << 10
)

// process is the program, running. Its methods are for the test's goroutine, but output is safe anywhere.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	stdout buffer
	stderr buffer
	ended  chan struct{} // closed once it has been waited for
	peak   atomic.Int64  // see maxRSS
}

// buffer collects output.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// command says how the program is started.
type command struct {
	args  []string
	on    *host  // default: this one
	disk  *disk  // that it sees besides; default: none
	dir   string // default: a new one
	stdin io.Reader
}

// start starts the program. The test's end kills it, should it still run.
func start(t testing.TB, name string, c command) *process {
	t.Helper()
	if c.dir == "" {
		c.dir = t.TempDir()
	}
	line := append([]string{binary(t)}, c.args...)
	if c.on != nil {
		line = append(c.on.entering(), line...)
	}
	if c.disk != nil {
		line = append(c.disk.entering(), line...)
	}
	p := &process{t: t, name: name, cmd: exec.Command(line[0], line[1:]...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdin = c.dir, c.stdin
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.Env = environment()
	// Should the tests themselves be killed, nothing of theirs stays behind.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = endTimeout
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		exited := make(chan struct{})
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			p.watchMemory(exited)
		}()
		_ = p.cmd.Wait() // the state of the process says how it ended
		close(exited)
		<-watched
	}()
	t.Cleanup(func() {
		if p.running() {
			p.kill()
		}
		p.report()
	})
	return p
}

// environment is that of the tests without settings for the program.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "TALLYMAN_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// report fails the test for what a process must never say, and prints what the processes of a failed test said.
func (p *process) report() {
	log := p.stderr.String()
	for _, never := range []string{"DATA RACE", "panic:", "panic recovered", "fatal error:"} {
		if strings.Contains(log, never) {
			p.t.Errorf("%s says %q", p.name, never)
		}
	}
	if p.t.Failed() {
		p.t.Logf("%s (%s), standard output:\n%s", p.name, p.cmd.ProcessState, tail(p.stdout.String()))
		p.t.Logf("%s (%s), standard error:\n%s", p.name, p.cmd.ProcessState, tail(log))
	}
}

func tail(s string) string {
	if len(s) <= shownOutput {
		return s
	}
	return "…" + s[len(s)-shownOutput:]
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process, which must run.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("send %v to %s: %v", s, p.name, err)
	}
}

// kill ends the process as nothing it can do anything about, and waits until it is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait(endTimeout)
}

// freeze stops the process where it is, and returns once every thread of it stands still.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(p.t, endTimeout, p.name+" to stand still", func() bool {
		return procStatus(p.t, p.cmd.Process.Pid, "State")[0] == "T"
	})
}

// thaw lets a frozen process go on.
func (p *process) thaw() { p.signal(syscall.SIGCONT) }

// terminate asks the process to end and fails the test unless it does so in good order.
func (p *process) terminate() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(endTimeout); code != 0 {
		p.t.Errorf("%s ended with code %d after SIGTERM, want 0", p.name, code)
	}
}

// wait waits for the end of the process and returns its exit code, -1 if a signal ended it.
func (p *process) wait(timeout time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-timer.C:
		p.signal(syscall.SIGQUIT) // its goroutines are shown with its output
		select {
		case <-p.ended:
		case <-time.After(endTimeout):
		}
		p.t.Fatalf("%s did not end within %v", p.name, timeout)
		return 0
	}
}

// watchMemory notes the most memory that the process has had at once, until it has ended. What the system says of an ended
// process is no use: it counts what these tests had themselves when they started it.
func (p *process) watchMemory(exited <-chan struct{}) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-exited:
			return
		case <-ticker.C:
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			return // it has just ended
		}
		for line := range strings.Lines(string(data)) {
			var kilobytes int64
			if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); n == 1 {
				p.peak.Store(kilobytes << 10)
			}
		}
	}
}

// maxRSS returns the most memory that the process, which has ended, had at once, in bytes, but for its last 20 ms.
func (p *process) maxRSS() int64 { return p.peak.Load() }

// rss returns how much memory the running process has now, in bytes.
func (p *process) rss() int64 {
	p.t.Helper()
	return kilobytes(p.t, procStatus(p.t, p.cmd.Process.Pid, "VmRSS")) << 10
}

// result is what a command that ended left behind.
type result struct {
	code   int
	stdout string
	stderr string
	maxRSS int64
}

// tallyman runs a command to its end.
func tallyman(t testing.TB, args ...string) result {
	t.Helper()
	p := start(t, "tallyman "+strings.Join(args, " "), command{args: args})
	code := p.wait(commandTimeout)
	return result{code: code, stdout: p.stdout.String(), stderr: p.stderr.String(), maxRSS: p.maxRSS()}
}

// succeed runs a command that must end with code 0, and returns its standard output.
func succeed(t testing.TB, args ...string) string {
	t.Helper()
	r := tallyman(t, args...)
	if r.code != 0 {
		t.Fatalf("tallyman %s: exit code %d, want 0", strings.Join(args, " "), r.code)
	}
	return r.stdout
}
