//go:build linux

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pollInterval is the time between two looks at something that is waited for.
const pollInterval = 20 * time.Millisecond

// eventually waits until cond holds, which it asks again and again, and fails the test when that takes too long.
func eventually(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	if !within(timeout, cond) {
		t.Fatalf("waited %v for %s in vain", timeout, what)
	}
}

// within reports whether cond comes to hold in time.
func within(timeout time.Duration, cond func() bool) bool {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			return cond()
		}
	}
	return true
}

// procStatus returns the words behind a name in what the kernel says of a process.
func procStatus(t testing.TB, pid int, name string) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok && len(strings.Fields(rest)) > 0 {
			return strings.Fields(rest)
		}
	}
	t.Fatalf("the kernel does not say %s of process %d", name, pid)
	return nil
}

func kilobytes(t testing.TB, words []string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
