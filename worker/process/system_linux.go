package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel kill a process when the thread that started it is gone.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// isolates says whether there is a clock that all processes of this machine share, which NewIsolated needs.
const isolates = true

// machineTime returns the time by a clock that all processes of this machine share and nobody sets.
func machineTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(fmt.Sprintf("read the machine's clock: %v", err)) // every Linux has it
	}
	return time.Duration(now.Nano())
}

// awaitEnd returns when a process has ended, which keeps its number until it is waited for; or false, at once, when there is
// no way to know.
func awaitEnd(p *os.Process) bool {
	for errors.Is(unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	return true
}

// unread returns how many bytes written into a pipe nobody has read.
func unread(pipe *os.File) (n int, known bool) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = conn.Control(func(fd uintptr) {
		var err error
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		known = err == nil
	})
	return n, known && err == nil
}

// ownPeak returns the most memory that this process held, in bytes; 0 when unknown.
func ownPeak() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, line, _ := bytes.Cut(status, []byte("VmHWM:"))
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return kib << 10
}

// peakOf returns the most memory that a process held, or one that it started and waited for, in bytes; 0 when unknown.
// Linux counts what the process that started it held at that time, since for an instant both were one: where that may be
// all, nothing is known.
func peakOf(state *os.ProcessState, ownPeak int64) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok || usage.Maxrss<<10 <= ownPeak {
		return 0
	}
	return usage.Maxrss << 10
}
