package worker

import (
	"errors"
	"fmt"
	"unicode/utf8"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Crash is an error of Handle, found by errors.As, which says that the process died in which the handler had the batch
// handled. It accuses an item, or the batch: they are tried again, alone, until it is clear which item kills its process.
// What was reported before it is final. A worker that dies itself needs to say nothing.
type Crash struct { //nolint:errname // it says what is known of a crash, which is more than an error
	Suspect     int    // position in Batch.Items of the item that the process had; -1 when that is not known
	Signal      string // that ended it, such as SIGSEGV; empty when it exited by itself
	ExitCode    int    // with which it exited; 0 with a signal
	PeakMemory  int64  // the most that it held, in bytes; 0 when unknown
	Stderr      string // the end of what it wrote to standard error, of which MaxCrashOutput is kept
	Fingerprint string // of what like crashes have in common, to group them by; at most 64 bytes
}

// MaxCrashOutput is how much of Crash.Stderr is kept, in bytes: the end of it.
const MaxCrashOutput = 8 << 10

const (
	maxSignal      = 32
	maxFingerprint = 64
)

// Error says how the process died.
func (c *Crash) Error() string {
	if c.Signal != "" {
		return "the process was killed by " + c.Signal
	}
	return fmt.Sprintf("the process exited with code %d", c.ExitCode)
}

// AllAtOnce is a Handler that may finish the items of a batch all at once. That it finishes none for long is then no sign
// that it has stalled.
type AllAtOnce interface {
	Handler
	// AllAtOnce reports whether it does. It is asked when a batch is taken, and does not block.
	AllAtOnce() bool
}

// opaque reports whether nothing can be told from how many items a handler has finished.
func opaque(h Handler) bool {
	all, ok := h.(AllAtOnce)
	return ok && all.AllAtOnce()
}

// crashOf returns the crash that an error tells of, nil if none.
func crashOf(err error) *Crash {
	crash, _ := errors.AsType[*Crash](err)
	return crash
}

// wire puts a crash into the form of the protocol. A suspect that was not among the open items of the batch is none.
func (c *Crash) wire(done, items int) *pb.Crash {
	end := c.Stderr[max(len(c.Stderr)-MaxCrashOutput, 0):]
	for len(end) < len(c.Stderr) && end != "" && !utf8.RuneStart(end[0]) {
		end = end[1:] // the rest of a character that was cut
	}
	m := &pb.Crash{
		Signal: clean(c.Signal, maxSignal), ExitCode: int32(c.ExitCode), PeakMemoryBytes: max(c.PeakMemory, 0),
		Stderr: clean(end, MaxCrashOutput), Fingerprint: clean(c.Fingerprint, maxFingerprint),
	}
	if c.Suspect >= done && c.Suspect < items {
		m.Suspect = int32(c.Suspect) + 1
	}
	return m
}
