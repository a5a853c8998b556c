package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// endTimeout is how long a process may take to end when it is told to, before it is killed.
const endTimeout = 30 * time.Second

// process is a program that runs in the background. What it says goes to a file.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
	err   error // of it; to be read after that
}

// start starts a program, which the end of ctx kills.
func start(ctx context.Context, dir, name, program string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = log, log, environment()
	p.cmd.SysProcAttr = withParent()
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = endTimeout
	err = p.cmd.Start()
	if closed := log.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// stop tells the process to end in order, and waits until it is gone.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	timer := time.AfterFunc(endTimeout, func() { _ = p.cmd.Process.Kill() }) // it may be gone by then
	defer timer.Stop()
	<-p.ended
	if p.err != nil {
		return p.failed()
	}
	return nil
}

// failed says how the process ended, in its own last words.
func (p *process) failed() error {
	said, err := os.ReadFile(p.log)
	if err != nil {
		said = []byte(err.Error())
	}
	return fmt.Errorf("%s: %w; it said:\n%s", p.name, p.err, bytes.TrimSpace(said[max(0, len(said)-4096):]))
}

// environment is this process's, but for settings of the program, which would make every machine measure another thing.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "TALLYMAN_") {
			kept = append(kept, variable)
		}
	}
	return kept
}
