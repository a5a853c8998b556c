//go:build unix

package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// guardScript reads which process groups live, until the other end of its standard input is closed, as it is when that
// process ends in whatever way. Those that live then it kills.
const guardScript = `trap '' HUP INT QUIT TERM USR1 USR2
groups=
while read -r what group; do
  left=
  for g in $groups; do [ "$g" = "$group" ] || left="$left $g"; done
  groups=$left
  [ "$what" = - ] || groups="$groups $group"
done
for g in $groups; do kill -s KILL -- "-$g"; done`

// guard is a small process beside this one, which kills the process groups that this one leaves behind. The kernel tells a
// process of its parent's death, and on Linux only; the guard is for what that process has started in turn. It is safe
// for concurrent use.
type guard struct {
	mu     sync.Mutex
	groups map[int]struct{}
	cmd    *exec.Cmd // nil while there is none
	in     io.WriteCloser
}

// watch adds a group. After an error the group is watched all the same once another call makes a new guard.
func (g *guard) watch(group int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.groups == nil {
		g.groups = map[int]struct{}{}
	}
	g.groups[group] = struct{}{}
	if g.cmd != nil && g.tell("+", group) == nil {
		return nil
	}
	// There is none, or somebody has killed it.
	if err := errors.Join(g.end(), g.begin()); err != nil {
		return fmt.Errorf("guard processes: %w", err)
	}
	return nil
}

// forget removes a group, which must still have its number or be empty.
func (g *guard) forget(group int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.groups, group)
	if g.cmd != nil {
		_ = g.tell("-", group) // a guard that is gone kills nothing; the next group makes a new one
	}
}

// close ends the guard, which kills what is still watched.
func (g *guard) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.end()
}

func (g *guard) begin() error {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "tallyman-guard")
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	g.cmd, g.in = cmd, in
	for group := range g.groups {
		if err := g.tell("+", group); err != nil {
			return err
		}
	}
	return nil
}

func (g *guard) tell(what string, group int) error {
	_, err := fmt.Fprintln(g.in, what, group)
	return err
}

// end ends the guard, if there is one. How it ended says nothing.
func (g *guard) end() error {
	if g.cmd == nil {
		return nil
	}
	cmd := g.cmd
	g.cmd = nil
	if err := g.in.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	if _, ok := errors.AsType[*exec.ExitError](cmd.Wait()); ok {
		return nil // killed, or the last group was empty
	}
	return nil
}
