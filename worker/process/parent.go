package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tallyman-dev/tallyman/worker"
)

// parent starts processes, and sees to it that none outlives this one or holds more memory than it may. It is safe for
// concurrent use.
type parent struct {
	config Config
	guard  guard

	begin  sync.Once
	starts chan start    // to the thread that starts them all; nil before the first
	closed chan struct{} // by close
	loops  sync.WaitGroup

	patience time.Duration // with a process's first answer, before somebody is told
	told     atomic.Bool   // somebody was

	mu       sync.Mutex
	children map[*child]struct{} // that live
}

// firstPatience is the time without an answer to a process's first item after which the log says what may be wrong.
const firstPatience = 10 * time.Second

// start is a process to be started.
type start struct {
	cmd  *exec.Cmd
	done chan<- error
}

func newParent(config Config) *parent {
	return &parent{config: config, patience: firstPatience, closed: make(chan struct{}), children: map[*child]struct{}{}}
}

// close ends what watches over the children. All of them must have ended.
func (p *parent) close() error {
	close(p.closed)
	p.loops.Wait()
	return p.guard.close()
}

// fork starts a command. The kernel takes the end of the thread that started a process for that of its parent, and a thread
// of Go may end at any time: so it is always the same one, which does nothing else.
func (p *parent) fork(cmd *exec.Cmd) error {
	p.begin.Do(func() {
		p.starts = make(chan start)
		p.loops.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for {
				select {
				case s := <-p.starts:
					s.done <- s.cmd.Start()
				case <-p.closed:
					return
				}
			}
		})
		if p.config.MaxMemory > 0 {
			p.loops.Go(p.watchMemory)
		}
	})
	done := make(chan error, 1)
	select {
	case p.starts <- start{cmd, done}:
		return <-done
	case <-p.closed:
		return errors.New("the handler is closed")
	}
}

// start starts the command with an environment. In mode Batch its output is read as a whole, else line by line.
func (p *parent) start(env []string) (*child, error) {
	cmd := shell(p.config.Command)
	cmd.Dir, cmd.Env = p.config.Dir, env
	var files []*os.File
	pipe := func() (r, w *os.File, err error) {
		if r, w, err = os.Pipe(); err == nil {
			files = append(files, r, w)
		}
		return r, w, err
	}
	stdin, in, err := pipe()
	out, stdout, err2 := pipe()
	problems, stderr, err3 := pipe()
	wait, gate, err4 := pipe()
	if err = errors.Join(err, err2, err3, err4); err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
		if gated {
			cmd.ExtraFiles = []*os.File{wait}
		}
		err = p.fork(cmd)
	}
	if err != nil {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return nil, notStarted(err)
	}
	peak := ownPeak()
	c := &child{
		parent: p, cmd: cmd, ownPeak: peak, stdin: in, stdout: out, problems: problems,
		lines: make(chan line), writes: make(chan []byte), written: make(chan writing, 1),
		discarded: make(chan struct{}), ended: make(chan struct{}),
	}
	// It begins when something will end it, whatever becomes of this process.
	if err := p.guard.watch(cmd.Process.Pid); err != nil {
		p.config.Logger.Warn("processes are not guarded: they may go on for a while if this one is killed", "error", err)
	}
	if gated {
		_, err = gate.WriteString("go\n")
	}
	err = errors.Join(err, stdin.Close(), stdout.Close(), stderr.Close(), wait.Close(), gate.Close())
	if err != nil { // it ends, or was killed
		p.config.Logger.Warn("pipe of a process not closed", "error", err)
	}
	p.mu.Lock()
	p.children[c] = struct{}{}
	p.mu.Unlock()
	c.run()
	return c, nil
}

// notStarted is the error for a command that cannot be started, which is nobody's fault when this host has no room.
func notStarted(err error) error {
	full := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE)
	if err = fmt.Errorf("start the command: %w", err); full {
		return worker.Unavailable(err)
	}
	return err
}

// forget is told of a child that has ended, but still has its number.
func (p *parent) forget(c *child) {
	p.guard.forget(c.cmd.Process.Pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.children, c)
}

// memoryPause is the time between two looks at the memory of all children, which take at most a twentieth of it.
const memoryPause = 100 * time.Millisecond

// watchMemory kills those that hold too much. A limit of the kernel's on the address space would come too early for
// programs that reserve much more than they use, as the runtimes of Go, Java and CUDA do.
func (p *parent) watchMemory() {
	timer := time.NewTimer(memoryPause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-p.closed:
			return
		}
		began := time.Now()
		if err := p.weigh(); err != nil {
			p.config.Logger.Error("memory of processes not watched", "error", err)
			return
		}
		timer.Reset(max(memoryPause, 20*time.Since(began)))
	}
}

// weigh looks once.
func (p *parent) weigh() error {
	p.mu.Lock()
	children := slices.Collect(maps.Keys(p.children))
	p.mu.Unlock()
	if len(children) == 0 {
		return nil
	}
	groups := make([]int, len(children))
	for i, c := range children {
		groups[i] = c.cmd.Process.Pid
	}
	held, err := memoryOf(groups)
	if err != nil {
		return err
	}
	for _, c := range children {
		if n := held[c.cmd.Process.Pid]; c.weighed(n) > p.config.MaxMemory {
			c.kill(&limitError{p.config.memorySetting, fmt.Sprintf("held %d MiB of memory, and the limit %s is %d MiB",
				n>>20, p.config.memorySetting, p.config.MaxMemory>>20)})
		}
	}
	return nil
}

// limitError says which limit a process has passed.
type limitError struct {
	setting string
	text    string // goes on after "the command"
}

func (e *limitError) Error() string { return "the command " + e.text }
