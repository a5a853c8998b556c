//go:build !unix

package process

import (
	"os"
	"os/exec"
	"time"
)

// isolates says whether there is a clock that all processes of this machine share, which NewIsolated needs.
const isolates = false

func machineTime() time.Duration { return 0 }

// watchesMemory says whether Config.MaxMemory can be kept.
const watchesMemory = false

// gated says whether a command waits for a line before it begins.
const gated = false

func shell(line string) *exec.Cmd { return exec.Command("cmd", "/C", line) }

func probe(string) *exec.Cmd { return nil }

// killGroup kills a process. Those that it started go on.
func killGroup(p *os.Process) { _ = p.Kill() }

func terminateGroup(*os.Process) {} // there is no way to ask

func awaitEnd(*os.Process) bool { return false }

func unread(*os.File) (n int, known bool) { return 0, false }

func ownPeak() int64 { return 0 }

func peakOf(*os.ProcessState, int64) int64 { return 0 }

func exitOf(state *os.ProcessState) (signal string, code int) { return "", state.ExitCode() }

func memoryOf([]int) (map[int]int64, error) { return nil, nil } //nolint:nilnil // nobody asks

// guard does nothing: a process that is orphaned ends when its standard input does.
type guard struct{}

func (*guard) watch(int) error { return nil }
func (*guard) forget(int)      {}
func (*guard) close() error    { return nil }
