//go:build unix && !linux

package process

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// isolates says whether there is a clock that all processes of this machine share, which NewIsolated needs.
const isolates = false

func machineTime() time.Duration { return 0 }

// watchesMemory says whether Config.MaxMemory can be kept.
const watchesMemory = false

func dieWithParent(*syscall.SysProcAttr) {} // the guard alone sees to it

func awaitEnd(*os.Process) bool { return false }

func unread(*os.File) (n int, known bool) { return 0, false }

func ownPeak() int64 { return 0 }

func peakOf(state *os.ProcessState, _ int64) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(usage.Maxrss) // in bytes
	}
	return int64(usage.Maxrss) << 10
}

func memoryOf([]int) (map[int]int64, error) { return nil, nil } //nolint:nilnil // nobody asks
