//go:build unix

package process

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// gated says whether a command waits until a line comes from the file that is its first extra one. It ends when that ends.
const gated = true

// shell returns a command line as a command, in a process group of its own.
func shell(line string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", `read -r go <&3 && exec /bin/sh -c "$0" 3<&-`, line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

// probe returns a command that fails unless a program of that name can be run; nil where there is no way to know.
func probe(name string) *exec.Cmd {
	return exec.Command("/bin/sh", "-c", `command -v -- "$1"`, "sh", name)
}

// killGroup kills a process and those that it started, unless they left its group. It must not have been waited for.
func killGroup(p *os.Process) { _ = unix.Kill(-p.Pid, unix.SIGKILL) } // that nobody is left is fine

// terminateGroup asks them to end.
func terminateGroup(p *os.Process) { _ = unix.Kill(-p.Pid, unix.SIGTERM) }

// exitOf returns how a process ended.
func exitOf(state *os.ProcessState) (signal string, code int) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return "", state.ExitCode()
	}
	if status.Signaled() {
		return signalName(status.Signal()), 0
	}
	code = status.ExitStatus()
	// A shell that has not become its last command says so that this was killed.
	if n := code - 128; n > 0 && n < 32 && unix.SignalName(syscall.Signal(n)) != "" {
		return signalName(syscall.Signal(n)), 0
	}
	return "", code
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}
