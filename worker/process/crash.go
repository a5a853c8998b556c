package process

import (
	"fmt"
	"strings"

	"github.com/tallyman-dev/tallyman/worker"
)

// unknownSuspect is the suspect of a crash of which it is not known.
const unknownSuspect = -1

// crash returns the error for a process that has died over the item at a position, in one that wraps a worker.Crash.
func crash(c *child, suspect int) error { return crashFor(c, suspect, c.killedFor()) }

// crashFor is crash for one that has passed a limit, if that is not nil.
func crashFor(c *child, suspect int, limit *limitError) error {
	all, since := c.tail.text()
	how := c.exit.String()
	if limit != nil {
		how = limit.setting
	}
	died := &worker.Crash{
		Suspect: suspect, Signal: c.exit.signal, ExitCode: c.exit.code, PeakMemory: c.exit.peak, Stderr: all,
		Fingerprint: fingerprint(how, since),
	}
	if limit != nil {
		return fmt.Errorf("%w: %w", limit, died)
	}
	who := "the command"
	if c.orders != nil {
		who = "the isolated handler"
	}
	if died.Signal == "SIGKILL" { // which no program sends itself
		return fmt.Errorf("%s died, perhaps because memory ran out: %w", who, died)
	}
	return fmt.Errorf("%s died: %w", who, died)
}

// String goes on after "the command".
func (e exit) String() string {
	if e.signal != "" {
		return "was killed by " + e.signal
	}
	return fmt.Sprintf("exited with code %d", e.code)
}

// The bounds of what a message has of standard error.
const (
	wordLines = 5
	wordBytes = 1 << 10
)

// lastWords returns the last lines of a process's standard error, to go on a message with; empty when it wrote nothing.
func lastWords(c *child) string {
	all, _ := c.tail.text()
	lines := strings.Split(strings.TrimSpace(all), "\n")
	text := strings.Join(lines[max(len(lines)-wordLines, 0):], "\n")
	if text = strings.ToValidUTF8(text[max(len(text)-wordBytes, 0):], ""); text == "" {
		return ""
	}
	return ":\n" + text
}

// temporary is the error for a process that says by its exit code that another attempt may succeed.
func temporary(c *child) error {
	return fmt.Errorf("the command exited with code %d, which means a passing problem%s", exitTemporary, lastWords(c))
}
